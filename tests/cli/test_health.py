"""--check finds problems, says what to do about each, changes nothing and reveals no secret."""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from image_search.cli import health, serve
from image_search.cli.health import check_library, check_model, check_program, check_text, print_findings
from image_search.cli.serve import check_page, open_port
from image_search.errors import RecognizerUnavailable
from image_search.images import RECIPE
from image_search.originals import check_folder, check_originals
from image_search.recognition import RECOGNIZER
from image_search.records import Finding, RecognizedText
from image_search.search import Searcher
from image_search.settings import Settings
from image_search.stores import open_store
from image_search.stores.tokens import TOKEN_SETTING
from ImageSearch import main
from tests.fakes import FakeEncoder, make_embeddings, make_image, make_images
from tests.fakes.checkpoints import get_checkpoint

Findings = dict[str, Finding]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings of a library of three images, embedded with a model that is not loaded."""
    settings = Settings(database_url=f"sqlite:///{tmp_path}/library.db", device="cpu")
    with open_store(settings) as store:
        model = Searcher(store, FakeEncoder()).get_model()
        store.add_images(model.model_id, make_images(3), make_embeddings(3))
    return settings


def look_at(settings: Settings) -> Findings:
    with open_store(settings) as store:
        return {finding.name: finding for finding in check_library(store)}


def list_faults(findings: Findings) -> list[str]:
    return [name for name, finding in findings.items() if not finding.ok]


def test_healthy_library_has_no_fault(settings: Settings) -> None:
    findings = look_at(settings)
    assert list_faults(findings) == []
    assert "3 images in SQLite" in findings["library"].what
    assert "fake (1), 16 dimensions: 3 of 3 images" in findings["model 1"].what
    assert "undamaged" in findings["database file"].what
    assert {"search", "newest image", "folder", "originals", "index"} <= set(findings)


def test_library_that_is_not_there_yet_is_no_fault_and_is_not_made(tmp_path: Path) -> None:
    findings = look_at(Settings(database_url=f"sqlite:///{tmp_path}/new/library.db"))
    assert list_faults(findings) == []
    assert "0 images" in findings["library"].what
    assert list(tmp_path.iterdir()) == []


def test_mistyped_folder_is_a_fault(tmp_path: Path) -> None:
    findings = look_at(Settings(database_url=f"sqlite:///{tmp_path}/no/such/library.db"))
    assert list_faults(findings) == ["folder"]
    assert "DATABASE_URL" in findings["folder"].remedy


def test_images_without_an_embedding_are_counted(settings: Settings) -> None:
    with open_store(settings) as store:
        other = store.get_or_create_model("other", "1", 16)
        store.add_images(other.model_id, [make_image("later.png")], make_embeddings(1))
    findings = look_at(settings)
    assert list_faults(findings) == ["model 1"]
    assert "3 of 4 images" in findings["model 1"].what
    assert "--model fake" in findings["model 1"].remedy
    assert "1 of 4 images" in findings["model 2"].what


def test_previews_and_embeddings_of_an_older_version_are_counted(settings: Settings) -> None:
    with open_store(settings) as store:
        [model] = store.list_models()
        before = store.find_images_of_old_recipe(RECIPE)
        images = [replace(make_image(f"{recipe}.png"), recipe=recipe) for recipe in (1, RECIPE)]
        store.add_images(model.model_id, images, make_embeddings(2))
        other = store.get_or_create_model("other", "1", 4)
        store.add_images(other.model_id, [make_image("none.png")], make_embeddings(1, 4))
        old = len(before) + 2
        found = look_at(settings)["older version"]
    assert found.ok and f"{old} previews and {old - 1} embeddings" in found.what
    assert "--repair" in found.remedy


def test_words_of_an_older_rule_are_a_fault_where_the_library_cannot_be_written(settings, monkeypatch) -> None:
    assert "words" not in look_at(settings)
    with open_store(settings) as store:
        store.set_setting(TOKEN_SETTING, "1")
    monkeypatch.setattr(
        "os.statvfs", lambda _: SimpleNamespace(f_flag=os.ST_RDONLY, f_bavail=9, f_bfree=9, f_blocks=9, f_frsize=2**40)
    )
    findings = look_at(settings)
    assert "words" in list_faults(findings)
    assert "right to write" in findings["words"].remedy


def test_original_that_is_lost_is_a_fault(settings: Settings, tmp_path: Path) -> None:
    for file in tmp_path.glob("library.originals/*/*"):
        file.unlink()
    findings = look_at(settings)
    assert list_faults(findings) == ["newest image"]
    assert "Register its folder again" in findings["newest image"].remedy


def test_damaged_file_is_a_fault_once(settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "library.db"
    data = bytearray(file.read_bytes())
    data[:100] = b"\xff" * 100
    file.write_bytes(data)
    faults = [finding for finding in look_at(settings).values() if not finding.ok]
    assert faults
    assert any("is not a SQLite database" in finding.remedy for finding in faults)


def test_folder_without_rights_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)
    finding = check_folder("originals", tmp_path / "originals", "ORIGINALS_URL")
    assert not finding.ok
    assert "ORIGINALS_URL" in finding.remedy


def test_disk_that_is_nearly_full_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=10**6))
    finding = check_folder("originals", tmp_path, "ORIGINALS_URL")
    assert not finding.ok
    assert "Free some room" in finding.remedy


def test_originals_in_a_bucket_are_written_read_and_removed() -> None:
    kept: dict[str, bytes] = {}

    class Bucket:
        def write(self, contents: dict[str, bytes]) -> None:
            kept.update(contents)

        def read(self, sha256: str) -> bytes:
            return kept[sha256]

        def delete(self, hashes: list[str]) -> None:
            for sha256 in hashes:
                del kept[sha256]

        def __str__(self) -> str:
            return "s3://bucket"

    assert check_originals(Bucket()) == Finding("originals", True, "s3://bucket, readable and writable")
    assert kept == {}


@pytest.mark.slow
def test_model_is_loaded_and_compared_with_the_library(settings: Settings) -> None:
    settings = replace(settings, embedding_model=str(get_checkpoint("clip")))
    with open_store(settings) as store:
        status = store.get_status()
        findings = {finding.name: finding for finding in check_model(settings, status)}
        assert list_faults(findings) == ["model in use"]
        assert "0 of 3 images; the library's current model is fake (1)" in findings["model in use"].what
        assert findings["model in use"].remedy.endswith("--make-current")  # nothing finds a folder by its mere name
        named = replace(status.models[0][0], name="somebody/fake")
        *_, finding = check_model(settings, replace(status, models=((named, 3),)))
        assert finding.remedy.endswith("--make-current; or set EMBEDDING_MODEL to somebody/fake")
        *_, finding = check_model(settings, replace(status, models=((named, 0),)))
        assert finding.remedy.endswith("--make-current")
        assert "cpu in float32" in findings["device"].what
        model = status.models[0][0]
        name, version = findings["model"].what.split(" ")[:2]
        as_loaded = replace(model, name=name, version=version.strip("(),"))
        older = replace(status, models=((replace(as_loaded, version="0"), 3),))
        *_, finding = check_model(settings, older)
        assert "current model is another version of it (0)" in finding.what
        same = replace(status, models=((as_loaded, 3),))
        assert [finding.ok for finding in check_model(settings, same)] == [True, True, True]


@pytest.mark.parametrize(
    ("model", "remedy"),
    [
        ("/nowhere/model", "Correct the path"),
        ("demo/modle", "Correct the path"),
        ("somebody/never-downloaded-this-model", "downloads it"),
    ],
)
def test_model_that_is_not_here_is_a_fault_and_is_not_downloaded(model: str, remedy: str) -> None:
    [finding] = check_model(Settings(embedding_model=model), None)
    assert not finding.ok
    assert model in finding.what
    assert remedy in finding.remedy


def test_missing_package_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [finding.ok for finding in check_program()] == [True, True]
    monkeypatch.setattr(health, "_find_version", lambda name: None if name == "torch" else "0.1")
    _, packages = check_program()
    assert not packages.ok
    assert packages.what.startswith("missing: torch; installed: ")
    assert "gradio 0.1 (tested with " in packages.what
    assert packages.remedy == "Run: pip install -r requirements.txt"


def test_installed_program_misses_no_package_of_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "IS_INSTALLED", True)
    monkeypatch.setattr(health, "requires", lambda _: ["torch==2.0", "rapidocr==3.0; extra == 'ocr'"])
    monkeypatch.setattr(health, "_find_version", lambda name: "2.0" if name == "torch" else None)
    _, packages = check_program()
    assert packages.ok and packages.what == "torch 2.0"


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield taken.getsockname()[1]


def test_port_that_is_taken_is_a_fault_unless_the_page_has_it(taken_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "_serves_page", lambda _: False)
    finding = check_page(Settings(app_port=taken_port))
    assert not finding.ok
    assert "APP_PORT" in finding.remedy
    monkeypatch.setattr(serve, "_serves_page", lambda _: True)
    assert check_page(Settings(app_port=taken_port)).ok


def test_no_part_of_an_answer_waits_for_the_part_before_it() -> None:
    listener = open_port("127.0.0.1", 0)
    assert listener.proto == socket.IPPROTO_TCP  # what asyncio looks at before it sets TCP_NODELAY
    listener.close()


def test_running_page_is_recognised_and_another_program_is_not() -> None:
    assert not serve._serves_page(Settings(app_port=1))  # no server is there
    for body, is_ours in (("<title>類似画像検索</title>", True), ("<title>another</title>", False)):
        with answering(body) as port:
            assert serve._serves_page(Settings(app_host="0.0.0.0", app_port=port)) is is_ours


@contextmanager
def answering(body: str) -> Iterator[int]:
    """A web server that gives this answer to clients that are not logged in. Yields its port."""

    class Refuse(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(401)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Refuse) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        yield server.server_port


@pytest.mark.parametrize(
    ("given", "ok", "said"),
    [
        ({}, True, "without a password"),
        ({"app_host": "0.0.0.0", "app_password": "Never_Shown_1"}, True, "behind a password"),
        ({"app_host": "0.0.0.0", "app_insecure": True}, True, "APP_INSECURE=1: every client"),
        ({"app_host": "0.0.0.0"}, False, "Set APP_PASSWORD"),
    ],
)
def test_page_that_lets_strangers_in_is_a_fault(
    given: dict[str, Any], ok: bool, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve, "open_port", lambda *_: socket.socket())
    finding = check_page(Settings(**given))
    assert finding.ok is ok
    assert said in finding.what + finding.remedy
    assert "Never_Shown_1" not in finding.what + finding.remedy


@pytest.mark.slow
def test_check_ends_with_0_when_all_is_well_and_with_1_when_it_is_not(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(serve, "open_port", lambda *_: socket.socket())
    monkeypatch.setenv("EMBEDDING_MODEL", str(get_checkpoint("clip")))
    monkeypatch.setenv("DEVICE", "cpu")
    monkeypatch.setenv("HF_TOKEN", "Never_Shown_1")
    monkeypatch.setenv("DATABASE_URL", settings.database_url)
    assert main(["--check"]) == 1  # the library was embedded with another model
    assert "FAULT  model in use" in capsys.readouterr().out
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path}/another.db")
    assert main(["--check", "--json"]) == 0
    said = capsys.readouterr()
    findings = [json.loads(line) for line in said.out.splitlines()]
    assert all(finding["ok"] and not finding["remedy"] for finding in findings)
    assert "Never_Shown_1" not in said.out + said.err


def test_oracle_database_that_is_away_is_told_once_and_without_its_password(
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings = Settings(db_user="imgsearch", db_password="Never_Shown_1", db_dsn="127.0.0.1:1/FREEPDB1")
    with open_store(settings) as store:
        assert not print_findings(check_library(store), as_json=False)
    said = capsys.readouterr()
    assert said.out.count("FAULT") == 1
    assert "-> " in said.out
    assert "Never_Shown_1" not in said.out + said.err


def test_findings_are_a_line_each_or_an_object_each(capsys: pytest.CaptureFixture[str]) -> None:
    findings = [Finding("disk", True, "large"), Finding("model", False, "gone", "Get it.")]
    assert print_findings(findings[:1], as_json=False)
    assert not print_findings(findings, as_json=True)
    said = capsys.readouterr()
    plain, *objects = said.out.splitlines()
    assert plain.split() == ["ok", "disk", "large"]
    assert [json.loads(line)["ok"] for line in objects] == [True, False]
    assert "1 problem found" in said.err


def test_images_whose_text_was_not_read_are_counted(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "open_recognizer", lambda: None)
    with open_store(settings) as store:
        status = store.get_status()
        store.set_recognized(1, RecognizedText(RECOGNIZER, "出口"))
        store.set_recognized(2, RecognizedText("an older one", "出口"))
        finding = check_text(store, settings, status)
        assert (finding.ok, finding.remedy) == (True, "")
        assert finding.what == f"{RECOGNIZER} has read 1 of 3 images; register_images.py --read-text reads the others"
        monkeypatch.setattr(health, "open_recognizer", refuse)
        assert check_text(store, settings, status).ok is False


def test_recogniser_that_is_not_installed_is_a_fault_only_where_it_is_wanted(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "rapidocr", None)
    with open_store(settings) as store:
        for wanted in (False, True):
            finding = check_text(store, replace(settings, read_text=wanted), store.get_status())
            assert finding.ok is not wanted
            assert "pip install -r requirements-ocr.txt" in finding.remedy


def refuse() -> None:
    raise RecognizerUnavailable("The text recogniser does not start.")
