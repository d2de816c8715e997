"""VGG19: the sixteen convolutions, averaged over the picture to 512 numbers.

Weights in the naming of torchvision and timm (`features.0.weight`...), as in the hub's timm/vgg19.tv_in1k.
"""

from __future__ import annotations

import torch
from PIL import Image
from torch import nn

from image_search.encoders.checkpoint import Checkpoint
from image_search.encoders.loading import finish, load_weights, refuse_incomplete
from image_search.encoders.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from image_search.encoders.towers import Towers

# Simonyan and Zisserman 2014, configuration E; "M" halves the picture.
_LAYERS = (64, 64, "M", 128, 128, "M", 256, 256, 256, 256, "M", 512, 512, 512, 512, "M", 512, 512, 512, 512, "M")


class VggTower(Towers):
    """The convolutions and their mean."""

    def embed_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.network(pixels)
        return features.mean((2, 3))


def load_towers(checkpoint: Checkpoint) -> VggTower:
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
