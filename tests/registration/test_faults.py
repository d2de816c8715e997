"""A registration may be killed at any moment, run twice at once, or fill the disk: a rerun ends as a clean run does."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from image_search.cli.health import check_files
from image_search.errors import StoreFull
from image_search.registration import Registrar, RegistrationReport
from image_search.registration.files import find_files
from image_search.settings import Settings
from image_search.stores.sqlite import SqliteStore
from tests.fakes import FakeEncoder

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL and fork"),
    pytest.mark.timeout(1800),  # half a minute, unless something else keeps the machine busy
]

FILES = 300
KILLS = 30


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Different small images, some of them copies of others."""
    folder = tmp_path_factory.mktemp("pictures")
    noise = np.random.default_rng(0).integers(0, 256, (FILES, 24, 32, 3), dtype=np.uint8)
    for number in range(FILES):
        # Every tenth is a copy of the image before it.
        Image.fromarray(noise[number - (number % 10 == 9)]).save(folder / f"{number:03d}.png")
    return folder


@pytest.fixture(scope="module")
def clean(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[bytes, ...]]:
    """The library that one undisturbed run leaves."""
    library = tmp_path_factory.mktemp("clean")
    report = register(library, folder)
    assert (report.registered, report.known, report.failed) == (FILES * 9 // 10, FILES // 10, 0)
    return describe(library)


@pytest.fixture(scope="module")
def children() -> ForkServerContext:
    """Processes that start in milliseconds, because their parent has imported everything."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def open_library(library: Path) -> SqliteStore:
    return SqliteStore.open(Settings(database_url=f"sqlite:///{library}/image_search.db"))


def register(library: Path, folder: Path, batch_size: int = 8) -> RegistrationReport:
    with open_library(library) as store:
        return Registrar(store, FakeEncoder(), batch_size=batch_size, pauses=(0.2,) * 20).register(find_files([folder]))


def describe(library: Path) -> dict[str, tuple[bytes, ...]]:
    """Original, preview and embedding of every image by its hash; fails for anything that is left over or missing."""
    with open_library(library) as store:
        model = store.find_current_model()
        assert model is not None
        records = [hit.image for hit in store.list_images(limit=10 * FILES)]
        assert dict(store.get_status().models) == {model: len(records)}
        found = {
            record.content_sha256: (
                store.read_original(record.image_id),
                store.read_preview(record.image_id),
                store.get_embedding(record.image_id, model.model_id).tobytes(),
            )
            for record in records
        }
    assert len(found) == len(records)
    kept = {path.name for path in (library / "originals").rglob("*") if path.is_file()}
    assert kept == found.keys()
    return found


def start(children: ForkServerContext, library: Path, folder: Path) -> ForkServerProcess:
    child = children.Process(target=register, args=(library, folder), daemon=True)
    child.start()
    return child


def finish(child: ForkServerProcess) -> None:
    child.join(600)
    assert child.exitcode == 0


# --- killed -----------------------------------------------------------------------------------------------------------


def test_killed_at_thirty_moments_and_run_again_it_ends_as_a_clean_run(
    folder: Path, clean: dict[str, tuple[bytes, ...]], children: ForkServerContext, tmp_path: Path
) -> None:
    moments = random.Random(1)
    started = time.monotonic()
    finish(start(children, tmp_path / "timing", folder))
    whole = time.monotonic() - started
    for _ in range(KILLS):
        child = start(children, tmp_path / "library", folder)
        # Short enough that the first kills come before anything is done, and the last ones still find work to do.
        child.join(moments.uniform(0, whole / 8))
        child.kill()
        child.join()
    register(tmp_path / "library", folder)
    assert describe(tmp_path / "library") == clean


@pytest.mark.parametrize("call", ["os.fsync", "pathlib.Path.replace", "os.stat", "PIL.Image.Image.save"])
def test_killed_inside_a_critical_call_and_run_again_it_ends_as_a_clean_run(
    call: str, folder: Path, clean: dict[str, tuple[bytes, ...]], children: ForkServerContext, tmp_path: Path
) -> None:
    moments = random.Random(call)
    for _ in range(4):
        child = children.Process(target=register_until, args=(call, moments.randrange(100), tmp_path, folder))
        child.start()
        child.join(600)
        assert child.exitcode == -signal.SIGKILL
    register(tmp_path, folder)
    assert describe(tmp_path) == clean


def test_originals_that_a_kill_left_without_a_record_are_set_aside_by_a_repair(
    folder: Path, children: ForkServerContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = children.Process(
        target=register_until, args=("image_search.stores.sqlite.insert_image", 0, tmp_path, folder)
    )
    child.start()
    child.join(600)
    assert child.exitcode == -signal.SIGKILL
    left = {path.name for path in (tmp_path / "originals").rglob("*") if path.is_file()}
    assert left
    monkeypatch.setattr("image_search.cli.health._YOUNG", -1)  # else another program may be writing them
    with open_library(tmp_path) as store:
        assert store.count_images() == 0
        findings = [finding for finding in check_files(store, repair=True) if finding.name == "orphans"]
    assert [finding.ok for finding in findings] == [True]
    assert {path.name for path in (tmp_path / "originals.orphans").iterdir()} == left
    assert not [path for path in (tmp_path / "originals").rglob("*") if path.is_file()]


def register_until(call: str, count: int, library: Path, folder: Path) -> None:
    """Register, and die in the count-th call of a function."""
    owner_name, name = call.rsplit(".", 1)
    owner = __import__("pydoc").locate(owner_name)
    original: Callable[..., object] = getattr(owner, name)
    lock, calls = threading.Lock(), iter(range(count))

    def die_at_last(*arguments: object, **options: object) -> object:
        with lock:
            if next(calls, None) is None:
                os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments, **options)

    setattr(owner, name, die_at_last)
    register(library, folder)


# --- two at once ------------------------------------------------------------------------------------------------------


def test_two_at_once_with_one_killed_now_and_then_end_as_a_clean_run(
    folder: Path, clean: dict[str, tuple[bytes, ...]], children: ForkServerContext, tmp_path: Path
) -> None:
    moments = random.Random(2)
    steady = start(children, tmp_path, folder)
    for _ in range(5):
        other = start(children, tmp_path, folder)
        other.join(moments.uniform(0, 0.2))
        other.kill()
        other.join()
    finish(steady)
    register(tmp_path, folder)
    assert describe(tmp_path) == clean


# --- a full disk ------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk with room for the schema and some images."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1536k", "tmpfs", str(disk)]
    try:
        mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("mounting a small disk needs rights this user has not got")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_full_disk_ends_the_run_with_a_sentence_and_nothing_half(
    folder: Path, clean: dict[str, tuple[bytes, ...]], small_disk: Path
) -> None:
    with pytest.raises(StoreFull, match="full"):
        register(small_disk, folder)
    kept = describe_readable(small_disk)
    assert 0 < len(kept) < len(clean) and kept.items() <= clean.items()
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    register(small_disk, folder)
    assert describe(small_disk) == clean


def describe_readable(library: Path) -> dict[str, tuple[bytes, ...]]:
    """describe, from a copy on a disk with room: even a reader of the database needs a little."""
    copy = library.parent / "copy"
    subprocess.run(["cp", "-r", str(library), str(copy)], check=True)
    return describe(copy)


def test_disk_that_is_full_of_originals_keeps_nothing_of_the_batch(
    folder: Path, clean: dict[str, tuple[bytes, ...]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calls = iter(range(100))

    def fail_late(_: int) -> None:
        if next(calls, None) is None:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail_late)
    with pytest.raises(StoreFull, match="full"):
        register(tmp_path, folder)
    monkeypatch.undo()
    kept = describe(tmp_path)
    assert 0 < len(kept) < len(clean) and kept.items() <= clean.items()
    register(tmp_path, folder)
    assert describe(tmp_path) == clean
