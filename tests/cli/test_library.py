"""A library is backed up while it is used, and a backup takes its place only while it is not used."""

from __future__ import annotations

import errno
import gzip
import os
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from image_search.cli.library import back_up, restore_backup
from image_search.cli.main import main
from image_search.errors import ImageSearchError, SettingsError, StoreError, StoreUnavailable
from image_search.settings import ROOT, Settings
from image_search.stores import open_store
from image_search.stores.base import ImageStore
from tests.fakes import make_embeddings, make_image, make_images


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(database_url=f"sqlite:///{tmp_path}/library.db")


@pytest.fixture
def store(settings: Settings) -> Iterator[ImageStore]:
    with open_store(settings) as store:
        store.get_or_create_model("fake", "1", 16)
        store.add_images(1, make_images(3), make_embeddings(3))
        yield store


def add(store: ImageStore, name: str) -> None:
    store.add_images(1, [make_image(name)], make_embeddings(1))


def test_backup_of_a_library_in_use_holds_what_was_committed(
    store: ImageStore, settings: Settings, tmp_path: Path
) -> None:
    over = threading.Event()

    def write_on() -> None:
        number = 0
        while not over.is_set():
            number += 1
            add(store, f"more{number}.png")

    writer = threading.Thread(target=write_on)
    writer.start()
    sentence = back_up(settings, tmp_path / "backup.db")
    over.set()
    writer.join()
    assert "library.originals" in sentence
    with sqlite3.connect(tmp_path / "backup.db") as backup:
        assert backup.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        count = backup.execute("SELECT count(*) FROM images").fetchone()[0]
    backup.close()
    hashes = (tmp_path / "backup.db.originals").read_text().split()
    assert 3 <= count == len(hashes)
    assert (tmp_path / "backup.db").stat().st_mode & 0o777 == 0o600


def test_restored_library_is_the_one_that_was_backed_up_and_the_other_is_kept(
    store: ImageStore, settings: Settings, tmp_path: Path
) -> None:
    back_up(settings, tmp_path / "backup.db")
    add(store, "later.png")
    store.close()
    sentence = restore_backup(settings, tmp_path / "backup.db")
    [kept] = tmp_path.glob("library.db.before-*")
    assert str(kept) in sentence and "missing" not in sentence
    with open_store(settings) as restored:
        assert restored.count_images() == 3
        assert len(restored.search_embedding(1, make_embeddings(3)[0], 3).hits) == 3
    with open_store(Settings(database_url=f"sqlite:///{kept}")) as former:
        assert former.get_status().image_count == 4


def test_library_in_use_is_not_replaced(store: ImageStore, settings: Settings, tmp_path: Path) -> None:
    back_up(settings, tmp_path / "backup.db")
    add(store, "later.png")
    with pytest.raises(StoreUnavailable, match="End the server"):
        restore_backup(settings, tmp_path / "backup.db")
    assert store.count_images() == 4


def test_restored_library_in_use_is_not_replaced_either(store: ImageStore, settings: Settings, tmp_path: Path) -> None:
    back_up(settings, tmp_path / "backup.db")
    store.close()
    restore_backup(settings, tmp_path / "backup.db")
    with open_store(settings) as restored:
        assert restored.count_images() == 3
        with pytest.raises(StoreUnavailable, match="End the server"):
            restore_backup(settings, tmp_path / "backup.db")


def test_damaged_library_is_replaced(store: ImageStore, settings: Settings, tmp_path: Path) -> None:
    back_up(settings, tmp_path / "backup.db")
    store.close()
    (tmp_path / "library.db").write_bytes(b"\0" * 10_000)
    restore_backup(settings, tmp_path / "backup.db")
    with open_store(settings) as restored:
        assert restored.count_images() == 3


@pytest.mark.parametrize("content", [b"", b"no database", b"SQLite format 3\0" + b"x" * 5000])
def test_file_that_is_no_backup_changes_nothing(
    store: ImageStore, settings: Settings, tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "other.db").write_bytes(content)
    with pytest.raises(StoreError, match="Nothing was changed"):
        restore_backup(settings, tmp_path / "other.db")
    assert store.count_images() == 3


@pytest.mark.parametrize(
    "statement", ["CREATE TABLE images (name TEXT)", "PRAGMA application_id = 1", "DROP TABLE image_previews"]
)
def test_database_of_another_program_changes_nothing(
    store: ImageStore, settings: Settings, tmp_path: Path, statement: str
) -> None:
    other = tmp_path / "other.db"
    if not statement.startswith("CREATE"):
        back_up(settings, other)
    with sqlite3.connect(other) as file:
        file.execute(statement)
    file.close()
    store.close()
    with pytest.raises(StoreError, match="Nothing was changed"):
        restore_backup(settings, other)
    assert list(tmp_path.glob("library.db.*")) == []
    with open_store(settings) as same:
        assert same.count_images() == 3


@pytest.mark.parametrize("is_linked", [False, True])
def test_library_is_not_restored_from_itself(
    store: ImageStore, settings: Settings, tmp_path: Path, is_linked: bool
) -> None:
    store.close()
    named = tmp_path / "library.db"
    if is_linked:
        named = tmp_path / "link.db"
        named.symlink_to("library.db")
    with pytest.raises(SettingsError, match="itself"):
        restore_backup(settings, named)
    with open_store(settings) as same:
        assert same.count_images() == 3


@pytest.mark.usefixtures("store")
def test_folder_is_no_place_for_a_backup_nor_a_backup(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"is a folder\. Name a file, for example .*/library\.db"):
        back_up(settings, tmp_path)
    with pytest.raises(SettingsError, match="is no ordinary file"):
        back_up(settings, Path("/dev/null"))
    with pytest.raises(SettingsError, match="is no file"):
        restore_backup(settings, tmp_path)
    assert list(tmp_path.parent.glob(f"{tmp_path.name}.part*")) == []


def _fail(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(("owner", "name"), [(shutil, "copyfile"), (os, "fsync"), (Path, "replace")])
@pytest.mark.parametrize("is_damaged", [False, True])
def test_restore_that_fails_leaves_the_library_in_place(
    store: ImageStore,
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    owner: object,
    name: str,
    is_damaged: bool,
) -> None:
    back_up(settings, tmp_path / "backup.db")
    store.close()
    if is_damaged:
        (tmp_path / "library.db").write_bytes(b"\0" * 9000)
    before = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    monkeypatch.setattr(owner, name, _fail)
    with pytest.raises(StoreError, match="The library is as it was; check its disk"):
        restore_backup(settings, tmp_path / "backup.db")
    assert {path.name: path.stat().st_size for path in tmp_path.iterdir()} == before


def test_library_stays_under_its_name_until_the_backup_takes_its_place(
    store: ImageStore, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    back_up(settings, tmp_path / "backup.db")
    store.close()
    steps: list[bool] = []
    for owner, name in ((os, "link"), (os, "fsync"), (Path, "replace"), (Path, "unlink")):
        step = getattr(owner, name)

        def watch(*given: object, step: Callable[..., object] = step, **more: object) -> object:
            steps.append((tmp_path / "library.db").exists())
            try:
                return step(*given, **more)
            finally:
                steps.append((tmp_path / "library.db").exists())

        monkeypatch.setattr(owner, name, watch)
    restore_backup(settings, tmp_path / "backup.db")
    assert len(steps) >= 6 and all(steps)


def test_file_system_without_links_keeps_a_copy(
    store: ImageStore, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    back_up(settings, tmp_path / "backup.db")
    add(store, "later.png")
    store.close()
    monkeypatch.setattr(os, "link", _fail)
    for _ in range(2):  # within one second
        restore_backup(settings, tmp_path / "backup.db")
    counts = []
    for kept in sorted(tmp_path.glob("library.db.before-*")):
        with open_store(Settings(database_url=f"sqlite:///{kept}")) as former:
            counts.append(former.count_images())
    assert counts == [4, 3]


def test_backup_of_schema_1_is_restored(settings: Settings, tmp_path: Path) -> None:
    fixture = ROOT / "tests" / "fixtures" / "schema1"
    (tmp_path / "old.db").write_bytes(gzip.decompress((fixture / "library.db.gz").read_bytes()))
    sentence = restore_backup(settings, tmp_path / "old.db")
    shutil.copytree(fixture / "library.originals", tmp_path / "library.originals")
    with open_store(settings) as restored:
        assert restored.count_images() > 0
        assert f": {restored.count_images():,} images" in sentence


def test_missing_originals_are_counted_after_a_restore(store: ImageStore, settings: Settings, tmp_path: Path) -> None:
    back_up(settings, tmp_path / "backup.db")
    store.close()
    shutil.rmtree(tmp_path / "library.originals")
    assert "3 originals are missing" in restore_backup(settings, tmp_path / "backup.db")


def test_library_itself_is_no_place_for_its_backup(store: ImageStore, settings: Settings, tmp_path: Path) -> None:
    store.get_status()
    with pytest.raises(SettingsError, match="library itself"):
        back_up(settings, tmp_path / "library.db")


def test_other_engines_are_backed_up_by_their_own_tools(tmp_path: Path) -> None:
    with pytest.raises(ImageSearchError):
        back_up(Settings(database_url="postgresql://localhost/none"), tmp_path / "backup")


def test_command_says_in_one_sentence_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path}/none.db")
    assert main(["backup", str(tmp_path / "b")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("removed", [True, False])
def test_file_that_is_replaced_or_removed_while_in_use_is_noticed_and_not_damaged(
    store: ImageStore, settings: Settings, tmp_path: Path, removed: bool
) -> None:
    back_up(settings, tmp_path / "backup.db")
    add(store, "later.png")
    path = tmp_path / "library.db"
    path.unlink()
    for end in ("-wal", "-shm"):
        Path(f"{path}{end}").unlink(missing_ok=True)
    if not removed:
        shutil.copy(tmp_path / "backup.db", path)
    for use in (store.count_images, lambda: add(store, "lost.png"), store.list_models):
        with pytest.raises(StoreError, match="not there any more" if removed else "was replaced"):
            use()
    store.close()
    if not removed:
        with open_store(settings) as again:
            assert again.count_images() == 3
        with sqlite3.connect(path) as file:
            assert file.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        file.close()
