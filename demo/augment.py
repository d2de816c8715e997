"""Cheap changes to a batch of pictures that leave every fact true: crop, light, colour, blur, noise."""

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, avg_pool2d, grid_sample

from demo.network import MEAN, STD
from demo.pool import MARGIN


def augment_pixels(pixels: Tensor) -> Tensor:
    """(n, edge, edge, 3) uint8 to (n, 3, edge - MARGIN, edge - MARGIN) float, normalised by MEAN and STD."""
    images = pixels.permute(0, 3, 1, 2).float().div_(255)
    n, device = len(images), images.device
    images = grid_sample(
        images, _draw_crops(n, images.shape[-1] - MARGIN, device), padding_mode="reflection", align_corners=False
    )
    soft = torch.rand(n, 1, 1, 1, device=device).mul_(1.6).sub_(0.8).clamp_(min=0)  # half of them stay sharp
    images = images.lerp_(avg_pool2d(images, 3, stride=1, padding=1, count_include_pad=False), soft)
    light = _spread(n, 0.22, device) * (1 + torch.empty(n, 3, 1, 1, device=device).uniform_(-0.07, 0.07))
    middle = images.mean(dim=(1, 2, 3), keepdim=True)
    images = (images - middle) * _spread(n, 0.22, device) + middle
    images = images * light
    noise = torch.rand(n, 1, 1, 1, device=device).sub_(0.4).clamp_(min=0) * 0.07
    images = (images + torch.randn_like(images) * noise).clamp_(0, 1)
    mean, std = (torch.tensor(v, device=device).view(1, 3, 1, 1) for v in (MEAN, STD))
    return ((images - mean) / std).contiguous(memory_format=torch.channels_last)


def _spread(n: int, reach: float, device: torch.device) -> Tensor:
    return 1 + torch.empty(n, 1, 1, 1, device=device).uniform_(-reach, reach)


def _draw_crops(n: int, edge: int, device: torch.device) -> Tensor:
    """Sampling grids: 84 to 100 per cent of the picture, moved within it, tilted a little, half of them mirrored."""
    zoom = torch.empty(n, device=device).uniform_(0.84, 1.0)
    stretch = torch.empty(n, device=device).uniform_(-0.05, 0.05)
    angle = torch.empty(n, device=device).uniform_(-0.07, 0.07)
    flip = torch.randint(0, 2, (n,), device=device) * 2 - 1
    room = 1 - zoom
    x, y = (torch.empty(n, device=device).uniform_(-1, 1) * room for _ in range(2))
    zx, zy = zoom * (1 + stretch), zoom * (1 - stretch)
    first = torch.stack((flip * zx * angle.cos(), -zy * angle.sin(), x), dim=1)
    second = torch.stack((flip * zx * angle.sin(), zy * angle.cos(), y), dim=1)
    return affine_grid(torch.stack((first, second), dim=1), [n, 3, edge, edge], align_corners=False)
