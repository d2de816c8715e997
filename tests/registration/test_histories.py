"""Whatever happens to files and images, every file that is wanted has its image, and nothing a person did is lost."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from image_search.records import Edits
from image_search.registration import Registrar
from image_search.registration.files import find_files
from image_search.registration.trash import find_gone_files, restore_images, trash_gone_files
from tests.fakes import FakeEncoder
from tests.fakes.examples import scale
from tests.fakes.memory_store import MemoryStore

pytestmark = pytest.mark.slow

NAMES = [f"{number}.png" for number in range(3)]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["write", "copy", "rename", "remove", "edit", "delete", "restore", "empty", "prune"]),
        st.sampled_from(NAMES),
        st.sampled_from(NAMES),
    ),
    min_size=3,
    max_size=14,
)


class History:
    """A folder, its library, and what is expected: which files a person deleted, and which words a person said.

    deleted: the names of files that are left out, with the image they belonged to
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = MemoryStore()
        self.deleted: dict[str, int] = {}
        self.words: set[str] = set()
        self.count = 0
        self.taken: list[tuple[str, str, str]] = []
        for name in ("stays.png", *NAMES):  # an empty folder may be a disk that is away
            self.put(name, self.make_content())
        self.register()

    def make_content(self) -> bytes:
        self.count += 1
        pixels = np.random.default_rng(self.count).integers(0, 255, (4, 4, 3), dtype=np.uint8)
        path = self.folder / ".new"
        Image.fromarray(pixels).save(path, "PNG")
        return path.read_bytes()

    def put(self, name: str, content: bytes) -> None:
        path = self.folder / name
        path.write_bytes(content)
        self.count += 1
        os.utime(path, ns=(self.count, self.count))  # every change has a time of its own

    def take(self, step: str, name: str, other: str) -> None:
        self.taken.append((step, name, other))
        path = self.folder / name
        there = path.exists()
        match step:
            case "write":
                self.put(name, self.make_content())  # a file that was deleted stays so when it is changed
            case "copy" if there and name != other and not {name, other} <= self.deleted.keys():
                self.put(other, path.read_bytes())
                self.deleted.pop(other, None)
                if name in self.deleted:
                    self.deleted[other] = self.deleted[name]
            case "rename" if (
                there and name != other and not (self.folder / other).exists() and other not in self.deleted
            ):
                path.rename(self.folder / other)
                if name in self.deleted:
                    self.deleted[other] = self.deleted[name]
            case "remove" if there:
                path.unlink()
            case "edit" if there and name not in self.deleted:
                self.count += 1
                image = self.find_image(name)
                self.words.discard(image.edits.description or "")
                self.words.add(f"words {self.count}")
                self.store.set_edits(image.image_id, Edits(f"words {self.count}"))
            case "delete" if there and name not in self.deleted:
                image = self.find_image(name)
                self.deleted |= {Path(place).name: image.image_id for place in image.paths}
                self.store.trash_images([image.image_id])
            case "restore" if name in self.deleted:
                if restore_images(self.store, [self.deleted[name]]):
                    image_id = self.deleted[name]
                    self.deleted = {left: of for left, of in self.deleted.items() if of != image_id}
            case "empty":
                self.empty()
            case "prune":
                trash_gone_files(self.store, find_gone_files(self.store, self.folder).files)

    def empty(self) -> None:
        """Images that a person deleted go for good; pruned ones stay in the trash."""
        trashed = [hit.image for hit in self.store.list_trash(limit=1000)]
        deleted = [image for image in trashed if image.trash_reason == "deleted"]
        self.words -= {image.edits.description or "" for image in deleted}
        self.store.empty_trash([image.image_id for image in deleted])

    def find_image(self, name: str) -> object:
        path = str(self.folder / name)
        return self.store.get_image(self.store.find_known_files([path])[path].image_id)

    def register(self) -> None:
        report = Registrar(self.store, FakeEncoder(), batch_size=2).register(find_files([self.folder]))
        assert report.failed == 0

    def check(self) -> None:
        files = {path.name: path for path in self.folder.iterdir() if not path.name.startswith(".")}
        known = self.store.find_known_files([str(path) for path in files.values()])
        live = {Path(path).name for path in known}
        assert live == files.keys() - self.deleted.keys(), self.taken
        for path, file in known.items():
            content = Path(path).read_bytes()
            assert file.content_sha256 == hashlib.sha256(content).hexdigest()
            assert self.store.read_original(file.image_id) == content
        hashes = [image.content_sha256 for image in self.list_images()]
        assert len(hashes) == len(set(hashes))
        said = {image.edits.description for image in self.list_images()}
        assert self.words <= said

    def list_images(self) -> list[object]:
        everything = [*self.store.list_images(limit=1000), *self.store.list_trash(limit=1000)]
        return [hit.image for hit in everything]


@given(STEPS)
@settings(deadline=None, max_examples=scale(150), suppress_health_check=[HealthCheck.too_slow])
def test_any_history_leaves_every_wanted_file_with_its_image(steps: list[tuple[str, str, str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        history = History(Path(folder))
        for step in steps:
            history.take(*step)
            history.register()
            history.check()
