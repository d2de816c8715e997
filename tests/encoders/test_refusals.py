"""Refusals of a checkpoint, a device or a precision that an encoder cannot use, and its own choices."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from image_search.encoders import LazyEncoder, open_encoder
from image_search.errors import EncoderError, ModelUnavailable
from image_search.settings import Settings
from tests.fakes import checkpoints
from tests.fakes.checkpoints import get_checkpoint


def open_folder(folder: Path, **settings: Any) -> LazyEncoder:
    return open_encoder(Settings(embedding_model=str(folder), **settings))


def copy(folder: Path, to: Path) -> Path:
    return Path(shutil.copytree(folder, to / folder.name))


def draw(seed: int, size: tuple[int, int] = (48, 40)) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    return Image.fromarray(values)


def rewrite_weights(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    from safetensors.torch import load_file, save_file

    state = {name: tensor.clone() for name, tensor in load_file(folder / "model.safetensors").items()}
    change(state)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def test_missing_weights_are_refused_by_name(tmp_path: Path) -> None:
    folder = copy(get_checkpoint("clip"), tmp_path)
    rewrite_weights(folder, lambda state: state.pop("visual_projection.weight"))
    with pytest.raises(ModelUnavailable, match=r"lacks 1 of the weights.*visual_projection\.weight"):
        open_folder(folder).load()


def test_missing_weights_of_a_model_with_its_own_code_are_refused(tmp_path: Path) -> None:
    folder = copy(get_checkpoint("japanese_stable_clip"), tmp_path)
    rewrite_weights(folder, lambda state: state.pop("text_projection.weight"))
    with pytest.raises(ModelUnavailable, match=r"lacks 1 of the weights.*text_projection"):
        open_folder(folder, trust_remote_code=True).load()


def test_weights_of_another_shape_are_refused(tmp_path: Path) -> None:
    folder = copy(get_checkpoint("clip"), tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"projection_dim": 16}))
    with pytest.raises(ModelUnavailable, match="EMBEDDING_MODEL"):
        open_folder(folder).load()


def test_model_that_computes_nonsense_is_refused(tmp_path: Path) -> None:
    folder = copy(get_checkpoint("clip"), tmp_path)
    rewrite_weights(folder, lambda state: state["visual_projection.weight"].fill_(float("nan")))
    with pytest.raises(ModelUnavailable, match="not finite"):
        open_folder(folder).load()


def test_embedding_that_is_not_finite_is_an_error_and_not_a_result() -> None:
    encoder = open_folder(get_checkpoint("clip"))
    encoder.load()
    encoder._start().towers.network.text_projection.weight.data.fill_(float("inf"))
    with pytest.raises(EncoderError, match=r"not finite.*EMBEDDING_MODEL"):
        encoder.encode_texts(["猫"])
    assert encoder.encode_images([draw(1)]).shape == (1, checkpoints.DIMENSION)


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def write(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(content) and None


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (remove("config.json"), r"has no config\.json"),
        (write("config.json", b"{"), r"config\.json cannot be read"),
        (write("config.json", b"[]"), r"config\.json is not a model's configuration"),
        (write("config.json", b'{"model_type": "nobody_knows", "text_config": {}}'), "cannot be loaded.*nobody_knows"),
        (remove("model.safetensors"), "cannot be loaded"),
        (write("model.safetensors", b"version https://git-lfs.github.com/spec/v1\noid"), "git lfs pull"),
        (write("model.safetensors", bytes(500)), "cannot be loaded"),
        (remove("preprocessor_config.json"), r"no preprocessor_config\.json"),
        (write("preprocessor_config.json", b"{}"), "is not supported"),
        (write("preprocessor_config.json", b"nothing"), r"preprocessor_config\.json cannot be understood"),
        (remove("tokenizer.json"), "cannot be loaded"),
    ],
)
def test_spoilt_folder_is_one_sentence(
    spoil: Callable[[Path], None], message: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = copy(get_checkpoint("clip"), tmp_path)
    spoil(folder)
    with pytest.raises(ModelUnavailable, match=message) as raised:
        open_folder(folder).load()
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 600
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("model", ["demo/no-such-model", "/no/such/folder", "../nowhere", "C:\\models\\clip"])
def test_folder_that_is_not_there_is_said_at_once(model: str) -> None:
    encoder = open_encoder(Settings(embedding_model=model))
    with pytest.raises(ModelUnavailable, match="no such folder"):
        encoder.load()
    assert encoder.supports_text


# Device and precision


def test_cuda_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ModelUnavailable, match=r"DEVICE is cuda, but .* Set DEVICE to auto or cpu"):
        open_folder(get_checkpoint("clip"), device="cuda").load()
    assert open_folder(get_checkpoint("clip"), device="auto").device == "cpu"


def test_float16_on_a_processor_is_refused() -> None:
    with pytest.raises(ModelUnavailable, match="PRECISION float16 needs a GPU"):
        open_folder(get_checkpoint("clip"), device="cpu", precision="float16").load()


@pytest.mark.parametrize("kind", ["clip", "siglip", "levit_dual_encoder"])
def test_bfloat16_gives_nearly_the_same_embeddings_and_the_same_version(kind: str) -> None:
    exact = open_folder(get_checkpoint(kind), device="cpu", precision="float32")
    rounded = open_folder(get_checkpoint(kind), device="cpu", precision="bfloat16")
    images, texts = [draw(1), draw(2)], ["猫", "a red car"]
    assert rounded.precision == "bfloat16"
    assert rounded.version == exact.version
    for one, other in (
        (exact.encode_images(images), rounded.encode_images(images)),
        (exact.encode_texts(texts), rounded.encode_texts(texts)),
    ):
        assert (one * other).sum(1).min() > 0.999
        assert other.dtype == np.float32


@pytest.mark.parametrize(
    ("parameters", "native", "expected"),
    [(400_000_000, True, "bfloat16"), (400_000_000, False, "float32"), (5_000_000, True, "float32")],
)
def test_processor_computes_in_bfloat16_only_where_that_pays(
    parameters: int, native: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from image_search.encoders import runner as devices

    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": native, "amx_bf16": False})
    assert devices.choose_dtype("auto", torch.device("cpu"), parameters) == getattr(torch, expected)


def test_model_that_does_not_bear_rounding_stays_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from image_search.encoders import runner

    plain = open_folder(get_checkpoint("clip"), device="cpu", precision="float32").encode_images([draw(1)])
    monkeypatch.setattr(runner, "choose_dtype", lambda *_: torch.bfloat16)
    assert open_folder(get_checkpoint("clip"), device="cpu").precision == "bfloat16"
    monkeypatch.setattr(runner, "MIN_COSINE", 1.1)
    exact = open_folder(get_checkpoint("clip"), device="cpu")
    assert exact.precision == "float32"
    np.testing.assert_array_equal(exact.encode_images([draw(1)]), plain)
