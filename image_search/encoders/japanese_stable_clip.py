"""stabilityai/japanese-stable-clip-vit-l-16: its own code, its own text recipe."""

from __future__ import annotations

from PIL import Image

from image_search.encoders.checkpoint import Checkpoint
from image_search.encoders.clip import TwoTowers, read_preprocessing
from image_search.encoders.loading import load_network
from image_search.encoders.preprocessing import Preprocessing
from image_search.encoders.texts import JapaneseTokens
from image_search.errors import ModelUnavailable

_HALF = (0.5, 0.5, 0.5)


def load_towers(checkpoint: Checkpoint) -> TwoTowers:
    """Load the checkpoint by the code in its folder. Raises ModelUnavailable."""
    try:
        tokenize = JapaneseTokens.from_folder(checkpoint.folder)
    except ImportError as error:
        raise ModelUnavailable(
            f"The tokenizer of {checkpoint.name} needs a package: pip install sentencepiece"
        ) from error
    prepare = read_preprocessing(checkpoint, Preprocessing.standard(224, Image.Resampling.BICUBIC, _HALF, _HALF))
    return TwoTowers(load_network(checkpoint), prepare, tokenize)
