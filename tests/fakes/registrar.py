"""A program that registers 120 images in small batches, to be killed; and what must be there after a whole run.

python -m tests.fakes.registrar DATABASE_URL [ORIGINALS_URL]
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from image_search.settings import ROOT, Settings
from image_search.stores import open_store
from tests.fakes import make_embeddings, make_images

_COUNT = 120
_BATCH = 12


def kill_and_finish(settings: Settings, after_kill: Callable[[], None] = lambda: None) -> None:
    """Kill the program four times, at moments that are seeded, then let it finish."""
    moments = random.Random(0)
    for _ in range(4):
        program = start(settings)
        assert program.stdout is not None
        program.stdout.readline()
        time.sleep(moments.uniform(0, 0.3))
        program.send_signal(signal.SIGKILL)  # a quick machine may be done: the library is then whole already
        program.communicate()
        after_kill()
    program = start(settings)
    program.communicate()
    assert program.returncode == 0


def start(settings: Settings) -> subprocess.Popen[str]:
    """Start the program; it writes a line when it begins to add."""
    command = [sys.executable, "-m", "tests.fakes.registrar", settings.database_url, settings.originals_url]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)


def check_library(settings: Settings, name_files: Callable[[str], set[str]] = lambda sha256: {sha256}) -> None:
    """120 images, each once, each whole, and not an original more. name_files: those an image has, by its hash."""
    images, embeddings = make_images(_COUNT), make_embeddings(_COUNT)
    with open_store(settings) as store:
        model = store.find_current_model()
        assert model is not None
        known = store.find_known_hashes([image.content_sha256 for image in images])
        assert len(known) == store.count_images() == len(store.list_image_ids()) == _COUNT
        assert store.get_status().models == ((model, _COUNT),)
        for image, embedding in zip(images, embeddings, strict=True):
            image_id = known[image.content_sha256]
            assert store.read_original(image_id) == image.data
            assert store.read_preview(image_id) == image.preview
            assert store.get_embedding(image_id, model.model_id).tobytes() == embedding.tobytes()
        nearest = store.search_embedding(model.model_id, embeddings[7], limit=1)
        assert [hit.image_id for hit in nearest] == [known[images[7].content_sha256]]
        assert store.list_images(["png"]).total == _COUNT
    if settings.originals_url:
        kept = {path.name for path in Path(settings.originals_url).rglob("*") if path.is_file()}
        assert kept == {name for sha256 in known for name in name_files(sha256)}


def _register(settings: Settings) -> None:
    with open_store(settings) as store:
        model = store.get_or_create_model("fake", "1", 16)
        images, embeddings = make_images(_COUNT), make_embeddings(_COUNT)
        print("started", flush=True)
        for start in range(0, _COUNT, _BATCH):
            batch = images[start : start + _BATCH]
            if len(store.find_known_hashes([image.content_sha256 for image in batch])) < _BATCH:
                store.add_images(model.model_id, batch, embeddings[start : start + _BATCH])


if __name__ == "__main__":
    _register(Settings(database_url=sys.argv[1], originals_url=sys.argv[2]))
