"""Encoders with real checkpoints: embeddings, or an error that says why not."""

from __future__ import annotations

import functools
import importlib.metadata
import json
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from image_search.encoders import LazyEncoder, open_encoder, two_tower
from image_search.encoders.checkpoint import Checkpoint
from image_search.encoders.runner import Runner
from image_search.errors import ModelUnavailable, TextNotSupported
from image_search.settings import ROOT, Settings
from tests.fakes import checkpoints
from tests.fakes.checkpoints import get_checkpoint

TWO_TOWERS = ("clip", "siglip", "chinese_clip", "align", "dual_encoder")
IMAGES_ONLY = ("dinov2", "vit_classifier", "resnet")


def open_folder(folder: Path, **settings: Any) -> LazyEncoder:
    return open_encoder(Settings(embedding_model=str(folder), **settings))


def copy(folder: Path, to: Path) -> Path:
    return Path(shutil.copytree(folder, to / folder.name))


def draw(seed: int, size: tuple[int, int] = (48, 40)) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    return Image.fromarray(values)


# transformers 4 cannot run a VisionTextDualEncoder with a convolutional tower; this program can.
IS_OLD = importlib.metadata.version("transformers").startswith("4.")
COMPARABLE = [kind for kind in TWO_TOWERS if not (IS_OLD and kind == "dual_encoder")]


@pytest.mark.parametrize("kind", COMPARABLE)
def test_two_tower_model_gives_the_features_that_transformers_gives(kind: str) -> None:
    import torch
    from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

    folder, texts = get_checkpoint(kind), ["a red car", "夜の海と猫"]
    encoder = open_folder(folder)
    network = AutoModel.from_pretrained(folder).eval()
    processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    fixed = {"padding": "max_length", "max_length": 16} if kind == "siglip" else {"padding": True}
    tokens = tokenizer(texts, return_tensors="pt", truncation=True, **fixed)
    names = ["input_ids"] if kind == "siglip" else ["input_ids", "attention_mask"]
    with torch.inference_mode():
        images = network.get_image_features(**processor([draw(1), draw(2)], return_tensors="pt"))
        words = network.get_text_features(**{name: tokens[name] for name in names})
    for ours, theirs in ((encoder.encode_images([draw(1), draw(2)]), images), (encoder.encode_texts(texts), words)):
        theirs = theirs if torch.is_tensor(theirs) else theirs.pooler_output
        expected = torch.nn.functional.normalize(theirs, dim=-1).numpy()
        np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "kind", [*TWO_TOWERS, "resnet_dual_encoder", "levit_dual_encoder", *IMAGES_ONLY, "japanese_stable_clip", "vgg"]
)
def test_embeddings_are_float32_rows_of_length_one(kind: str) -> None:
    encoder = open_folder(get_checkpoint(kind), trust_remote_code=True)
    rows = [encoder.encode_images([draw(1), draw(2), draw(3)])]
    if encoder.supports_text:
        rows.append(encoder.encode_texts(["猫", "a red car", ""]))
    for embeddings in rows:
        assert embeddings.shape == (3, encoder.dimension)
        assert embeddings.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-6)
    assert np.abs(rows[0][0] - rows[0][1]).max() > 1e-3


@pytest.mark.parametrize("kind", ["clip", "siglip", "japanese_stable_clip"])
def test_embedding_does_not_depend_on_the_batch(kind: str) -> None:
    encoder = open_folder(get_checkpoint(kind), trust_remote_code=True)
    texts = ["猫", "a photo of a red car at dusk, seen from far away"]
    np.testing.assert_allclose(encoder.encode_texts(texts)[:1], encoder.encode_texts(texts[:1]), atol=1e-6)
    images = [draw(1), draw(2, (90, 33))]
    np.testing.assert_allclose(encoder.encode_images(images)[:1], encoder.encode_images(images[:1]), atol=1e-6)


def test_empty_batch_gives_no_rows_of_the_right_length() -> None:
    encoder = open_folder(get_checkpoint("clip"))
    assert encoder.encode_images([]).shape == (0, checkpoints.DIMENSION)
    assert encoder.encode_texts([]).shape == (0, checkpoints.DIMENSION)
    assert encoder._runner is None  # nothing was loaded for that


@pytest.mark.parametrize("kind", IMAGES_ONLY)
def test_model_for_images_says_which_setting_to_change_when_it_is_given_words(kind: str) -> None:
    encoder = open_folder(get_checkpoint(kind))
    assert not encoder.supports_text
    with pytest.raises(TextNotSupported, match=r"pictures only.*EMBEDDING_MODEL"):
        encoder.encode_texts(["猫"])


def test_model_for_words_only_is_refused() -> None:
    with pytest.raises(ModelUnavailable, match=r"bert.*does not embed pictures"):
        open_folder(get_checkpoint("bert")).load()


# Loading


def test_name_version_dimension_and_kind_are_known_without_loading_anything() -> None:
    program = (
        "import sys; from image_search.encoders import open_encoder; from image_search.settings import Settings\n"
        f"encoder = open_encoder(Settings(embedding_model={str(get_checkpoint('clip'))!r}))\n"
        "print(encoder.name, encoder.version, encoder.dimension, encoder.supports_text)\n"
        "assert not {'torch', 'transformers', 'huggingface_hub'} & sys.modules.keys()"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0, result.stderr
    name, version, dimension, supports_text = result.stdout.split()
    assert (name, dimension, supports_text) == ("clip", str(checkpoints.DIMENSION), "True")
    assert version == open_folder(get_checkpoint("clip")).version


def test_many_threads_load_one_model_and_get_the_same_embeddings(monkeypatch: pytest.MonkeyPatch) -> None:
    from image_search.encoders import runner

    starts = []
    start = runner.start_runner
    monkeypatch.setattr(runner, "start_runner", lambda *given: starts.append(given) or start(*given))
    encoder, found = open_folder(get_checkpoint("clip")), []
    threads = [threading.Thread(target=encoder.load)]
    threads += [
        threading.Thread(target=lambda: found.append((encoder.encode_images([draw(5)]), encoder.encode_texts(["猫"]))))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(starts) == 1
    assert len(found) == 8
    for images, texts in found:
        np.testing.assert_allclose(images, found[0][0], atol=1e-6)
        np.testing.assert_allclose(texts, found[0][1], atol=1e-6)


def test_model_that_could_not_be_loaded_is_tried_again(tmp_path: Path) -> None:
    encoder = open_folder(tmp_path / "clip")
    with pytest.raises(ModelUnavailable):
        encoder.load()
    with pytest.raises(ModelUnavailable, match="no such folder"):
        encoder.encode_texts(["猫"])
    copy(get_checkpoint("clip"), tmp_path)
    assert encoder.encode_texts(["猫"]).shape == (1, checkpoints.DIMENSION)


def test_weights_saved_in_half_precision_are_computed_in_float32(tmp_path: Path) -> None:
    encoder = open_folder(checkpoints.write_clip(tmp_path / "half", dtype="float16"))
    assert encoder.precision == "float32"
    assert encoder.encode_images([draw(1)]).dtype == np.float32


def test_folder_is_found_from_the_project_and_from_the_current_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy(get_checkpoint("clip"), tmp_path / "models")
    monkeypatch.chdir(tmp_path)
    assert open_encoder(Settings(embedding_model="models/clip")).dimension == checkpoints.DIMENSION
    assert open_encoder(Settings(embedding_model="./models/clip")).name == "clip"
    assert open_encoder(Settings(embedding_model="tests")).name == "tests"
    assert open_encoder(Settings(embedding_model="tests/fakes/remote_code/")).name == "tests/fakes/remote_code"


# Versions


def test_version_follows_the_weights_and_the_recipe_but_neither_dates_nor_notes(tmp_path: Path) -> None:
    folder = copy(get_checkpoint("clip"), tmp_path)
    version = open_folder(folder).version
    assert version == open_folder(get_checkpoint("clip")).version
    assert len(version) <= 50
    (folder / "README.md").write_text("a note")
    assert open_folder(folder).version == version
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (folder / "model.safetensors").write_bytes(weights)
    changed = open_folder(folder).version
    assert changed != version
    config = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").write_text(json.dumps(config | {"resample": 2}))
    assert open_folder(folder).version != changed


def test_large_files_are_sampled_all_over(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    size = 65 << 20
    versions = set()
    for offset in (None, 0, 40 << 20, 64 << 20):
        with (tmp_path / "model.safetensors").open("wb") as file:
            file.truncate(size)
            if offset is not None:
                file.seek(offset)
                file.write(b"trained")
        versions.add(open_folder(tmp_path).version)
    assert len(versions) == 4


# Code that comes with a model


def test_code_of_a_model_is_not_run_without_consent() -> None:
    with pytest.raises(ModelUnavailable, match=r"Python code of its own.*TRUST_REMOTE_CODE=1"):
        open_folder(get_checkpoint("japanese_stable_clip")).load()


def test_tables_that_older_code_builds_itself_are_right() -> None:
    import torch
    from safetensors.torch import load_file
    from transformers.dynamic_module_utils import get_class_from_dynamic_module

    folder = get_checkpoint("japanese_stable_clip")
    classes = json.loads((folder / "config.json").read_text())["auto_map"]
    config = get_class_from_dynamic_module(classes["AutoConfig"], folder).from_pretrained(folder)
    network = get_class_from_dynamic_module(classes["AutoModel"], folder)(config).eval()
    network.load_state_dict(load_file(folder / "model.safetensors"))
    encoder = open_folder(folder, trust_remote_code=True)
    tokens = encoder._start().towers.tokenize(["猫", "a red car"])
    with torch.inference_mode():
        expected = torch.nn.functional.normalize(network.get_text_features(**tokens), dim=-1).numpy()
    np.testing.assert_allclose(encoder.encode_texts(["猫", "a red car"]), expected, atol=1e-6)


def test_japanese_stable_clip_reads_text_by_its_own_recipe() -> None:
    from image_search.encoders.preprocessing import JapaneseTokens

    tokenize = JapaneseTokens.from_folder(get_checkpoint("japanese_stable_clip"))
    tokens = tokenize(["  a&amp;amp;lt;  photo\n of ", "BMW", "猫" * 200, "☃"])
    same = tokenize(["a&lt; photo of", "bmw"])
    assert {name: tuple(ids.shape) for name, ids in tokens.items()} == dict.fromkeys(
        ("input_ids", "attention_mask", "position_ids"), (4, 77)
    )
    ids, mask = tokens["input_ids"], tokens["attention_mask"]
    assert ids[:2].tolist() == same["input_ids"].tolist()
    assert ids[:, 0].tolist() == [1, 1, 1, 1]
    assert mask.sum(1)[2] == 77
    assert set(ids[0][mask[0] == 0].tolist()) == {3}
    assert tokens["position_ids"][3].tolist() == list(range(77))
    assert 0 in ids[3].tolist()  # an unknown character is <unk>
    assert 2 not in ids[3].tolist()  # and not </s>
    assert tokenize.is_too_long("猫" * 200) and not tokenize.is_too_long("a photo")


@pytest.mark.parametrize("family", ["clip", "siglip"])
def test_text_that_is_longer_than_the_model_takes_is_known(family: str) -> None:
    encoder = open_encoder(Settings(embedding_model=str(get_checkpoint(family)), device="cpu"))
    assert not encoder.is_too_long("a red car")
    assert encoder.is_too_long("a red car " * 200)


@functools.cache
def start_demo_model() -> Runner:
    return open_encoder(Settings(device="cpu"))._start()


@settings(deadline=None)  # the first example loads the model
@given(st.text(max_size=40))
@example("ﷺ" * 3)  # one character that is eighteen to a tokenizer
@example("🧑‍🚀" * 5)
def test_text_is_as_long_to_the_model_as_to_its_tokenizer(text: str) -> None:
    runner = start_demo_model()
    assert runner.is_too_long(text) == runner.towers.is_too_long(text)


def test_siglip_reads_text_in_lower_case() -> None:
    encoder = open_folder(get_checkpoint("siglip"))
    np.testing.assert_array_equal(encoder.encode_texts(["A Red CAR"]), encoder.encode_texts(["a red car"]))


def test_networks_are_read_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_slowly(checkpoint: Checkpoint) -> two_tower.VisionTower:
        running.append(checkpoint.name)
        most.append(len(running))
        time.sleep(0.05)
        running.pop()
        return load(checkpoint)

    running, most, load = list[str](), list[int](), two_tower.load_vision
    monkeypatch.setattr(two_tower, "load_vision", load_slowly)
    encoders = [open_folder(get_checkpoint("resnet")) for _ in range(3)]
    with ThreadPoolExecutor(3) as threads:
        list(threads.map(lambda encoder: encoder.encode_images([draw(1)]), encoders))
    assert most == [1, 1, 1]
