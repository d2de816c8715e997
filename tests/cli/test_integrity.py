"""--check finds lost originals, --deep damaged ones; --repair and registering again bring them back."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from image_search.cli import health
from image_search.cli.health import check_everything, check_files, check_library
from image_search.errors import OriginalMissing
from image_search.records import Finding, StoreStatus
from image_search.registration import Registrar
from image_search.registration.files import find_files
from image_search.registration.uploads import register_upload
from image_search.search import Searcher
from image_search.settings import Settings
from image_search.stores import open_store
from image_search.stores.sqlite import SqliteStore
from tests.fakes import FakeEncoder, draw_image_bytes
from tests.fakes.api_library import READER, build_small, open_client

COLOURS = ("red", "green", "blue", "white")


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    folder = tmp_path / "photographs"
    folder.mkdir()
    for colour in COLOURS:
        (folder / f"{colour}.png").write_bytes(draw_image_bytes(colour))
    return folder


@pytest.fixture
def store(tmp_path: Path, photographs: Path) -> Iterator[SqliteStore]:
    with open_store(Settings(database_url=f"sqlite:///{tmp_path}/library.db")) as store:
        assert isinstance(store, SqliteStore)
        register(store, photographs)
        yield store


def register(store: SqliteStore, folder: Path) -> None:
    Registrar(store, FakeEncoder(), reader=READER).register(find_files([folder]))


def find_original(store: SqliteStore, image_id: int) -> Path:
    return store.originals.list_hashes()[store.get_image(image_id).content_sha256]  # type: ignore[attr-defined]


def list_findings(store: SqliteStore, **options: bool) -> dict[str, Finding]:
    return {finding.name: finding for finding in check_files(store, **options)}


def test_whole_library_has_no_finding_and_no_setting_is_left(store: SqliteStore) -> None:
    findings = list_findings(store, deep=True)
    assert {name: finding.ok for name, finding in findings.items()} == {
        "orphans": True, "originals read": True, "previews read": True,
    }  # fmt: skip
    assert store.list_settings("deep_check") == {}


def test_lost_original_is_found_and_brought_back_from_where_it_was_registered(
    store: SqliteStore, photographs: Path
) -> None:
    find_original(store, 1).unlink()
    name = store.get_image(1).file_name
    found = list_findings(store)["files"]
    assert not found.ok and name in found.what and "--repair" in found.remedy
    (photographs / name).rename(photographs / "elsewhere")
    assert not list_findings(store, repair=True)["files"].ok
    (photographs / "elsewhere").rename(photographs / name)
    assert list_findings(store, repair=True)["files"].ok
    assert store.read_original(1) == (photographs / name).read_bytes()


def test_damaged_original_is_found_by_its_hash_and_brought_back(store: SqliteStore) -> None:
    original = find_original(store, 2)
    data = original.read_bytes()
    original.write_bytes(data[:-1] + b"x")  # of the same size
    assert list_findings(store)["files"].ok
    found = list_findings(store, deep=True)["originals read"]
    assert not found.ok and store.get_image(2).file_name in found.what
    assert list_findings(store, deep=True, repair=True)["originals read"].ok
    assert original.read_bytes() == data


@pytest.mark.parametrize("originals_url", ["", "reference"])
def test_moved_folder_is_to_be_registered_again_and_that_helps(
    originals_url: str, tmp_path: Path, photographs: Path
) -> None:
    settings = Settings(database_url=f"sqlite:///{tmp_path}/moved.db", originals_url=originals_url)
    with open_store(settings) as store:
        assert isinstance(store, SqliteStore)
        register(store, photographs)
        if not originals_url:
            find_original(store, 1).unlink()
        moved = photographs.rename(tmp_path / "elsewhere")
        for options in ({}, {"repair": True}, {"deep": True}, {"deep": True, "repair": True}):
            [fault] = [finding for finding in check_files(store, **options) if not finding.ok]
            assert fault.remedy.startswith("Register the folder that they are in now"), options
        register(store, moved)
        assert all(finding.ok for finding in check_files(store, deep=True))


def test_repaired_library_has_no_fault_in_the_same_run(store: SqliteStore) -> None:
    for original in store.originals.list_hashes().values():  # type: ignore[attr-defined]
        original.unlink()
    found = [*check_library(store, repair=True), *check_files(store, repair=True)]
    assert [finding for finding in found if not finding.ok] == []


def test_damaged_preview_is_found(store: SqliteStore) -> None:
    store.set_preview(3, b"RIFF damaged", None, 1)
    found = list_findings(store, deep=True)["previews read"]
    assert not found.ok and "1 " in found.what


def test_deep_goes_on_where_it_was_interrupted(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(health, "_BATCH", 1)
    is_whole, seen = health._is_whole, []

    def interrupt(checked: SqliteStore, record: object) -> bool:
        seen.append(record.image_id)  # type: ignore[attr-defined]
        if len(seen) == 3:
            raise KeyboardInterrupt
        return is_whole(checked, record)  # type: ignore[arg-type]

    monkeypatch.setattr(health, "_is_whole", interrupt)
    with pytest.raises(KeyboardInterrupt):
        list(check_files(store, deep=True))
    list(check_files(store, deep=True))
    assert seen == [1, 2, 3, 3, 4]
    assert "behind image 2" in capsys.readouterr().err


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"x" * path.stat().st_size)])
def test_sending_the_same_content_again_brings_its_original_back(store: SqliteStore, damage: object) -> None:
    original = find_original(store, 1)
    data = original.read_bytes()
    damage(original)  # type: ignore[operator]
    sent = register_upload(store, FakeEncoder(), lambda: 1, READER, data, "again.png")
    assert (sent.image_id, sent.outcome) == (1, "known")
    assert store.read_original(1) == data


def test_registering_the_folder_again_brings_lost_originals_back(store: SqliteStore, photographs: Path) -> None:
    original = find_original(store, 1)
    original.unlink()
    register(store, photographs)
    assert original.exists()


def test_server_says_that_an_original_is_missing_and_no_path(store: SqliteStore, tmp_path: Path) -> None:
    find_original(store, 1).unlink()
    with pytest.raises(OriginalMissing):
        store.read_original(1)
    client = open_client(build_small(Searcher(store, FakeEncoder())))
    answer = client.get("/api/images/1/original")
    assert (answer.status_code, answer.json()["code"]) == (404, "original_missing")
    assert str(tmp_path) not in answer.text


def test_originals_that_a_killed_batch_left_are_found_and_set_aside(store: SqliteStore, tmp_path: Path) -> None:
    orphan = tmp_path / "library.originals" / "ab" / f"ab{'0' * 62}"
    orphan.parent.mkdir(exist_ok=True)
    orphan.write_bytes(b"left")
    assert list_findings(store)["orphans"].ok  # a batch may be writing it
    os.utime(orphan, (0, 0))
    found = list_findings(store)["orphans"]
    assert not found.ok and "1 originals" in found.what
    assert list_findings(store, repair=True)["orphans"].ok
    assert (tmp_path / "library.originals.orphans" / orphan.name).read_bytes() == b"left"
    assert list_findings(store)["orphans"].ok


def test_originals_of_images_in_the_trash_are_no_orphans(store: SqliteStore) -> None:
    os.utime(find_original(store, 1), (0, 0))
    store.trash_images([1])
    assert list_findings(store)["orphans"].ok


@pytest.mark.slow
def test_any_error_of_a_check_is_a_finding_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: SqliteStore) -> StoreStatus:
        raise KeyError("counters")

    monkeypatch.setattr(SqliteStore, "get_status", fail)
    findings = {f.name: f for f in check_everything(Settings(database_url=f"sqlite:///{tmp_path}/library.db"))}
    assert "KeyError" in findings["library"].what and not findings["library"].ok
    assert {"program", "model", "page"} <= findings.keys()
