"""Spreads activation maps over cells that look alike.

Maps from the last features of a classifier cover only what tells the classes apart, such as a head. Features of an
early stage tell surfaces apart, so each cell gets the mean activation of the cells of its image that look like it. The
correlation follows SEAM's pixel correlation module (Wang et al. 2020, arXiv 2004.04581), but needs no training.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

COLOUR = 0.5  # weight of the colour's correlation beside the features'
SHARPNESS = 2.0  # power of the correlation
MOST_CELLS = 64  # on the longer side: bounds the (cells × cells) matrix


def spread(maps: Tensor, features: Tensor, pixels: Tensor, align_corners: bool) -> Tensor:
    """Each cell's mean activation over the cells that look like it.

    Likeness is the positive part of the correlation of features, and of colours, less the image's mean.

    Shape:
        maps: (T, h, w) ≥ 0; features: (C, h', w'), of any grid over the same image; pixels: (3, H, W), normalised.
        Returns (T, h', w') (at most 64 cells a side), each map divided by its maximum.
    """
    height, width = features.shape[1:]
    shrink = min(1.0, MOST_CELLS / max(height, width))
    size = (max(1, round(height * shrink)), max(1, round(width * shrink)))

    def on_grid(values: Tensor, antialias: bool = False) -> Tensor:
        """(C, ·, ·) → (C, cells)"""
        corners = None if antialias else align_corners
        values = F.interpolate(values[None], size, mode="bilinear", align_corners=corners, antialias=antialias)
        return values[0].flatten(1)

    likeness = _correlation(on_grid(features)) + COLOUR * _correlation(on_grid(pixels, antialias=True))
    likeness = (likeness / (1 + COLOUR)).clamp(min=0) ** SHARPNESS  # (cells, cells)
    weights = likeness / likeness.sum(1, keepdim=True).clamp(min=1e-6)
    out = on_grid(maps) @ weights.T  # (T, cells)
    return (out / out.amax(1, keepdim=True).clamp(min=1e-6)).view(-1, *size)


def _correlation(vectors: Tensor) -> Tensor:
    """(C, cells) → (cells, cells), in [-1, 1]."""
    centred = F.normalize(vectors - vectors.mean(1, keepdim=True), dim=0)
    return centred.T @ centred
