"""Original files in a bucket of a real S3 server process."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import s3fs
from moto.server import ThreadedMotoServer

from image_search.errors import SettingsError, StoreError, StoreUnavailable
from image_search.originals import S3Originals, open_originals
from image_search.settings import Settings
from image_search.stores import open_store
from tests.fakes import make_embeddings, make_images

pytestmark = pytest.mark.slow

DATA = b"the bytes of a picture"
SHA256 = hashlib.sha256(DATA).hexdigest()


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The server of S3_TEST_URL, whose keys are the ones below, or one that is started here."""
    if url := os.environ.get("S3_TEST_URL"):
        yield url
        return
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a place in a bucket, as a person would set it."""
    use_server(server, monkeypatch)
    s3fs.S3FileSystem(skip_instance_cache=True).makedirs("pictures", exist_ok=True)
    return "s3://pictures/originals"


def use_server(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cret-key")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")


def test_written_original_is_read_back_and_a_deleted_one_is_gone(bucket):
    originals = open_originals(bucket, Path("unused"))
    originals.write({SHA256: DATA})
    originals.write({SHA256: DATA})
    assert originals.read(SHA256) == DATA
    assert s3fs.S3FileSystem(skip_instance_cache=True).ls("pictures/originals/" + SHA256[:2]) == [
        f"pictures/originals/{SHA256[:2]}/{SHA256}"
    ]
    originals.delete([SHA256, "0" * 64])
    originals.delete([SHA256])
    with pytest.raises(StoreError, match=SHA256):
        originals.read(SHA256)


def test_file_that_was_cut_off_is_written_again(bucket):
    originals = S3Originals(bucket)
    s3fs.S3FileSystem(skip_instance_cache=True).pipe_file(f"pictures/originals/{SHA256[:2]}/{SHA256}", DATA[:5])
    originals.write({SHA256: DATA})
    assert originals.read(SHA256) == DATA


def test_library_keeps_its_originals_there(bucket, tmp_path):
    settings = Settings(database_url=f"sqlite:///{tmp_path / 'library.db'}", originals_url=bucket)
    images = make_images(12)
    with open_store(settings) as store:
        model = store.get_or_create_model("fake", "1", 16)
        image_ids = store.add_images(model.model_id, images, make_embeddings(12))
        assert [store.read_original(image_id) for image_id in image_ids] == [image.data for image in images]
        store.delete_images(image_ids[:1])
        with pytest.raises(StoreError):
            S3Originals(bucket).read(images[0].content_sha256)
    assert not list(tmp_path.rglob(images[1].content_sha256))


def test_setting_names_the_server_of_the_bucket(bucket, server, tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    url = f"sqlite:///{tmp_path / 'library.db'}"
    environment = {"DATABASE_URL": url, "ORIGINALS_URL": bucket, "S3_ENDPOINT_URL": f"{server}/"}
    with open_store(Settings.load(None, environment)) as store:
        model = store.get_or_create_model("fake", "1", 16)
        [image_id] = store.add_images(model.model_id, make_images(1), make_embeddings(1))
        assert store.read_original(image_id) == make_images(1)[0].data


@pytest.mark.parametrize("address", ["localhost:9000", "http://key:s3cret@host:9000", "s3://bucket", "http://"])
def test_address_that_is_none_is_refused_by_its_setting(address):
    with pytest.raises(SettingsError, match="S3_ENDPOINT_URL") as caught:
        Settings.load(None, {"S3_ENDPOINT_URL": address})
    assert "s3cret" not in str(caught.value)


@pytest.mark.usefixtures("bucket")
def test_bucket_that_is_not_there_is_named():
    with pytest.raises(StoreError, match="s3://absent"):
        S3Originals("s3://absent").write({SHA256: DATA})


def test_server_that_is_away_is_unavailable_and_no_secret_is_told(monkeypatch):
    use_server("http://127.0.0.1:1", monkeypatch)
    with pytest.raises(StoreUnavailable, match="s3://pictures") as caught:
        S3Originals("s3://pictures").read(SHA256)
    assert "s3cret" not in str(caught.value)


def test_missing_keys_are_a_wrong_setting(bucket, monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(SettingsError, match=r"ORIGINALS_URL.*AWS_ACCESS_KEY_ID"):
        S3Originals(bucket).write({SHA256: DATA})


@pytest.mark.parametrize("url", ["s3://", "s3:///prefix", "s3://bucket?x=1"])
def test_url_without_a_bucket_is_refused(url, tmp_path):
    with pytest.raises(SettingsError, match="ORIGINALS_URL"):
        open_originals(url, tmp_path)
