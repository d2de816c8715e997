"""Models from the hub: what is downloaded, what is kept, and what is said when it cannot be had.

A small server stands in for huggingface.co, so that the real client is what is tested.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from image_search.encoders import LazyEncoder, open_encoder
from image_search.encoders.hub import choose_files
from image_search.errors import ModelUnavailable
from image_search.settings import Settings
from tests.fakes.checkpoints import get_checkpoint

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_averysecrettokenthatnobodymaysee"


@dataclass
class FakeHub:
    """Repositories by name; refusals by name, as (status, X-Error-Code, message); those whose files are gated."""

    repositories: dict[str, Path] = field(default_factory=dict)
    refusals: dict[str, tuple[int, str, str]] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    requests: list[str] = field(default_factory=list)
    tokens: set[str | None] = field(default_factory=set)

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        path = request.path.split("?")[0].strip("/")
        self.requests.append(f"{request.command} {path}")
        self.tokens.add(request.headers.get("authorization"))
        parts = path.removeprefix("api/models/").split("/")
        repo, rest = "/".join(parts[:2]), parts[2:]
        if repo in self.refusals or repo not in self.repositories:
            status, code, message = self.refusals.get(repo, (404, "RepoNotFound", "Repository not found"))
            self.send(request, status, b"{}", {"X-Error-Code": code, "X-Error-Message": message})
            return
        folder = self.repositories[repo]
        if rest[0] == "revision" and rest[1] not in ("main", COMMIT):
            self.send(request, 404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        elif rest[0] == "resolve" and repo in self.gated:
            self.send(request, 401, b"{}", {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted"})
        elif rest[0] in ("revision", "tree"):
            names = sorted(path.name for path in folder.iterdir())
            tree = [{"type": "file", "path": name, "size": 1, "oid": "0" * 40} for name in names]
            info = {"id": repo, "sha": COMMIT, "siblings": [{"rfilename": name} for name in names]}
            self.send(request, 200, json.dumps(info if rest[0] == "revision" else tree).encode())
        else:
            content = (folder / rest[2]).read_bytes()
            etag = f'"{hashlib.sha1(content).hexdigest()}"'
            self.send(request, 200, content, {"ETag": etag, "X-Repo-Commit": COMMIT})

    @staticmethod
    def send(request: BaseHTTPRequestHandler, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        request.send_response(status)
        for name, value in (headers or {}).items():
            request.send_header(name, value)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        if request.command == "GET":
            request.wfile.write(body)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    from huggingface_hub import constants

    fake = FakeHub()

    class Answer(BaseHTTPRequestHandler):
        do_GET = do_HEAD = lambda self: fake.answer(self)

        def log_message(self, *_: Any) -> None:
            """Keep the test's output to itself."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    point_client_at(f"http://127.0.0.1:{server.server_port}", tmp_path, monkeypatch)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    yield fake
    server.shutdown()
    server.server_close()


def point_client_at(endpoint: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants, file_download

    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    for module in (constants, file_download):  # the second in older clients only
        monkeypatch.setattr(module, "HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache / "hub"))


def open_model(model: str, **settings: Any) -> LazyEncoder:
    return open_encoder(Settings(embedding_model=model, hf_token=TOKEN, **settings))


def refuse(model: str, **settings: Any) -> str:
    with pytest.raises(ModelUnavailable) as raised:
        open_model(model, **settings).load()
    message = str(raised.value)
    assert TOKEN not in message
    assert "\n" not in message
    return message


def test_a_model_is_downloaded_once_and_then_needs_no_network(hub: FakeHub) -> None:
    hub.repositories["somebody/clip"] = get_checkpoint("clip")
    encoder = open_model("somebody/clip")
    assert encoder.name == "somebody/clip"
    assert hub.requests == []
    assert encoder.encode_texts(["猫"]).shape == (1, encoder.dimension)
    assert encoder.version == f"{COMMIT[:12]}/p1/float"
    assert f"Bearer {TOKEN}" in hub.tokens
    hub.requests.clear()
    hub.repositories.clear()
    again = open_model("somebody/clip")
    assert again.encode_texts(["猫"]).shape == (1, again.dimension)
    assert again.version == encoder.version
    assert hub.requests == []


def test_a_download_that_was_cut_off_is_taken_up_again(hub: FakeHub, tmp_path: Path) -> None:
    hub.repositories["somebody/clip"] = get_checkpoint("clip")
    assert open_model("somebody/clip").version
    next((tmp_path / "hub").rglob("snapshots/*/model.safetensors")).unlink()
    open_model("somebody/clip").load()


def test_a_revision_is_pinned(hub: FakeHub) -> None:
    hub.repositories["somebody/clip"] = get_checkpoint("clip")
    assert open_model("somebody/clip", embedding_model_revision=COMMIT).version.startswith(COMMIT[:12])
    message = refuse("somebody/clip", embedding_model_revision="v9")
    assert "no revision v9" in message
    assert "EMBEDDING_MODEL_REVISION" in message


@pytest.mark.parametrize("is_listed", [True, False], ids=["files are gated", "all is gated"])
def test_a_gated_model_says_where_to_accept_the_licence(hub: FakeHub, is_listed: bool) -> None:
    model = "stabilityai/japanese-stable-clip-vit-l-16"
    if is_listed:
        hub.repositories[model] = get_checkpoint("japanese_stable_clip")
        hub.gated.add(model)
    else:
        hub.refusals[model] = (403, "GatedRepo", "Access to this model is restricted")
    message = refuse(model)
    assert f"https://huggingface.co/{model}" in message
    assert "HF_TOKEN" in message
    assert "EMBEDDING_MODEL" in message


def test_code_of_a_listed_model_runs_at_a_pinned_commit_only(hub: FakeHub) -> None:
    model = "stabilityai/japanese-stable-clip-vit-l-16"
    hub.repositories[model] = get_checkpoint("japanese_stable_clip")
    hub.repositories["somebody/else"] = get_checkpoint("japanese_stable_clip")
    assert "EMBEDDING_MODEL_REVISION" in refuse(model)
    assert "TRUST_REMOTE_CODE=1" in refuse("somebody/else", embedding_model_revision=COMMIT)
    # The code runs; the small stand-in is then refused for not having the 768 numbers of the real one.
    assert "24 numbers" in refuse(model, embedding_model_revision=COMMIT)
    assert open_model("somebody/else", trust_remote_code=True).encode_texts(["猫"]).shape == (1, 24)


@pytest.mark.parametrize(
    ("refusal", "expected"),
    [
        ((401, "", "Invalid credentials"), "HF_TOKEN"),
        ((404, "RepoNotFound", "Repository not found"), "neither a folder here nor a model on huggingface.co"),
        ((500, "", "Internal error"), "could not be reached"),
    ],
)
def test_every_refusal_of_the_hub_is_one_sentence(hub: FakeHub, refusal: tuple[int, str, str], expected: str) -> None:
    hub.refusals["somebody/clip"] = refusal
    assert expected in refuse("somebody/clip")


def test_no_network_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    point_client_at("http://127.0.0.1:9", tmp_path, monkeypatch)
    message = refuse("somebody/clip")
    assert "could not be reached" in message


def test_offline_by_wish_is_said_with_the_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    point_client_at("http://127.0.0.1:9", tmp_path, monkeypatch)
    assert "HF_HUB_OFFLINE" in refuse("somebody/clip")


def test_a_repository_without_weights_for_pytorch_is_refused(hub: FakeHub, tmp_path: Path) -> None:
    (tmp_path / "onnx-only").mkdir()
    (tmp_path / "onnx-only" / "config.json").write_text("{}")
    hub.repositories["somebody/onnx"] = tmp_path / "onnx-only"
    assert "no config.json with PyTorch weights" in refuse("somebody/onnx")


def test_a_name_that_cannot_be_a_model_is_refused_without_asking_anybody(hub: FakeHub) -> None:
    assert "no such folder" in refuse("a model with spaces")
    assert hub.requests == []


def test_weights_are_fetched_in_one_format_only() -> None:
    both = ["config.json", "model.safetensors", "pytorch_model.bin", "tf_model.h5", "vocab.json", "onnx/model.onnx"]
    assert choose_files(both) == ["config.json", "vocab.json", "model.safetensors"]
    shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    index = "model.safetensors.index.json"
    assert choose_files(["config.json", index, *shards, "model.fp16.safetensors"]) == ["config.json", index, *shards]
    assert choose_files(["config.json", "pytorch_model.bin", "training_args.bin"]) == [
        "config.json",
        "pytorch_model.bin",
    ]
    assert choose_files(["pytorch_model.bin"]) == []


def test_a_recommended_model_is_described_before_anything_is_downloaded(hub: FakeHub) -> None:
    encoder = open_model("llm-jp/waon-siglip2-base-patch16-256")
    assert (encoder.dimension, encoder.supports_text) == (768, True)
    assert not open_model("facebook/dinov2-base").supports_text
    assert hub.requests == []
