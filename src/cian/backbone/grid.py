"""How the pixels of an image and the feature cells of a backbone correspond."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Grid:
    """Where the feature cells of a backbone lie on the image, and how the backbone wants its pixels.

    Images are resized to a size that fits the grid without a remainder, so that a prediction needs no padding.

    Attributes:
        stride: image pixels per feature cell, along each side.
        alignment: "corner": cell i is centred on pixel stride · i (strided convolutions with symmetric padding; sizes
            stride · n + 1 fit). "centre": cell i is centred on pixels stride · i … stride · (i + 1) - 1 (patches; sizes
            stride · n fit).
        mean, std: of the pixels in [0, 1], per channel.
    """

    stride: int
    alignment: Literal["corner", "centre"]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @property
    def corner(self) -> bool:
        """Whether the cells lie on the image's corners (`align_corners` in PyTorch)."""
        return self.alignment == "corner"

    @property
    def mean_colour(self) -> tuple[int, int, int]:
        """The colour, 0 … 255, that becomes 0 when it is normalised."""
        red, green, blue = (round(255 * value) for value in self.mean)
        return red, green, blue

    def size(self, height: int, width: int) -> tuple[int, int]:
        """The smallest image size that fits the grid and is at least (height, width)."""
        extra = int(self.corner)
        return (
            -(-(height - extra) // self.stride) * self.stride + extra,
            -(-(width - extra) // self.stride) * self.stride + extra,
        )

    def cells(self, labels: Tensor) -> Tensor:
        """The label of the pixel at the centre of each cell (nearest: class ids are never blended).

        Shape:
            labels: (N, H, W), of a size that fits the grid. Returns (N, h, w).
        """
        start = 0 if self.corner else self.stride // 2
        return labels[..., start :: self.stride, start :: self.stride]

    def upsample(self, logits: Tensor, size: Sequence[int]) -> Tensor:
        """Bilinear logits at every pixel of an image whose size fits the grid.

        Shape:
            logits: (N, K, h, w). Returns (N, K, *size).
        """
        return F.interpolate(logits, tuple(size), mode="bilinear", align_corners=self.corner)

    def normalise(self, pixels: Tensor) -> Tensor:
        """(N, 3, H, W) uint8 → (N, 3, H, W) float32, less the mean, divided by the deviation."""
        mean, std = (pixels.new_tensor(v, dtype=torch.float32)[:, None, None] for v in (self.mean, self.std))
        return ((pixels.float() / 255 - mean) / std).contiguous(memory_format=torch.channels_last)

    def as_input(self, image: np.ndarray, device: torch.device) -> Tensor:
        """(H, W, 3) uint8 → (1, 3, H, W) float32, normalised."""
        pixels = torch.from_numpy(np.require(image, None, ["C", "W"])).to(device).permute(2, 0, 1)[None]  # (1, 3, H, W)
        return self.normalise(pixels)

    def scaled(self, pixels: Tensor, scale: float) -> Tensor:
        """Pixels resized to about `scale` times their size, to a size that fits the grid.

        Shape:
            pixels: (N, 3, H, W). Returns (N, 3, H', W').
        """
        height, width = pixels.shape[2:]
        size = self.size(max(1, round(height * scale)), max(1, round(width * scale)))
        if size == (height, width):
            return pixels
        return F.interpolate(pixels, size, mode="bilinear", align_corners=False, antialias=True)
