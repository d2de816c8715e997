"""Models from the hub: what is downloaded, what is kept, and what is said when it cannot be had.

A small server stands in for huggingface.co, so that the real client is what is tested.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from image_search.encoders import LazyEncoder, open_encoder
from image_search.encoders.hub import DownloadStopped, choose_files, fetch_folder
from image_search.errors import ModelUnavailable
from image_search.settings import Settings
from tests.fakes.checkpoints import get_checkpoint
from tests.fakes.hub import COMMIT, FakeHub, serve_hub

TOKEN = "hf_averysecrettokenthatnobodymaysee"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    from huggingface_hub import constants

    with serve_hub() as (fake, endpoint):
        point_client_at(endpoint, tmp_path, monkeypatch)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        yield fake


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


def test_model_is_downloaded_once_and_then_needs_no_network(hub: FakeHub) -> None:
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


def test_download_that_was_cut_off_is_taken_up_again(hub: FakeHub, tmp_path: Path) -> None:
    hub.repositories["somebody/clip"] = get_checkpoint("clip")
    assert open_model("somebody/clip").version
    next((tmp_path / "hub").rglob("snapshots/*/model.safetensors")).unlink()
    open_model("somebody/clip").load()


def test_download_that_broke_off_goes_on_where_it_ended(hub: FakeHub) -> None:
    hub.repositories["somebody/clip"] = get_checkpoint("clip")
    size = (get_checkpoint("clip") / "model.safetensors").stat().st_size
    hub.breaks_after = size // 2
    told: list[tuple[int, int]] = []
    with pytest.raises(ModelUnavailable) as raised:
        fetch_folder("somebody/clip", "", TOKEN, lambda done, total: told.append((done, total)) is None)
    assert raised.value.code == "offline"
    hub.is_down = False
    folder = fetch_folder("somebody/clip", "", TOKEN, lambda done, total: told.append((done, total)) is None)
    assert hub.ranges[-1] == f"bytes={size // 2 // 65536 * 65536}-"
    assert (folder / "model.safetensors").read_bytes() == (get_checkpoint("clip") / "model.safetensors").read_bytes()
    total = sum((folder / name).stat().st_size for name in choose_files([path.name for path in folder.iterdir()]))
    assert told[-1] == (total, total)


def test_download_ends_when_its_caller_wants_no_more(hub: FakeHub) -> None:
    hub.repositories["somebody/clip"] = get_checkpoint("clip")
    with pytest.raises(DownloadStopped):
        fetch_folder("somebody/clip", "", TOKEN, lambda done, _: done == 0)
    assert fetch_folder("somebody/clip", "", TOKEN).name == COMMIT


def test_weights_that_arrive_damaged_are_not_kept(hub: FakeHub, tmp_path: Path) -> None:
    hub.repositories["somebody/clip"] = get_checkpoint("clip")
    with pytest.raises(DownloadStopped):
        fetch_folder("somebody/clip", "", TOKEN, lambda done, _: done < 150_000)
    [part] = (tmp_path / "hub").rglob("*.part")
    part.write_bytes(b"x" * max(part.stat().st_size, 1000))
    with pytest.raises(ModelUnavailable, match="arrived damaged"):
        fetch_folder("somebody/clip", "", TOKEN)
    assert fetch_folder("somebody/clip", "", TOKEN).name == COMMIT


def test_two_downloads_of_one_model_at_once_leave_it_whole(hub: FakeHub, tmp_path: Path) -> None:
    hub.repositories["somebody/clip"] = get_checkpoint("clip")
    hub.may_send.clear()
    waits = threading.Event()
    told = [0]

    def look(done: int, _: int) -> bool:
        if done == told[-1] > 0:  # nothing has come since the last look
            waits.set()
        told.append(done)
        return True

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(fetch_folder, "somebody/clip", "", TOKEN)
        while not list((tmp_path / "hub").rglob("*.part")):
            time.sleep(0.01)
        second = pool.submit(fetch_folder, "somebody/clip", "", TOKEN, look)
        assert waits.wait(20)
        hub.may_send.set()
        assert first.result() == second.result()
    gets = [request for request in hub.requests if request.startswith("GET") and request.endswith("model.safetensors")]
    assert len(gets) == 1
    check_files(first.result(), get_checkpoint("clip"))


def test_download_that_waits_for_another_ends_when_its_caller_wants_no_more(hub: FakeHub, tmp_path: Path) -> None:
    hub.repositories["somebody/clip"] = get_checkpoint("clip")
    hub.may_send.clear()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(fetch_folder, "somebody/clip", "", TOKEN)
        while not list((tmp_path / "hub").rglob("*.part")):
            time.sleep(0.01)
        end = time.monotonic() + 1
        with pytest.raises(DownloadStopped):
            fetch_folder("somebody/clip", "", TOKEN, lambda *_: time.monotonic() < end)
        hub.may_send.set()
        check_files(first.result(), get_checkpoint("clip"))


@pytest.mark.parametrize("is_linked", [True, False], ids=["linked", "copied"])
@pytest.mark.parametrize(
    "content", ['{"weight_map"', "{}", "[]", '{"weight_map": {"a": "model-00009-of-9.safetensors"}}']
)
def test_damaged_index_in_the_cache_is_downloaded_once_more(
    hub: FakeHub, tmp_path: Path, content: str, is_linked: bool
) -> None:
    shutil.copytree(get_checkpoint("clip"), tmp_path / "clip")
    index = '{"weight_map": {"a": "model.safetensors"}}'
    (tmp_path / "clip" / "model.safetensors.index.json").write_text(index)
    hub.repositories["somebody/clip"] = tmp_path / "clip"
    kept = fetch_folder("somebody/clip", "", TOKEN) / "model.safetensors.index.json"
    if is_linked:
        kept.resolve().write_text(content)
    else:
        kept.unlink()
        kept.write_text(content)
    check_files(fetch_folder("somebody/clip", "", TOKEN), tmp_path / "clip")
    assert kept.read_text() == index


def check_files(folder: Path, source: Path) -> None:
    for path in folder.iterdir():
        assert path.read_bytes() == (source / path.name).read_bytes()


def test_damaged_model_in_the_cache_names_the_folder_to_delete(hub: FakeHub, tmp_path: Path) -> None:
    hub.repositories["somebody/clip"] = get_checkpoint("clip")
    (fetch_folder("somebody/clip", "", TOKEN) / "tokenizer.json").resolve().write_text("{}}")
    folder = tmp_path / "hub" / "models--somebody--clip"
    assert f"Delete {folder}, so that the model is downloaded again" in refuse("somebody/clip")
    shutil.rmtree(folder)
    open_model("somebody/clip").load()


def test_revision_is_pinned(hub: FakeHub) -> None:
    hub.repositories["somebody/clip"] = get_checkpoint("clip")
    assert open_model("somebody/clip", embedding_model_revision=COMMIT).version.startswith(COMMIT[:12])
    message = refuse("somebody/clip", embedding_model_revision="v9")
    assert "no revision v9" in message
    assert "EMBEDDING_MODEL_REVISION" in message


@pytest.mark.parametrize("is_listed", [True, False], ids=["files are gated", "all is gated"])
def test_gated_model_says_where_to_accept_the_licence(hub: FakeHub, is_listed: bool) -> None:
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


def test_repository_without_weights_for_pytorch_is_refused(hub: FakeHub, tmp_path: Path) -> None:
    (tmp_path / "onnx-only").mkdir()
    (tmp_path / "onnx-only" / "config.json").write_text("{}")
    hub.repositories["somebody/onnx"] = tmp_path / "onnx-only"
    assert "no config.json with PyTorch weights" in refuse("somebody/onnx")


def test_name_that_cannot_be_a_model_is_refused_without_asking_anybody(hub: FakeHub) -> None:
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


def test_recommended_model_is_described_before_anything_is_downloaded(hub: FakeHub) -> None:
    encoder = open_model("llm-jp/waon-siglip2-base-patch16-256")
    assert (encoder.dimension, encoder.supports_text) == (768, True)
    assert not open_model("facebook/dinov2-base").supports_text
    assert hub.requests == []
