"""The contract on SQLite, and what only SQLite promises: one file, several processes, nothing half after a crash."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest

from image_search.errors import SchemaError, SettingsError, StoreError, StoreFull, StoreUnavailable
from image_search.records import ImageText, SearchFilter
from image_search.settings import Settings
from image_search.stores import ENGINES, open_store
from image_search.stores.sql import ORDERS
from image_search.stores.sqlite import SqliteStore
from image_search.stores.sqlite import database as sqlite_connections
from image_search.stores.sqlite.database import Connections
from image_search.stores.sqlite.rows import FIND_KNOWN_FILES, build_where
from tests.contract import ImageStoreContract
from tests.fakes import make_embeddings, make_image, make_images

pytestmark = pytest.mark.engine("sqlite")


def open_library(path: Path) -> SqliteStore:
    store = open_store(Settings(database_url=f"sqlite:///{path}"))
    assert isinstance(store, SqliteStore)
    return store


def list_originals(path: Path) -> set[str]:
    return {file.name for file in path.with_suffix(".originals").rglob("*") if file.is_file()}


class TestSqliteStore(ImageStoreContract):
    @pytest.fixture
    def library(self, tmp_path: Path) -> Path:
        return tmp_path / "library.db"

    def open_library(self, library: Path) -> SqliteStore:
        return open_library(library)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "library.db"


@pytest.fixture
def store(path):
    with open_library(path) as store:
        yield store


@pytest.fixture
def model_id(store):
    return store.get_or_create_model("fake", "1", 16).model_id


def test_store_lets_one_thread_read_a_small_library_and_two_a_large_one_without_opening_it(path):
    assert open_library(path).concurrency == 1
    path.write_bytes(b"not a library")
    assert open_library(path).concurrency == 1
    os.truncate(path, 2**30)
    assert open_library(path).concurrency == 2


# --- where the files are ---


@pytest.mark.usefixtures("store")
def test_opening_touches_no_file(path):
    assert list(path.parent.iterdir()) == []


def test_relative_url_is_relative_to_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with open_store(Settings(database_url="sqlite:///odd.db")) as store:
        model = store.get_or_create_model("fake", "1", 16)
        monkeypatch.chdir("/")
        store.add_images(model.model_id, make_images(1), make_embeddings(1))
    assert (tmp_path / "odd.db").is_file()
    assert (tmp_path / "odd.originals").is_dir()


def test_default_library_lies_in_data_of_the_program_with_its_originals_wherever_it_is_run(tmp_path, monkeypatch):
    monkeypatch.setattr("image_search.stores.sqlite.ROOT", tmp_path)
    monkeypatch.chdir("/")
    with open_store(Settings.load(env_file=None, environ={})) as store:
        model = store.get_or_create_model("fake", "1", 16)
        store.add_images(model.model_id, make_images(1), make_embeddings(1))
    assert (tmp_path / "data" / "image_search.db").is_file()
    assert (tmp_path / "data" / "originals").is_dir()


def test_originals_may_lie_elsewhere(tmp_path):
    settings = Settings(database_url=f"sqlite:///{tmp_path}/a.db", originals_url=str(tmp_path / "nas" / "pictures"))
    with open_store(settings) as store:
        model = store.get_or_create_model("fake", "1", 16)
        [image_id] = store.add_images(model.model_id, make_images(1), make_embeddings(1))
        assert store.read_original(image_id) == make_images(1)[0].data
    assert (tmp_path / "nas" / "pictures").is_dir()


def test_tilde_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    with open_store(Settings(database_url="sqlite:///~/photos.db")) as store:
        store.get_or_create_model("fake", "1", 16)
    assert (tmp_path / "photos.db").is_file()


@pytest.mark.skipif(os.name == "nt", reason="Windows has other rights")
def test_new_library_is_open_to_its_owner_only(path, store, model_id):
    store.add_images(model_id, make_images(1), make_embeddings(1))
    for file in (path, path.with_name("library.db-wal")):
        assert file.stat().st_mode & 0o777 == 0o600
    assert path.with_suffix(".originals").stat().st_mode & 0o777 == 0o700


def test_files_stay_where_they_are_by_reference_and_uploads_are_kept(path, tmp_path):
    photo = tmp_path / "photo.png"
    photo.write_bytes(b"a photograph")
    images = [make_image(data=b"a photograph", file_path=str(photo)), make_image(data=b"an upload")]
    settings = Settings(database_url=f"sqlite:///{path}", originals_url="reference")
    with open_store(settings) as store:
        model = store.get_or_create_model("fake", "1", 16)
        referenced, uploaded = store.add_images(model.model_id, images, make_embeddings(2))
        assert list_originals(path) == {images[1].content_sha256}
        assert store.read_original(referenced) == b"a photograph"
        assert store.read_original(uploaded) == b"an upload"
        assert store.get_image(referenced).byte_size == len(b"a photograph")
        photo.write_bytes(b"another photograph")
        with pytest.raises(StoreError, match=r"photo\.png was changed or moved"):
            store.read_original(referenced)
        changed = make_image(data=b"another photograph", file_path=str(photo))
        store.replace_image(referenced, model.model_id, changed, make_embeddings(1)[0])
        assert store.read_original(referenced) == b"another photograph"
        store.delete_images([referenced, uploaded])
        assert list_originals(path) == set()
    assert photo.read_bytes() == b"another photograph"


def test_file_that_is_not_there_is_kept_by_reference_too(path, tmp_path):
    image = make_image(data=b"of another computer", file_path=str(tmp_path / "gone.png"))
    with open_store(Settings(database_url=f"sqlite:///{path}", originals_url="reference")) as store:
        model = store.get_or_create_model("fake", "1", 16)
        [image_id] = store.add_images(model.model_id, [image], make_embeddings(1))
        assert store.read_original(image_id) == b"of another computer"


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///", "sqlite:///folder/", "sqlite://host/a.db"])
def test_url_without_a_file_is_refused(url):
    with pytest.raises(SettingsError, match="DATABASE_URL"):
        open_store(Settings(database_url=url))


# --- what may be wrong with the file ---


def test_missing_folder_is_named_and_not_made(tmp_path):
    store = open_library(tmp_path / "mount" / "photos" / "a.db")
    with pytest.raises(StoreUnavailable, match=r"mount.photos"):
        store.list_models()
    assert list(tmp_path.iterdir()) == []


def test_library_whose_file_is_missing_is_said_and_not_replaced(path, store, model_id):
    store.add_images(model_id, make_images(2), make_embeddings(2))
    store.close()
    path.rename(path.with_name("elsewhere.db"))
    with open_library(path) as again:
        for use in (again.list_models, again.get_status, lambda: list(again.check())):
            with pytest.raises(StoreUnavailable, match=r"library\.db is not there.*library\.originals"):
                use()
        assert not path.exists()
        path.with_name("elsewhere.db").rename(path)
        assert again.count_images() == 2


def test_library_that_is_taken_away_meanwhile_is_missed(path, store, model_id):
    store.add_images(model_id, make_images(2), make_embeddings(2))
    store.close()
    with open_library(path) as again:
        assert again.count_images() == 2
        for connection in again._database._idle:
            connection.close()
        again._database._idle.clear()
        path.unlink()
        with pytest.raises(StoreUnavailable, match=r"library\.db"):
            again.count_images()
    assert not path.exists()


def test_file_that_is_no_database_is_refused_and_left_alone(path, store):
    path.write_bytes(b"this is a letter, not a database" * 100)
    with pytest.raises(SchemaError, match=r"library\.db is not a SQLite database"):
        store.list_models()
    assert path.read_bytes() == b"this is a letter, not a database" * 100


def test_database_of_another_program_is_refused_and_left_alone(path, store):
    foreign = sqlite3.connect(path)
    foreign.execute("CREATE TABLE recipes (name TEXT)")
    foreign.close()
    with pytest.raises(SchemaError, match="another program"):
        store.list_models()
    foreign = sqlite3.connect(path)
    assert foreign.execute("SELECT name FROM sqlite_master").fetchall() == [("recipes",)]
    foreign.close()


@pytest.mark.usefixtures("model_id")
def test_library_of_a_newer_version_is_refused(path, store):
    store.close()
    newer = sqlite3.connect(path)
    newer.execute("PRAGMA user_version = 3")
    newer.close()
    with open_library(path) as again, pytest.raises(SchemaError, match=r"schema version 3.*Update the program"):
        again.list_models()


def test_damaged_library_says_so(path, store, model_id):
    store.add_images(model_id, make_images(50), make_embeddings(50))
    store.close()
    content = bytearray(path.read_bytes())
    content[4096:] = bytes(len(content) - 4096)
    path.write_bytes(content)
    with open_library(path) as again, pytest.raises(StoreError, match=r"library\.db"):
        again.list_images()


def test_library_held_by_another_program_is_unavailable_and_then_works(path, store, model_id, monkeypatch):
    store.close()
    monkeypatch.setattr(sqlite_connections, "BUSY_SECONDS", 0.05)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with open_library(path) as store:
        with pytest.raises(StoreUnavailable, match=r"library\.db is held by another program"):
            store.add_images(model_id, make_images(1), make_embeddings(1))
        assert not store.list_images()
        holder.rollback()
        holder.close()
        assert len(store.add_images(model_id, make_images(1), make_embeddings(1))) == 1


def test_full_disk_keeps_nothing_of_the_batch(path, store, model_id, monkeypatch):
    store.add_images(model_id, make_images(3), make_embeddings(3))
    kept = list_originals(path)
    store.close()
    limit_connections(monkeypatch, "PRAGMA max_page_count = 64")
    with open_library(path) as store:
        large = [make_image(f"{n}.png", ImageText(description="long " * 20_000)) for n in range(10)]
        with pytest.raises(StoreFull, match="disk"):
            store.add_images(model_id, large, make_embeddings(10))
        assert store.count_images() == 3
        assert list_originals(path) == kept


def test_library_that_cannot_be_written_can_still_be_searched(path, store, model_id, monkeypatch):
    store.add_images(model_id, make_images(3), make_embeddings(3))
    store.close()
    limit_connections(monkeypatch, "PRAGMA query_only = 1")
    with open_library(path) as store:
        assert len(store.search_embedding(model_id, make_embeddings(1)[0])) == 3
        with pytest.raises(StoreUnavailable, match="cannot be written"):
            store.add_images(model_id, [make_image("new.png")], make_embeddings(1))


def test_library_on_a_read_only_disk_can_be_searched(path, store, model_id, monkeypatch):
    store.add_images(model_id, make_images(3), make_embeddings(3))
    store.close()
    files = sorted(path.parent.rglob("*"))
    monkeypatch.setattr(sqlite_connections.os, "statvfs", lambda _: SimpleNamespace(f_flag=os.ST_RDONLY))
    with open_library(path) as store:
        assert len(store.search_embedding(model_id, make_embeddings(1)[0])) == 3
        assert store.count_images() == 3 and store.read_original(1)
        with pytest.raises(StoreUnavailable, match="cannot be written"):
            store.trash_images([1])
        assert sorted(path.parent.rglob("*")) == files  # no journal was begun


def test_closed_store_says_so(store):
    store.list_models()
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.list_models()


def limit_connections(monkeypatch, pragma: str) -> None:
    connect = Connections._connect

    def connect_limited(self: Connections) -> sqlite3.Connection:
        connection = connect(self)
        connection.execute(pragma)
        return connection

    monkeypatch.setattr(Connections, "_connect", connect_limited)


# --- records and originals stay together ---


def test_batch_that_fails_leaves_no_original(path, store, model_id):
    store.add_images(model_id, make_images(2), make_embeddings(2))
    with pytest.raises(StoreError):
        store.add_images(model_id, [make_image("x.png"), make_image("y.png", width=0)], make_embeddings(2))
    assert list_originals(path) == {image.content_sha256 for image in make_images(2)}


def test_original_goes_with_its_image(path, store, model_id):
    image_ids = store.add_images(model_id, make_images(3), make_embeddings(3))
    store.delete_images(image_ids[:2])
    assert list_originals(path) == {make_images(3)[2].content_sha256}


def test_deletion_that_was_interrupted_is_finished_by_the_next_change(path, store, model_id, monkeypatch):
    image_ids = store.add_images(model_id, make_images(3), make_embeddings(3))
    with monkeypatch.context() as patch:
        patch.setattr(SqliteStore, "_delete_orphaned_originals", lambda *_: None)
        store.delete_images(image_ids[:2])
    assert len(list_originals(path)) == 3
    store.add_images(model_id, make_images(1), make_embeddings(1))  # one of the two is back meanwhile
    assert list_originals(path) == {make_images(3)[0].content_sha256, make_images(3)[2].content_sha256}


def test_original_of_replaced_content_goes(path, store, model_id):
    [image_id] = store.add_images(model_id, [make_image(data=b"old")], make_embeddings(1))
    new = make_image(data=b"new")
    store.replace_image(image_id, model_id, new, make_embeddings(1)[0])
    assert list_originals(path) == {new.content_sha256}


def test_image_in_the_trash_keeps_its_original_until_the_trash_is_emptied(path, store, model_id):
    image_ids = store.add_images(model_id, make_images(2), make_embeddings(2))
    store.trash_images(image_ids[:1])
    assert store.read_original(image_ids[0]) == make_images(1)[0].data
    store.empty_trash()
    assert list_originals(path) == {make_images(2)[1].content_sha256}


def test_lost_original_comes_back_with_the_image(path, store, model_id):
    [image_id] = store.add_images(model_id, make_images(1), make_embeddings(1))
    for file in path.with_suffix(".originals").rglob("*"):
        if file.is_file():
            file.unlink()
    with pytest.raises(StoreError, match="missing"):
        store.read_original(image_id)
    assert store.add_images(model_id, make_images(1), make_embeddings(1)) == [image_id]
    assert store.read_original(image_id) == make_images(1)[0].data


# --- no search walks the whole library for a few images ---


def explain(path: Path, statement: str, values: Sequence[object] = ()) -> str:
    with closing(sqlite3.connect(path)) as connection:
        return "; ".join(row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", values))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.usefixtures("model_id")
def test_page_of_all_images_is_read_in_its_order(path, order):
    where, _ = build_where(SearchFilter())
    columns = "i.image_id, i.upload_date, i.taken_at, i.sort_name"
    listing = f"SELECT k.image_id FROM (SELECT {columns} FROM images i {where}) k ORDER BY {ORDERS[order]} LIMIT 16"
    plan = explain(path, listing)
    assert "COVERING INDEX" in plan
    assert "TEMP B-TREE" not in plan


@pytest.mark.parametrize(
    ("filter", "index"),
    [
        (SearchFilter(generator="a"), "images_by_generator "),
        (SearchFilter(camera="a", min_rating=1), "images_by_camera "),
        (SearchFilter(file_name="a.png"), "images_by_file_name "),
        (SearchFilter(keyword="a"), "i USING INTEGER PRIMARY KEY"),
        (SearchFilter(folder="/a"), "i USING INTEGER PRIMARY KEY"),
        (SearchFilter(words=("a",)), "i USING INTEGER PRIMARY KEY"),
        (SearchFilter(has_prompt=False), "images_without_prompt "),
        (SearchFilter(has_text=True), "images_by_text "),
        (SearchFilter(film_sha256="00" * 32), "film_sha256=?"),
    ],
)
@pytest.mark.usefixtures("model_id")
def test_filter_goes_by_its_index(path, filter, index):
    where, values = build_where(filter)
    assert index in explain(path, f"SELECT count(*) FROM images i {where}", values)


@pytest.mark.usefixtures("model_id")
def test_known_files_are_found_by_their_paths(path):
    plan = explain(path, FIND_KNOWN_FILES, ["[]"])
    assert "file_path=?" in plan
    assert "i USING INTEGER PRIMARY KEY" in plan


# --- several processes, and crashes ---

REGISTER = """
import sys
import time
from image_search.settings import Settings
from image_search.stores import open_store
from tests.fakes import make_embeddings, make_images
store = open_store(Settings(database_url="sqlite:///" + sys.argv[1]))
model = store.get_or_create_model("fake", "1", 16)
images, embeddings = make_images(120), make_embeddings(120)
print("started", flush=True)
for start in range(0, 120, 4):
    batch = images[start : start + 4]
    if len(store.find_known_hashes([image.content_sha256 for image in batch])) < 4:
        store.add_images(model.model_id, batch, embeddings[start : start + 4])
store.close()
"""


def start_registrar(path: Path) -> subprocess.Popen[str]:
    root = Path(__file__).resolve().parents[3]
    return subprocess.Popen([sys.executable, "-c", REGISTER, str(path)], stdout=subprocess.PIPE, text=True, cwd=root)


def check_library(path: Path) -> None:
    """120 images, each once, each whole, and not a file more."""
    images, embeddings = make_images(120), make_embeddings(120)
    with open_library(path) as store:
        model = store.find_current_model()
        known = store.find_known_hashes([image.content_sha256 for image in images])
        assert len(known) == store.count_images() == 120
        assert store.get_status().models == ((model, 120),)
        for image, embedding in zip(images, embeddings, strict=True):
            image_id = known[image.content_sha256]
            assert store.read_original(image_id) == image.data
            assert store.read_preview(image_id) == image.preview
            assert store.get_embedding(image_id, model.model_id).tobytes() == embedding.tobytes()
        assert list_originals(path) == set(known)
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    assert connection.execute("SELECT count(*) FROM image_words WHERE image_words MATCH 'image*'").fetchone() == (120,)
    connection.close()


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_registration_killed_at_any_moment_ends_like_a_clean_run(path):
    moments = random.Random(0)
    for _ in range(8):
        registrar = start_registrar(path)
        assert registrar.stdout is not None
        registrar.stdout.readline()
        time.sleep(moments.uniform(0, 0.05))
        registrar.send_signal(signal.SIGKILL)  # a quick machine may be done: the library is then whole already
        registrar.communicate()
    registrar = start_registrar(path)
    registrar.communicate()
    assert registrar.returncode == 0
    check_library(path)


@pytest.mark.slow
def test_processes_that_register_the_same_images_at_once_make_no_doubles(path):
    registrars = [start_registrar(path) for _ in range(3)]
    for registrar in registrars:
        registrar.communicate()
    assert [registrar.returncode for registrar in registrars] == [0, 0, 0]
    check_library(path)


# --- engines are imported when they are chosen ---


def test_naming_the_engines_imports_none_of_them():
    program = "import sys, image_search.stores; print([m for m in ('sqlite3', 'faiss', 'numpy') if m in sys.modules])"
    root = Path(__file__).resolve().parents[3]
    assert subprocess.check_output([sys.executable, "-c", program], text=True, cwd=root).strip() == "[]"


def test_missing_driver_is_a_sentence_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setitem(ENGINES, "sqlite", ("no_such_driver:Store", "requirements-special.txt"))
    with pytest.raises(SettingsError, match=r"no_such_driver.*pip install -r requirements-special\.txt"):
        open_store(Settings(database_url="sqlite:///a.db"))
