"""Prepare images and texts as a model was trained on them: pixels with Pillow alone, and token ids.

The processors of transformers give other pixels with torchvision than without, reject grey or palette images, and
unroll a 1 x 5000 strip to gigabytes. The arithmetic here equals that of their Pillow versions for RGB
images, whatever is installed, and handles the rest. Each family of models was trained on its own recipe for texts, and
a near miss is silently worse.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import ftfy
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

Pixels = npt.NDArray[np.float32]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# A strip longer than this is cut around its middle before it is enlarged; centre crops see only the middle anyway.
MAX_ASPECT = 20

# Written before 2022: one number for the size, which these kinds take as both sides and all others as the shorter one.
_SQUARE_BY_DEFAULT = ("ViT", "DeiT", "Siglip", "EfficientNet", "Blip", "Beit")
_CROPPED_BY_DEFAULT = ("CLIP", "ChineseCLIP", "Bit", "DeiT")


class UnknownPreprocessing(ValueError):
    """The configuration asks for steps that are not known here."""


@dataclass(frozen=True)
class Preprocessing:
    """Resize, cut, scale and shift.

    short_side:    length in pixels that the shorter side is brought to, keeping proportions; None otherwise.
    size:          (height, width) that the image is stretched to; None keeps it.
    crop:          (height, width) cut from the middle, with black where the image is smaller; None keeps all.
    table:         (3, 256) float32, the number for every value of every channel.
    """

    short_side: int | None
    size: tuple[int, int] | None
    crop: tuple[int, int] | None
    resample: int
    table: npt.NDArray[np.float32]

    @classmethod
    def standard(
        cls, size: int, resample: int, mean: Sequence[float], std: Sequence[float], short_side: int | None = None
    ) -> Preprocessing:
        """Shorter side to short_side (or size), the middle size x size, values to (x / 255 - mean) / std."""
        return cls(short_side or size, None, (size, size), resample, _tabulate(1 / 255, 0, mean, std))

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Preprocessing:
        """Read preprocessor_config.json, or processor_config.json where it holds the image processor.

        Raises UnknownPreprocessing for steps that are not known here.
        """
        config = config.get("image_processor", config)
        kind = str(config.get("image_processor_type") or config.get("feature_extractor_type") or "")
        for step in ("do_pad", "do_flip_channel_order", "do_image_splitting"):
            if config.get(step):
                raise UnknownPreprocessing(f"{kind or 'its image processor'} uses {step}")
        short_side, size, crop = None, None, None
        if config.get("do_resize", True):
            short_side, size = _read_size(config.get("size"), kind)
        if config.get("do_center_crop", kind.startswith(_CROPPED_BY_DEFAULT)):
            crop = _read_pair(config.get("crop_size", 224))
        if kind.startswith("ConvNext") and short_side is not None:
            # From 384 up the image is squeezed; below, a margin of 1 - crop_pct is cropped.
            if short_side >= 384:
                size, short_side = (short_side, short_side), None
            else:
                crop = (short_side, short_side)
                short_side = int(short_side / (config.get("crop_pct") or 224 / 256))
        resample = int(config.get("resample", Image.Resampling.BICUBIC))
        return cls(short_side, size, crop, resample, _read_table(config, kind))

    def __call__(self, image: Image.Image) -> Pixels:
        """The image as float32 of shape (3, height, width)."""
        image = to_rgb(image)
        if self.short_side is not None:
            image = _cut_strip(image)
            wanted, short = self.short_side, min(image.size)
            width, height = (wanted if side == short else int(wanted * side / short) for side in image.size)
            image = image.resize((width, height), self.resample)
        elif self.size is not None:
            image = image.resize(self.size[::-1], self.resample)
        if self.crop is not None:
            height, width = self.crop
            left, top = (image.width - width) // 2, (image.height - height) // 2
            image = image.crop((left, top, left + width, top + height))
        values = np.asarray(image)
        return np.stack([self.table[channel][values[..., channel]] for channel in range(3)])


def to_rgb(image: Image.Image) -> Image.Image:
    """Three channels of eight bits: transparency on white, sixteen bits scaled down instead of clipped."""
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image, dtype=np.float64)
        top = values.max(initial=0)
        scale = 255.0 if 0 < top <= 1 else 1.0 if top <= 255 else 1 / 257
        return Image.fromarray(np.clip(values * scale, 0, 255).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in image.info:
        paper = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(paper, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


def _cut_strip(image: Image.Image) -> Image.Image:
    longest = min(image.size) * MAX_ASPECT
    if max(image.size) <= longest:
        return image
    width, height = (min(side, longest) for side in image.size)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def _read_size(size: Any, kind: str) -> tuple[int | None, tuple[int, int] | None]:
    if isinstance(size, int):
        return (None, (size, size)) if kind.startswith(_SQUARE_BY_DEFAULT) else (size, None)
    if isinstance(size, Mapping) and size.get("height") and size.get("width"):
        return None, (int(size["height"]), int(size["width"]))
    if isinstance(size, Mapping) and size.get("shortest_edge") and not size.get("longest_edge"):
        return int(size["shortest_edge"]), None
    raise UnknownPreprocessing(f"{kind or 'its image processor'} resizes to {size}")


def _read_pair(size: Any) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (int(size["height"]), int(size["width"]))


def _read_table(config: Mapping[str, Any], kind: str) -> npt.NDArray[np.float32]:
    factor = float(config.get("rescale_factor", 1 / 255)) if config.get("do_rescale", True) else 1.0
    mean, std = config.get("image_mean", (0.5,) * 3), config.get("image_std", (0.5,) * 3)
    is_efficient_net = kind.startswith("EfficientNet")
    shift = 1.0 if is_efficient_net and config.get("rescale_offset") else 0.0
    if not config.get("do_normalize", True):
        mean, std = (0.0,) * 3, (1.0,) * 3
    table = _tabulate(factor, shift, mean, std)
    if is_efficient_net and config.get("include_top", True):
        # Its classifier was trained on values divided by the standard deviation twice.
        table = table / np.asarray(config.get("image_std", (0.5,) * 3), dtype=np.float32)[:, None]
    return table


def _tabulate(factor: float, shift: float, mean: Sequence[float], std: Sequence[float]) -> npt.NDArray[np.float32]:
    # A channel has only 256 values, so all arithmetic is done once, in float64.
    values = np.arange(256) * factor - shift
    return np.stack([(values - m) / s for m, s in zip(mean, std, strict=True)]).astype(np.float32)


Tokens = dict[str, torch.Tensor]


class Tokenize(Protocol):
    """The recipe of one family of models.

    length: of the longest query in tokens; the rest is cut off.
    """

    @property
    def length(self) -> int: ...

    def __call__(self, texts: Sequence[str]) -> Tokens:
        """Token ids of texts, each tensor of shape (n, length)."""

    def is_too_long(self, text: str) -> bool:
        """Whether tokens of this text are cut off."""


@dataclass(frozen=True)
class HubTokens:
    """The tokenizer of the checkpoint.

    length:     longest query in tokens; the rest is cut off.
    fixed:      SigLIP's way: padded to `length`, no mask, lower-case. Its text tower reads the last position, padding
                or not, and was trained on lower-case text, which not every tokenizer file says.
    """

    tokenizer: Any
    length: int
    fixed: bool = False

    def __call__(self, texts: Sequence[str]) -> Tokens:
        if self.fixed:
            tokens = self.tokenizer(
                [text.lower() for text in texts],
                padding="max_length", max_length=self.length, truncation=True, return_tensors="pt",
            )  # fmt: skip
            return {"input_ids": tokens["input_ids"]}
        tokens = self.tokenizer(list(texts), padding=True, max_length=self.length, truncation=True, return_tensors="pt")
        # Token types are all zero for single sentences, which is every model's default, and not every model takes them.
        return {name: tokens[name] for name in ("input_ids", "attention_mask")}

    def is_too_long(self, text: str) -> bool:
        text = text.lower() if self.fixed else text
        return len(self.tokenizer(text, truncation=False, verbose=False)["input_ids"]) > self.length


class JapaneseTokens:
    """The recipe of Japanese Stable CLIP, read from its sentencepiece model.

    Not by the tokenizer of transformers: T5Tokenizer of transformers 5 maps unknown characters to </s> for this
    vocabulary, and no version applies the lower-casing that the vocabulary (which has no capitals) was made for.
    """

    length = 77
    BEGIN = 1  # <s>, and not [CLS] as in other Japanese CLIP models
    PADDING = 3  # [PAD]

    def __init__(self, encode: Callable[[str], list[int]]) -> None:
        self._encode = encode

    @classmethod
    def from_folder(cls, folder: Path) -> JapaneseTokens:
        """Read spiece.model, or tokenizer.json where only that is there. Raises FileNotFoundError, ImportError."""
        for path in sorted(folder.glob("*.model")):
            from sentencepiece import SentencePieceProcessor

            return cls(SentencePieceProcessor(model_file=str(path)).encode)
        path = folder / "tokenizer.json"
        if not path.is_file():
            raise FileNotFoundError(f"spiece.model is missing in {folder}")
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(path))
        return cls(lambda text: list(tokenizer.encode(text, add_special_tokens=False).ids))

    def __call__(self, texts: Sequence[str]) -> Tokens:
        rows = [[self.BEGIN, *self._encode(clean_text(text))[: self.length - 1]] for text in texts]
        padded = [row + [self.PADDING] * (self.length - len(row)) for row in rows]
        mask = [[1] * len(row) + [0] * (self.length - len(row)) for row in rows]
        # Left out, RoBERTa counts positions from padding_idx + 1, which is not what it was trained with.
        positions = torch.arange(self.length).repeat(len(rows), 1)
        return {
            "input_ids": torch.tensor(padded),
            "attention_mask": torch.tensor(mask),
            "position_ids": positions,
        }

    def is_too_long(self, text: str) -> bool:
        return len(self._encode(clean_text(text))) > self.length - 1


def clean_text(text: str) -> str:
    """Repair broken encodings and HTML entities, normalise spaces, lower the case."""
    text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return re.sub(r"\s+", " ", text).strip().lower()
