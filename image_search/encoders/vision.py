"""Models that embed pictures only: DINOv2 and 3, ViT, ResNet, ConvNeXt and whatever AutoModel feeds with pixels."""

from __future__ import annotations

import torch
from PIL import Image
from torch import nn

from image_search.encoders.checkpoint import Checkpoint
from image_search.encoders.loading import finish, load_network, load_weights, refuse_incomplete
from image_search.encoders.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from image_search.encoders.two_tower import Towers, read_preprocessing
from image_search.errors import ModelUnavailable


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
    network = load_network(checkpoint, optional_part="pooler")
    if getattr(network, "main_input_name", None) != "pixel_values":
        raise ModelUnavailable(
            f"{checkpoint.name} ({checkpoint.config.get('model_type')}) does not embed pictures. "
            "Choose another EMBEDDING_MODEL, see docs/models.md."
        )
    return VisionTower(network, read_preprocessing(checkpoint))


# VGG19: the sixteen convolutions, averaged over the picture to 512 numbers.
#
# Weights in the naming of torchvision and timm (`features.0.weight`...), as in the hub's timm/vgg19.tv_in1k.

# Simonyan and Zisserman 2014, configuration E; "M" halves the picture.
_LAYERS = (64, 64, "M", 128, 128, "M", 256, 256, 256, 256, "M", 512, 512, 512, 512, "M", 512, 512, 512, 512, "M")


class VggTower(Towers):
    """The convolutions and their mean."""

    def embed_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.network(pixels)
        return features.mean((2, 3))


def load_vgg(checkpoint: Checkpoint) -> VggTower:
    """Load the convolutions; the classifier behind them is left alone. Raises ModelUnavailable."""
    network = build_convolutions()
    weights = load_weights(checkpoint.folder)
    state = {name.removeprefix("features."): weights[name] for name in weights if name.startswith("features.")}
    expected = network.state_dict()
    refuse_incomplete(
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
