"""The losses that train the towers: which facts an image shows and a caption mentions, and which belong together."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, normalize, softplus

SHARPNESS = 25.0  # a picture of five facts has a cosine of about 0.4 with each


class FactPrototypes(nn.Module):
    """One direction per fact, shared by both towers. Only the training needs them; they are not exported."""

    def __init__(self, names: Sequence[str], dimension: int) -> None:
        """`names` are those of the facts, "kind:value", kind after kind."""
        super().__init__()
        kinds = [name.partition(":")[0] for name in names]
        self.kinds = [(kinds.index(kind), kinds.index(kind) + kinds.count(kind)) for kind in dict.fromkeys(kinds)]
        self.directions = nn.Parameter(torch.randn(len(names), dimension))
        self.scales = nn.Parameter(torch.tensor([16.0, 12.0]))  # pictures, captions
        self.biases = nn.Parameter(torch.tensor([-6.0, -7.0]))

    def forward(self, embeddings: Tensor, facts: Tensor, tower: int) -> Tensor:
        """How badly the facts, (n, facts) of 0 and 1, can be read from the embeddings; a mean over the batch.

        Every true fact is told from the false ones of its kind; a light second term says that false is false, also
        where nothing of a kind is true.
        """
        cosines = embeddings @ normalize(self.directions, dim=1).T
        total = cosines.new_zeros(())
        for start, end in self.kinds:
            logits, true = SHARPNESS * cosines[:, start:end], facts[:, start:end] > 0.5
            false = logits.masked_fill(true, -1e4).logsumexp(dim=1, keepdim=True)
            total = total + (softplus(false - logits) * true).sum(dim=1).mean()
        logits = self.scales[tower] * cosines + self.biases[tower]
        return total + 0.1 * binary_cross_entropy_with_logits(logits, facts, reduction="none").sum(dim=1).mean()


def match_captions(shown: Tensor, mentioned: Tensor) -> Tensor:
    """(pictures, captions) bool: every fact a caption mentions is true of the picture."""
    return (1 - shown) @ mentioned.T < 0.5


def contrast(images: Tensor, texts: Tensor, fits: Tensor, scale: Tensor) -> Tensor:
    """Symmetric contrastive loss with several right answers: each is compared with the wrong ones only."""
    logits = scale * images @ texts.T
    total = logits.new_zeros(())
    for direction, right in ((logits, fits), (logits.T, fits.T)):
        wrong = direction.masked_fill(right, -1e4).logsumexp(dim=1, keepdim=True)
        weights = right / right.sum(dim=1, keepdim=True).clamp(min=1)
        total = total + (softplus(wrong - direction) * weights).sum(dim=1).mean()
    return total / 2


def contrast_views(first: Tensor, second: Tensor, scale: Tensor) -> Tensor:
    """Two views of one scene belong together, against the other scenes of the batch (`second` may be fewer)."""
    logits = scale * second @ first.T
    return cross_entropy(logits, torch.arange(len(second), device=logits.device))
