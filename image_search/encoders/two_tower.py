"""Models of transformers, with a tower for images and one for texts, or for images alone: loaded whole, or refused.

Two towers: CLIP, SigLIP, Chinese-CLIP, ALIGN and others. Images alone: DINOv2 and 3, ViT, ResNet, ConvNeXt and whatever
AutoModel feeds with pixels. A network with missing weights is refused: they would be uninitialised memory.
"""

from __future__ import annotations

import importlib.util
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from image_search.encoders.checkpoint import Checkpoint, advise_again
from image_search.encoders.hub import set_hub_environment
from image_search.encoders.preprocessing import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    HubTokens,
    JapaneseTokens,
    Preprocessing,
    Tokenize,
    Tokens,
    UnknownPreprocessing,
)
from image_search.errors import ModelUnavailable, TextNotSupported

_SENTENCEPIECE_FILES = ("spiece.model", "tokenizer.model", "sentencepiece.bpe.model")


def import_transformers() -> Any:
    """transformers without its progress bars, advice and telemetry."""
    set_hub_environment()
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return transformers


def _load_network(checkpoint: Checkpoint, optional_part: str = "") -> torch.nn.Module:
    """Load the network by AutoModel: float32, on the CPU, ready for inference.

    optional_part: a part that is taken out again when the checkpoint has no weights for it.
    Raises ModelUnavailable when weights are missing or do not fit.
    """
    transformers = import_transformers()
    if "auto_map" in checkpoint.config:
        patch_legacy_transformers(transformers)
    _refuse_pointer_files(checkpoint)
    network, report = transformers.AutoModel.from_pretrained(
        checkpoint.folder, trust_remote_code=checkpoint.remote_code, output_loading_info=True
    )
    missing = set(report["missing_keys"])
    if type(network).__module__.startswith("transformers_modules"):
        network = _rebuild(network, checkpoint.folder, missing)
    lacking = missing & {name for name, _ in network.named_parameters()}
    if optional_part and any(name.startswith(optional_part + ".") for name in lacking):
        setattr(network, optional_part, None)
        lacking &= {name for name, _ in network.named_parameters()}
    _refuse_incomplete(checkpoint, lacking, [row[0] for row in report["mismatched_keys"]])
    return finish(network)


def finish(network: torch.nn.Module) -> torch.nn.Module:
    """float32 whatever the checkpoint was saved in, dropout off, no gradients."""
    return network.float().eval().requires_grad_(False)


def _refuse_incomplete(checkpoint: Checkpoint, missing: Iterable[str], mismatched: Iterable[str] = ()) -> None:
    """Raise ModelUnavailable when weights are missing or have another shape."""
    missing, mismatched = sorted(missing), sorted(mismatched)
    if missing or mismatched:
        what = f"lacks {len(missing)}" if missing else f"has another shape in {len(mismatched)}"
        raise ModelUnavailable(
            f"{checkpoint.name} {what} of the weights its configuration asks for (such as "
            f"{(missing + mismatched)[0]}). {advise_again(checkpoint.folder)}, or choose another EMBEDDING_MODEL."
        )


def _load_weights(folder: Path) -> dict[str, torch.Tensor]:
    """All tensors of a checkpoint by the names in its files, read from the disk only where they are looked at."""
    tensors: dict[str, torch.Tensor] = {}
    for path in sorted(folder.glob("*.safetensors")):
        tensors.update(load_file(path))
    if not tensors:
        for path in sorted(folder.glob("pytorch_model*.bin")):
            tensors.update(torch.load(path, map_location="cpu", mmap=True, weights_only=True))
    return tensors


def load_tokenizer(checkpoint: Checkpoint) -> Any:
    """The tokenizer by AutoTokenizer. Raises ModelUnavailable when it needs sentencepiece, which is not installed."""
    folder = checkpoint.folder
    names = {path.name for path in folder.iterdir()}
    is_sentencepiece = "tokenizer.json" not in names and not names.isdisjoint(_SENTENCEPIECE_FILES)
    if is_sentencepiece and importlib.util.find_spec("sentencepiece") is None:
        raise ModelUnavailable(f"The tokenizer of {checkpoint.name} needs a package: pip install sentencepiece")
    transformers = import_transformers()
    config = (
        json.loads((folder / "tokenizer_config.json").read_text("utf-8")) if "tokenizer_config.json" in names else {}
    )
    if config.get("tokenizer_class") == "TokenizersBackend":
        # Written by transformers 5, which renamed this class; both versions know it by the older name.
        return transformers.PreTrainedTokenizerFast.from_pretrained(folder)
    return transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=checkpoint.remote_code)


def _rebuild(network: Any, folder: Path, missing: set[str]) -> torch.nn.Module:
    """Build the network again with real memory and copy the weights over.

    transformers 5 builds networks without memory and fills in what the checkpoint holds. Code written before that
    makes tables (position ids, rotary angles) while it is built; they would be left as whatever the memory held.
    """
    stored = _load_weights(folder).keys()
    buffers = {name for name, _ in network.named_buffers()}
    state = {
        name: tensor
        for name, tensor in network.state_dict().items()
        if name not in missing and (name not in buffers or name in stored)
    }
    fresh: torch.nn.Module = type(network)(network.config)
    fresh.load_state_dict(state, strict=False)
    return fresh


def _refuse_pointer_files(checkpoint: Checkpoint) -> None:
    for path in (*checkpoint.folder.glob("*.safetensors"), *checkpoint.folder.glob("*.bin")):
        with path.open("rb") as file:
            if file.read(24) == b"version https://git-lfs.":
                raise ModelUnavailable(
                    f"{path} holds only a pointer to the weights. Run `git lfs pull` in {checkpoint.folder}."
                )


def patch_legacy_transformers(transformers: Any) -> None:
    """Restore two names that code on the hub still uses; harmless for other models."""
    from transformers import modeling_utils
    from transformers.utils import generic

    if not hasattr(modeling_utils, "ModelOutput"):
        modeling_utils.ModelOutput = generic.ModelOutput
    if not hasattr(transformers.PreTrainedModel, "all_tied_weights_keys"):
        transformers.PreTrainedModel.all_tied_weights_keys = {}


# The interface of every loaded model, whatever its family.


class Towers(ABC):
    """A network with its preprocessing. Tensors are on the device and in the precision of the network.

    max_tokens: of a text, the rest of which is cut off.
    """

    max_tokens = 0

    def __init__(self, network: Any, prepare: Preprocessing) -> None:
        self.network = network
        self.prepare = prepare

    @abstractmethod
    def embed_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        """Embeddings (n, dimension), of any length, of pixels (n, 3, height, width)."""

    def tokenize(self, texts: Sequence[str]) -> Tokens:
        """Token ids of texts, each tensor of shape (n, length)."""
        raise TextNotSupported("This model embeds pictures only.")

    def is_too_long(self, text: str) -> bool:
        """Whether tokens of this text are cut off."""
        return False

    def embed_tokens(self, tokens: Tokens) -> torch.Tensor:
        """Embeddings (n, dimension), of any length."""
        raise TextNotSupported("This model embeds pictures only.")


MAX_QUERY_TOKENS = 128


class TwoTowers(Towers):
    """A network with get_image_features and get_text_features."""

    def __init__(self, network: Any, prepare: Preprocessing, tokenize: Tokenize) -> None:
        super().__init__(network, prepare)
        self._tokenize = tokenize
        self.max_tokens = tokenize.length

    def embed_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        return pooled_features(self.network.get_image_features(pixel_values=pixels))

    def tokenize(self, texts: Sequence[str]) -> Tokens:
        return self._tokenize(texts)

    def is_too_long(self, text: str) -> bool:
        return self._tokenize.is_too_long(text)

    def embed_tokens(self, tokens: Tokens) -> torch.Tensor:
        return pooled_features(self.network.get_text_features(**tokens))


class DualEncoderTowers(TwoTowers):
    """VisionTextDualEncoder, any two models side by side.

    Its own get_image_features hands convolutional models arguments they do not take (transformers 4) and projects
    their (n, channels, 1, 1) along the wrong side (all versions).
    """

    def embed_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        pooled = self.network.vision_model(pixel_values=pixels).pooler_output
        features: torch.Tensor = self.network.visual_projection(pooled.flatten(1))
        return features


def load_clip(checkpoint: Checkpoint) -> TwoTowers:
    """Load a checkpoint with the preprocessing and the tokenizer of its folder. Raises ModelUnavailable."""
    network = _load_network(checkpoint)
    is_dual_encoder = checkpoint.config.get("model_type") == "vision-text-dual-encoder"
    if not (hasattr(network, "get_image_features") and hasattr(network, "get_text_features")):
        raise ModelUnavailable(
            f"{checkpoint.name} ({checkpoint.config.get('model_type')}) does not embed pictures and words in one "
            "space. Choose another EMBEDDING_MODEL, see docs/models.md."
        )
    towers = DualEncoderTowers if is_dual_encoder else TwoTowers
    return towers(network, read_preprocessing(checkpoint), load_text_processor(checkpoint, network))


def load_text_processor(checkpoint: Checkpoint, network: Any) -> HubTokens:
    """The checkpoint's tokenizer with the length and padding its family was trained with."""
    tokenizer = load_tokenizer(checkpoint)
    text_config = getattr(network.config, "text_config", None)
    positions = getattr(text_config, "max_position_embeddings", MAX_QUERY_TOKENS)
    if checkpoint.config.get("model_type") in ("siglip", "siglip2"):
        return HubTokens(tokenizer, positions, fixed=True)
    return HubTokens(tokenizer, min(positions, tokenizer.model_max_length, MAX_QUERY_TOKENS))


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
            # transformers 4 wrote a processor_config.json too, without anything about images in it.
            if name == "preprocessor_config.json" or "image_processor" in config:
                return Preprocessing.from_config(config)
        except UnknownPreprocessing as error:
            raise ModelUnavailable(
                f"{checkpoint.name} cannot be used: {error}, which is not supported. Choose another EMBEDDING_MODEL."
            ) from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModelUnavailable(
                f"{path} cannot be understood ({type(error).__name__}: {error}). {advise_again(path.parent)}."
            ) from error
    if default is not None:
        return default
    raise ModelUnavailable(
        f"{checkpoint.name} has no preprocessor_config.json in {checkpoint.folder}, so nothing says how pictures "
        f"are fed to it. {advise_again(checkpoint.folder)}."
    )


def pooled_features(output: Any) -> torch.Tensor:
    """The embeddings themselves: transformers 4 returns them bare, transformers 5 as pooler_output."""
    features: torch.Tensor = output if torch.is_tensor(output) else output.pooler_output
    return features.flatten(1)


# stabilityai/japanese-stable-clip-vit-l-16: its own code, its own text recipe.

_HALF = (0.5, 0.5, 0.5)


def load_japanese_stable_clip(checkpoint: Checkpoint) -> TwoTowers:
    """Load the checkpoint by the code in its folder. Raises ModelUnavailable."""
    try:
        tokenize = JapaneseTokens.from_folder(checkpoint.folder)
    except ImportError as error:
        raise ModelUnavailable(
            f"The tokenizer of {checkpoint.name} needs a package: pip install sentencepiece"
        ) from error
    prepare = read_preprocessing(checkpoint, Preprocessing.standard(224, Image.Resampling.BICUBIC, _HALF, _HALF))
    return TwoTowers(_load_network(checkpoint), prepare, tokenize)


class VisionTower(Towers):
    """A network that returns pooler_output, or at least last_hidden_state, for pixels."""

    def embed_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        output = self.network(pixel_values=pixels)
        pooled = getattr(output, "pooler_output", None)
        if pooled is not None:
            return torch.flatten(pooled, 1)
        states: torch.Tensor = output.last_hidden_state
        return states.mean((2, 3)) if states.dim() == 4 else states[:, 0]


def load_vision(checkpoint: Checkpoint) -> VisionTower:
    """Load a checkpoint by AutoModel. Raises ModelUnavailable."""
    # Classifiers are published without the pooler that AutoModel would add; their first token is the embedding.
    network = _load_network(checkpoint, optional_part="pooler")
    if getattr(network, "main_input_name", None) != "pixel_values":
        raise ModelUnavailable(
            f"{checkpoint.name} ({checkpoint.config.get('model_type')}) does not embed pictures. "
            "Choose another EMBEDDING_MODEL, see docs/models.md."
        )
    return VisionTower(network, read_preprocessing(checkpoint))


# VGG19: the sixteen convolutions, averaged over the image to 512 numbers.
#
# Weights in the naming of torchvision and timm (`features.0.weight`...), as in the hub's timm/vgg19.tv_in1k.

# Simonyan and Zisserman 2014, configuration E; "M" halves the image.
_LAYERS = (64, 64, "M", 128, 128, "M", 256, 256, 256, 256, "M", 512, 512, 512, 512, "M", 512, 512, 512, 512, "M")


class VggTower(Towers):
    """The convolutions and their mean."""

    def embed_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.network(pixels)
        return features.mean((2, 3))


def load_vgg(checkpoint: Checkpoint) -> VggTower:
    """Load the convolutions; the classifier behind them is left alone. Raises ModelUnavailable."""
    network = build_convolutions()
    weights = _load_weights(checkpoint.folder)
    state = {name.removeprefix("features."): weights[name] for name in weights if name.startswith("features.")}
    expected = network.state_dict()
    _refuse_incomplete(
        checkpoint,
        expected.keys() - state.keys(),
        [name for name in expected.keys() & state.keys() if expected[name].shape != state[name].shape],
    )
    network.load_state_dict({name: state[name] for name in expected})
    prepare = Preprocessing.standard(224, Image.Resampling.BILINEAR, IMAGENET_MEAN, IMAGENET_STD, short_side=256)
    return VggTower(finish(network), prepare)


def build_convolutions() -> nn.Sequential:
    """VGG19 up to its last pooling, numbered as torchvision numbers it."""
    layers: list[nn.Module] = []
    channels = 3
    for width in _LAYERS:
        if isinstance(width, int):
            layers += [nn.Conv2d(channels, width, kernel_size=3, padding=1), nn.ReLU(inplace=True)]
            channels = width
        else:
            layers.append(nn.MaxPool2d(kernel_size=2))
    return nn.Sequential(*layers)
