"""Pixels as the processors of transformers make them, and sensible ones where those fail."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from image_search.encoders.preprocessing import Preprocessing, UnknownPreprocessing, to_rgb
from tests.fakes.checkpoints import CLIP_VALUES, CROP, HALF, SQUARE, write_preprocessing

RECIPES: dict[str, tuple[str, dict[str, Any]]] = {
    "clip": ("CLIPImageProcessor", CROP | CLIP_VALUES),
    "crop larger than the picture": (
        "CLIPImageProcessor",
        CROP | CLIP_VALUES | {"crop_size": {"height": 41, "width": 55}},
    ),
    "siglip": ("SiglipImageProcessor", SQUARE | HALF),
    "chinese_clip": ("ChineseCLIPImageProcessor", SQUARE | CLIP_VALUES),
    "dinov2": ("BitImageProcessor", CROP | CLIP_VALUES | {"size": {"shortest_edge": 40}}),
    "vit": ("ViTImageProcessor", SQUARE | HALF | {"resample": 2}),
    "deit": ("DeiTImageProcessor", CROP | HALF | {"size": {"height": 48, "width": 40}}),
    "convnext": ("ConvNextImageProcessor", {"size": {"shortest_edge": 28}, "crop_pct": 0.9} | HALF),
    "convnext from 384": ("ConvNextImageProcessor", {"size": {"shortest_edge": 384}, "crop_pct": 0.9} | HALF),
    "align": (
        "EfficientNetImageProcessor",
        SQUARE
        | HALF
        | {"rescale_offset": True, "rescale_factor": 1 / 127.5, "do_normalize": False, "include_top": False},
    ),
    "efficientnet": ("EfficientNetImageProcessor", SQUARE | HALF | {"include_top": True, "image_std": [0.4, 0.5, 0.6]}),
    "nothing but values": ("CLIPImageProcessor", CLIP_VALUES | {"do_resize": False, "do_center_crop": False}),
}


def draw(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(7).integers(0, 256, (height, width, 3), dtype=np.uint8))


def read(folder: Path) -> Preprocessing:
    path = next(folder.glob("*processor_config.json"))
    return Preprocessing.from_config(json.loads(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("nested", [False, True], ids=["transformers 4", "transformers 5"])
@pytest.mark.parametrize("recipe", RECIPES)
def test_rgb_images_become_what_the_processor_of_transformers_makes_of_them(
    recipe: str, nested: bool, tmp_path: Path
) -> None:
    from transformers import AutoImageProcessor

    kind, values = RECIPES[recipe]
    theirs = AutoImageProcessor.from_pretrained(write_preprocessing(tmp_path / "theirs", kind, values), backend="pil")
    ours = read(write_preprocessing(tmp_path / "ours", kind, values, nested=nested))
    for size in ((50, 70), (70, 50), (33, 33), (32, 32), (31, 200), (5, 9)):
        expected = theirs(draw(*size), return_tensors="np")["pixel_values"][0]
        np.testing.assert_allclose(ours(draw(*size)), expected, rtol=0, atol=1e-6)


def test_sizes_written_as_one_number_mean_what_their_kind_means_by_it() -> None:
    old = {"size": 32, "crop_size": 28, "do_center_crop": True, "resample": 3, **HALF}
    assert Preprocessing.from_config(old | {"feature_extractor_type": "CLIPFeatureExtractor"})(draw(64, 90)).shape == (
        3,
        28,
        28,
    )
    whole = Preprocessing.from_config({"size": 32, "feature_extractor_type": "ViTFeatureExtractor", **HALF})
    assert whole(draw(64, 90)).shape == (3, 32, 32)


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (20000, 10)])
def test_dots_and_strips_are_prepared_without_eating_the_memory(size: tuple[int, int]) -> None:
    pixels = Preprocessing.standard(32, 3, (0.5,) * 3, (0.5,) * 3)(Image.new("RGB", size, "red"))
    assert pixels.shape == (3, 32, 32)
    np.testing.assert_allclose(pixels[:, 16, 16], [1, -1, -1])


@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        (Image.new("L", (4, 4), 128), (128, 128, 128)),
        (Image.new("1", (4, 4), 1), (255, 255, 255)),
        (Image.new("CMYK", (4, 4), (0, 255, 255, 0)), (255, 0, 0)),
        (Image.new("RGBA", (4, 4), (255, 0, 0, 0)), (255, 255, 255)),
        (Image.new("LA", (4, 4), (0, 0)), (255, 255, 255)),
        (Image.new("P", (4, 4), 0), (0, 0, 0)),
        (Image.new("I;16", (4, 4), 65535), (255, 255, 255)),
        (Image.new("I", (4, 4), 32896), (128, 128, 128)),
        (Image.new("F", (4, 4), 0.5), (127, 127, 127)),
        (Image.new("YCbCr", (4, 4), (255, 128, 128)), (255, 255, 255)),
    ],
    ids=lambda value: value.mode if isinstance(value, Image.Image) else "",
)
def test_every_colour_mode_becomes_eight_bit_rgb(picture: Image.Image, expected: tuple[int, int, int]) -> None:
    assert to_rgb(picture).mode == "RGB"
    assert to_rgb(picture).getpixel((1, 1)) == expected


def test_palette_with_a_transparent_colour_lies_on_white() -> None:
    picture = Image.new("P", (4, 4), 0)
    picture.info["transparency"] = 0
    assert to_rgb(picture).getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize(
    "config",
    [
        {"do_pad": True, "size": SQUARE["size"]},
        {"size": {"longest_edge": 512}},
        {"image_processor_type": "Siglip2ImageProcessor", "max_num_patches": 256},
    ],
)
def test_steps_that_are_not_known_are_refused_instead_of_left_out(config: dict[str, Any]) -> None:
    with pytest.raises(UnknownPreprocessing):
        Preprocessing.from_config(config | HALF)
