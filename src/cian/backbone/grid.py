"""How the pixels of an image and the cells of its features correspond (see `Backbone.grid`).

Images are resized to a size that fits the grid without a remainder, so that no prediction ever needs padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from cian.backbone.dense import Backbone  # which looks here whether its features fit


def grid_size(height: int, width: int, backbone: Backbone) -> tuple[int, int]:
    """The smallest image size from (height, width) up that fits the backbone's grid without a remainder."""
    stride = backbone.stride
    if backbone.grid == "corner":  # stride·n + 1
        return -(-(height - 1) // stride) * stride + 1, -(-(width - 1) // stride) * stride + 1
    return -(-height // stride) * stride, -(-width // stride) * stride


def upsample(logits: Tensor, size: Sequence[int], backbone: Backbone) -> Tensor:
    """Bilinear logits at every pixel of an image whose size fits the grid (see `grid_size`).

    Shape:
        logits: (N, K, h, w); returns (N, K, *size).
    """
    return F.interpolate(logits, tuple(size), mode="bilinear", align_corners=backbone.grid == "corner")


def cells(labels: Tensor, backbone: Backbone) -> Tensor:
    """Labels at the feature cells: the label of the pixel that each cell looks at (nearest; ids are never blended).

    Shape:
        labels: (N, H, W) of a size that fits the grid; returns (N, h, w).
    """
    start = 0 if backbone.grid == "corner" else backbone.stride // 2
    return labels[..., start :: backbone.stride, start :: backbone.stride]


def as_input(image: np.ndarray, backbone: Backbone, device: torch.device) -> Tensor:
    """(H, W, 3) uint8 → (1, 3, H, W) float32, normalised as the backbone wants it."""
    pixels = torch.from_numpy(np.ascontiguousarray(image)).to(device).permute(2, 0, 1)[None]
    return normalise(pixels, backbone)


def normalise(pixels: Tensor, backbone: Backbone) -> Tensor:
    """(N, 3, H, W) uint8 → float32, by the backbone's mean and deviation."""
    mean, std = (pixels.new_tensor(v, dtype=torch.float32)[:, None, None] for v in (backbone.mean, backbone.std))
    return ((pixels.float() / 255 - mean) / std).contiguous(memory_format=torch.channels_last)


def scaled(pixels: Tensor, scale: float, backbone: Backbone) -> Tensor:
    """Resizes to about `scale` times the size, that fits the backbone's grid: no padding needed."""
    height, width = pixels.shape[2:]
    size = grid_size(max(1, round(height * scale)), max(1, round(width * scale)), backbone)
    if size == (height, width):
        return pixels
    return F.interpolate(pixels, size, mode="bilinear", align_corners=False, antialias=True)
