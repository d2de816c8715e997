"""Models that embed pictures only: DINOv2 and 3, ViT, ResNet, ConvNeXt and whatever AutoModel feeds with pixels."""

from __future__ import annotations

import torch

from image_search.encoders.checkpoint import Checkpoint
from image_search.encoders.clip import read_preprocessing
from image_search.encoders.loading import load_network
from image_search.encoders.towers import Towers
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


def load_towers(checkpoint: Checkpoint) -> VisionTower:
    """Load a checkpoint by AutoModel. Raises ModelUnavailable."""
    # Classifiers are published without the pooler that AutoModel would add; their first token is the embedding.
    network = load_network(checkpoint, optional_part="pooler")
    if getattr(network, "main_input_name", None) != "pixel_values":
        raise ModelUnavailable(
            f"{checkpoint.name} ({checkpoint.config.get('model_type')}) does not embed pictures. "
            "Choose another EMBEDDING_MODEL, see docs/models.md."
        )
    return VisionTower(network, read_preprocessing(checkpoint))
