"""A SQLite library of schema 1 becomes one of schema 2: nothing differs that should not, whatever interrupts it."""

from __future__ import annotations

import gzip
import logging
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from image_search.errors import StoreFull, StoreUnavailable
from image_search.records import Edits, SearchFilter
from image_search.settings import ROOT, Settings
from image_search.stores import open_store
from image_search.stores.sqlite import SqliteStore, schema
from tests.fakes import make_embeddings, make_image

pytestmark = pytest.mark.engine("sqlite")

FIXTURE = ROOT / "tests" / "fixtures" / "schema1"  # made by make_sqlite.py there
PHOTOS = "/tmp/photos-of-schema-1"  # as the library has it
FILES = {1: "caf\udce9.png", 3: "sea.jpg", 4: "か\u3099.png", 5: "猫.png", 7: "2024/x.png"}
UPLOAD = 8
OLDER_X = 6  # the content that 2024/x.png had before it was changed


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A library of schema 1 as the program of that time made it."""
    path = tmp_path / "library.db"
    path.write_bytes(gzip.decompress((FIXTURE / "library.db.gz").read_bytes()))
    shutil.copytree(FIXTURE / "library.originals", path.with_suffix(".originals"))
    return path


def open_library(path: Path) -> SqliteStore:
    store = open_store(Settings(database_url=f"sqlite:///{path}"))
    assert isinstance(store, SqliteStore)
    return store


def query(path: Path, statement: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(statement).fetchall()


def dump(path: Path) -> list[tuple[Any, ...]]:
    """Check the contents of a library, whichever schema it came from."""
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name").fetchall()
        names = [name for (name,) in tables if not name.startswith("image_words")]
        rows = [(name, *row) for name in names for row in connection.execute(f"SELECT * FROM {name}")]
    return sorted(rows, key=repr)


def migrate(path: Path) -> None:
    with open_library(path) as store:
        store.list_models()


# --- what is carried over ---


def test_images_and_texts_are_carried_over(path):
    before = {row[0]: row[1:] for row in query(path, "SELECT image_id, content_sha256, upload_date FROM images")}
    with open_library(path) as store:
        records = {record.image_id: record for record in store.get_images(sorted(before))}
        for image_id, (sha256, upload_date) in before.items():
            record = records[image_id]
            assert record.content_sha256 == sha256.hex()
            assert record.upload_date == datetime.fromisoformat(upload_date)
            assert (record.edits, record.deleted_at, record.recipe, record.frame) == (Edits(), None, 1, None)
            assert len(store.read_original(image_id)) == record.byte_size
        cat, sea = records[5].text, records[3].text
        assert (cat.prompt, cat.seed, cat.steps, cat.cfg) == ("葛󠄀城の猫, (masterpiece)", "123", 20, 7.0)
        assert cat.raw["parameters"] == cat.generation_prompt
        assert (sea.camera, sea.lens, sea.taken_at) == ("NIKON Z 6_2", "24-70mm f/4", datetime(2024, 5, 1, 12, 30))
        assert (sea.description, sea.keywords) == ("A café by the sea", ("山", "Paris, France"))
        assert (records[4].text.description, records[4].keywords) == ("真っ黒な写真", ("夜",))
        assert (records[UPLOAD].file_name, records[UPLOAD].text.seed) == ("アップロード.png", "18446744073709551617")
        assert store.read_preview(UPLOAD) == b"preview of an upload"
        assert store.has_held_images()


def test_embeddings_and_models_are_carried_over_bit_for_bit(path):
    before = query(path, "SELECT embedding_id, image_id, model_id, embedding FROM image_embeddings ORDER BY 1")
    with open_library(path) as store:
        first, second = store.list_models()
        assert (first.is_current, second.is_current) == (True, False)
        assert store.get_status().models == ((first, 7), (second, 3))
        for image_id in (1, 5):
            embedding = store.get_embedding(image_id, first.model_id)
            assert store.search_embedding(first.model_id, embedding, 1)[0].image_id == image_id
    after = query(path, "SELECT embedding_id, image_id, model_id, embedding FROM image_embeddings ORDER BY 1")
    assert before == after
    assert query(path, "SELECT DISTINCT recipe FROM image_embeddings") == [(1,)]


def test_every_file_is_known_by_its_bytes(path):
    with open_library(path) as store:
        paths = {image_id: f"{PHOTOS}/{name}" for image_id, name in FILES.items()}
        known = store.find_known_files([*paths.values(), f"{PHOTOS}/caf\\udce9.png"])
        assert {file.image_id: name for name, file in known.items()} == paths
        assert all(file.modified_ns for file in known.values())
        assert sorted(store.list_paths(PHOTOS)) == sorted((name, image_id) for image_id, name in paths.items())
        # The former content of a changed path has no place any more, nor has an upload.
        assert [store.get_image(image_id).paths for image_id in (OLDER_X, UPLOAD)] == [(), ()]


def test_folder_that_is_as_it_was_needs_no_reading_and_no_pruning(path, tmp_path):
    photos = tmp_path / "photos"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE images SET file_path = replace(file_path, ?, ?)", (PHOTOS, str(photos)))
    (photos / "2024").mkdir(parents=True)
    with open_library(path) as store:
        for image_id, name in FILES.items():
            Path(photos, name).write_bytes(store.read_original(image_id))
        found = [str(file) for file in photos.rglob("*") if file.is_file()]
        known = store.find_known_files(found)
        assert {file: Path(file).stat().st_size for file in found} == {file: known[file].byte_size for file in known}
        assert all(os.path.exists(listed) for listed, _ in store.list_paths(str(photos)))


def test_words_are_found_as_this_version_spells_them(path):
    with open_library(path) as store:
        for term, image_ids in (
            ("葛城", [5]),  # a variation selector stands between the two
            ("cafe", [3]),
            ("真っ黒", [4]),
            ("cat", [UPLOAD]),
            ("が.png", [4]),
            ("x.png", [7, OLDER_X]),
            ("夜", [UPLOAD, 4]),
        ):
            assert sorted(hit.image_id for hit in store.list_images([term])) == sorted(image_ids), term


def test_migrated_library_is_filtered_edited_and_emptied_like_a_new_one(path):
    with open_library(path) as store:
        assert store.count_images(SearchFilter(camera="NIKON Z 6_2", lens="24-70mm f/4")) == 1
        assert store.count_images(SearchFilter(folder=f"{PHOTOS}/2024")) == 1
        assert store.count_values("keyword") == {"夜": 2, "Paris, France": 1, "山": 1}
        assert [hit.image.file_name for hit in store.list_images(order="name", limit=3)] == [
            "caf\\udce9.png",
            "sea.jpg",
            "x.png",
        ]
        assert store.set_edits(3, Edits(keywords=("川",), description=""))
        assert store.count_images(SearchFilter(keyword="山")) == 0
        assert store.list_images(["川"])[0].image.description is None
        assert store.trash_images([1, 3]) == 2
        assert store.count_images() == 5
        assert store.find_deleted_paths([f"{PHOTOS}/{FILES[1]}"])
        assert store.empty_trash() == 2
        assert len(store.list_deleted()) == 2
        [new] = store.add_images(1, [make_image("new.png")], make_embeddings(1, store.list_models()[0].dimension))
        assert new == 10  # 9 was given to an image that is gone
        assert store.list_images()[0].image_id == new


def test_migrated_file_has_the_schema_of_a_new_one(path, tmp_path):
    new = tmp_path / "new.db"
    migrate(new)
    migrate(path)

    def describe(file: Path) -> list[tuple[Any, ...]]:
        tables = query(file, "SELECT type, name, tbl_name FROM sqlite_master WHERE name NOT LIKE 'image_words_%'")
        columns = [
            (name, *row)
            for kind, name, _ in tables
            if kind == "table"
            for row in query(file, f"SELECT name, type, \"notnull\", dflt_value, pk FROM pragma_table_info('{name}')")
        ]
        references = [
            (name, *row[2:])
            for kind, name, _ in tables
            if kind == "table"
            for row in query(file, f"SELECT * FROM pragma_foreign_key_list('{name}')")
        ]
        sql = query(file, "SELECT type, name, sql FROM sqlite_master WHERE type IN ('view', 'trigger', 'index')")
        return sorted([*tables, *columns, *references, *sql], key=repr)

    assert describe(path) == describe(new)


def test_file_as_it_was_is_kept_beside_it_and_said(path, caplog):
    before = dump(path)
    with caplog.at_level(logging.WARNING):
        migrate(path)
        migrate(path)
    [message] = [message for message in caplog.messages if "migrated" in message]
    assert "migrated the library to schema 2; the file as it was is library.db.schema1" in message
    copy = path.with_name("library.db.schema1")
    assert query(copy, "PRAGMA user_version") == [(1,)]
    assert dump(copy) == before
    assert os.name == "nt" or copy.stat().st_mode & 0o777 == 0o600


# --- what may come in between ---

MIGRATE_AND_DIE = """
import os, signal, sqlite3, sys
from pathlib import Path
from image_search.stores.sqlite import schema
path, last = Path(sys.argv[1]), int(sys.argv[2])
count = 0
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
def trace(statement):
    global count
    count += 1
    if count == last:
        die()
def connect(*arguments, **options):
    connection = sqlite3_connect(*arguments, **options)
    if options.get("uri"):
        connection.set_trace_callback(trace)
    return connection
sqlite3_connect, sqlite3.connect = sqlite3.connect, connect
if last == 0:
    os.fsync = die
schema.migrate(path, 60)
print(count)
"""


def run_migration(path: Path, last: int) -> subprocess.CompletedProcess[str]:
    """Migrate in another process that kills itself before its statement number last; 0: while it copies the file."""
    program = [sys.executable, "-c", MIGRATE_AND_DIE, str(path), str(last)]
    return subprocess.run(program, capture_output=True, text=True, check=False, cwd=ROOT)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_killed_at_any_moment_it_leaves_one_schema_whole_and_ends_the_same(path, tmp_path):
    before = dump(path)
    whole = tmp_path / "whole.db"
    shutil.copy(path, whole)
    count = int(run_migration(whole, -1).stdout)
    after = dump(whole)
    assert count > 100
    moments = [0, *range(5, count, count // 9), count]
    for last in moments:
        assert run_migration(path, last).returncode == -signal.SIGKILL
        assert query(path, "PRAGMA user_version") == [(1,)]
        assert dump(path) == before
    assert run_migration(path, -1).returncode == 0
    assert dump(path) == after
    assert dump(path.with_name("library.db.schema1")) == before
    assert not path.with_name("library.db.schema1.part").exists()
    with open_library(path) as store:
        assert store.list_images(["葛城"]).total == 1


def test_disk_without_room_is_said_before_anything_is_changed(path, monkeypatch):
    before = dump(path)
    monkeypatch.setattr(schema.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 10**6))
    with pytest.raises(StoreFull, match=r"library\.db must be migrated.*GiB.*nothing was changed"):
        migrate(path)
    assert dump(path) == before
    assert not path.with_name("library.db.schema1").exists()


def test_disk_that_fills_up_leaves_schema_1(path, monkeypatch):
    before = dump(path)
    create_schema = schema._create_schema

    def create_in_little_room(connection: sqlite3.Connection) -> None:
        [pages] = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages + 3}")
        create_schema(connection)

    monkeypatch.setattr(schema, "_create_schema", create_in_little_room)
    with pytest.raises(StoreFull, match="disk"):
        migrate(path)
    assert dump(path) == before
    monkeypatch.undo()
    migrate(path)
    assert query(path, "PRAGMA user_version") == [(2,)]


def test_copy_that_cannot_be_written_is_said(path):
    path.with_name("library.db.schema1.part").mkdir()
    with pytest.raises(StoreUnavailable, match=r"library\.db\.schema1 cannot be written"):
        migrate(path)
    assert query(path, "PRAGMA user_version") == [(1,)]


def test_programs_that_start_at_once_migrate_it_once(path, caplog):
    def count(_: int) -> int:
        with open_library(path) as store:
            return store.count_images()

    with caplog.at_level(logging.WARNING), ThreadPoolExecutor(4) as pool:
        assert list(pool.map(count, range(4))) == [7] * 4
    assert len([message for message in caplog.messages if "migrated" in message]) == 1
