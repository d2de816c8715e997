"""Every model of transformers with a tower for pictures and one for words: CLIP, SigLIP, Chinese-CLIP, ALIGN..."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import torch

from image_search.encoders.checkpoint import Checkpoint
from image_search.encoders.loading import load_network, load_tokenizer
from image_search.encoders.preprocessing import Preprocessing, UnknownPreprocessing
from image_search.encoders.texts import HubTokens, Tokenize, Tokens
from image_search.encoders.towers import Towers
from image_search.errors import ModelUnavailable

LONGEST_QUERY = 128


class TwoTowers(Towers):
    """A network with get_image_features and get_text_features."""

    def __init__(self, network: Any, prepare: Preprocessing, tokenize: Tokenize) -> None:
        super().__init__(network, prepare, read_scale(network))
        self._tokenize = tokenize

    def embed_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        return take_features(self.network.get_image_features(pixel_values=pixels))

    def tokenize(self, texts: Sequence[str]) -> Tokens:
        return self._tokenize(texts)

    def embed_tokens(self, tokens: Tokens) -> torch.Tensor:
        return take_features(self.network.get_text_features(**tokens))


class DualEncoderTowers(TwoTowers):
    """VisionTextDualEncoder, any two models side by side.

    Its own get_image_features hands convolutional models arguments they do not take (transformers 4) and projects
    their (n, channels, 1, 1) along the wrong side (all versions).
    """

    def embed_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        pooled = self.network.vision_model(pixel_values=pixels).pooler_output
        features: torch.Tensor = self.network.visual_projection(pooled.flatten(1))
        return features


def load_towers(checkpoint: Checkpoint) -> TwoTowers:
    """Load a checkpoint with the preprocessing and the tokenizer of its folder. Raises ModelUnavailable."""
    network = load_network(checkpoint)
    is_dual_encoder = checkpoint.config.get("model_type") == "vision-text-dual-encoder"
    if not (hasattr(network, "get_image_features") and hasattr(network, "get_text_features")):
        raise ModelUnavailable(
            f"{checkpoint.name} ({checkpoint.config.get('model_type')}) does not embed pictures and words in one "
            "space. Choose another EMBEDDING_MODEL, see docs/models.md."
        )
    towers = DualEncoderTowers if is_dual_encoder else TwoTowers
    return towers(network, read_preprocessing(checkpoint), choose_tokens(checkpoint, network))


def choose_tokens(checkpoint: Checkpoint, network: Any) -> HubTokens:
    """The checkpoint's tokenizer with the length and padding its family was trained with."""
    tokenizer = load_tokenizer(checkpoint)
    text_config = getattr(network.config, "text_config", None)
    positions = getattr(text_config, "max_position_embeddings", LONGEST_QUERY)
    if checkpoint.config.get("model_type") in ("siglip", "siglip2"):
        return HubTokens(tokenizer, positions, fixed=True)
    return HubTokens(tokenizer, min(positions, tokenizer.model_max_length, LONGEST_QUERY))


def read_preprocessing(checkpoint: Checkpoint, default: Preprocessing | None = None) -> Preprocessing:
    """Preprocessing by processor_config.json (transformers 5) or preprocessor_config.json, or else the default.

    Raises ModelUnavailable when there is neither, or when it asks for steps that are not known.
    """
    for name in ("processor_config.json", "preprocessor_config.json"):
        path = checkpoint.folder / name
        if not path.is_file():
            continue
        try:
            config = json.loads(path.read_text(encoding="utf-8"))
            # transformers 4 wrote a processor_config.json too, without anything about pictures in it.
            if name == "preprocessor_config.json" or "image_processor" in config:
                return Preprocessing.from_config(config)
        except UnknownPreprocessing as error:
            raise ModelUnavailable(
                f"{checkpoint.name} cannot be used: {error}, which is not supported. Choose another EMBEDDING_MODEL."
            ) from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModelUnavailable(
                f"{path} cannot be understood ({type(error).__name__}: {error}). Copy or download the model again."
            ) from error
    if default is not None:
        return default
    raise ModelUnavailable(
        f"{checkpoint.name} has no preprocessor_config.json in {checkpoint.folder}, so nothing says how pictures "
        "are fed to it. Copy or download the model again."
    )


def take_features(output: Any) -> torch.Tensor:
    """The embeddings themselves: transformers 4 returns them bare, transformers 5 as pooler_output."""
    features: torch.Tensor = output if torch.is_tensor(output) else output.pooler_output
    return features.flatten(1)


def read_scale(network: Any) -> float | None:
    """How the model was trained to scale inner products; ALIGN keeps the inverse."""
    if hasattr(network, "logit_scale"):
        return float(network.logit_scale.exp())
    if hasattr(network, "temperature"):
        return float(1 / network.temperature)
    return None
