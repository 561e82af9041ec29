"""Where cells of an image look, in the image itself and in other images: the affinity, as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cian.network import CIAN

SIDE = 352  # longest side of the images for the network, in pixels
MOST = 160_000  # affinities of one example in one image: with more, fewer query cells are taken

Point = tuple[float, float]  # (x, y) in parts of the width and height of an image


@dataclass(frozen=True)
class AffinityMap:
    """Where a grid of query cells of one image looks in another image, or in itself.

    Attributes:
        affinity: (qh, qw, kh, kw) float32; for each query cell, its affinity with each key cell, with sum 1.
        origin, size: the upper left corner and the size of the grid of key cells on the image, in parts of it.
    """

    affinity: np.ndarray
    origin: Point
    size: Point

    @property
    def spread(self) -> np.ndarray:
        """(qh, qw): over how many cells each query cell looks, the exponential of the entropy."""
        entropy = -(self.affinity * np.log(np.maximum(self.affinity, 1e-12))).sum((2, 3))
        return np.exp(entropy)

    def share(self, mask: np.ndarray, class_id: int) -> tuple[np.ndarray, float]:
        """The part of each query cell's affinity that falls on a class, (qh, qw), and the part of the key cells that
        show it."""
        rows, columns = (
            self.origin[i] + self.size[i] * (np.arange(self.affinity.shape[3 - i]) + 0.5) / self.affinity.shape[3 - i]
            for i in (1, 0)
        )
        cells = sample(mask, rows, columns) == class_id  # (kh, kw)
        return (self.affinity * cells).sum((2, 3)), float(cells.mean())


@dataclass(frozen=True)
class Queries:
    """The query cells on their image: the centre of the first one, and the distance from cell to cell."""

    first: Point
    step: Point


@dataclass(frozen=True)
class Cells:
    """The feature cells of an image.

    Attributes:
        features: (1, C, h, w).
        size: (height, width) of the image as the network got it.
    """

    features: Tensor
    size: tuple[int, int]


@torch.no_grad()
def cells_of(network: CIAN, image: np.ndarray) -> Cells:
    """The cells of an image (H, W, 3) uint8, which is reduced to `SIDE`."""
    grid = network.backbone.grid
    pixels = grid.as_input(image, next(network.parameters()).device)
    x = grid.scaled(pixels, min(1.0, SIDE / max(image.shape[:2])))
    return Cells(network.backbone(x), (x.shape[2], x.shape[3]))


def queries_of(network: CIAN, cells: Cells, stride: int = 1) -> Queries:
    """Where every `stride`-th cell of an image lies."""
    grid, (height, width) = network.backbone.grid, cells.size
    start = 0.5 if grid.corner else grid.stride / 2  # centre of the first cell, in pixels
    return Queries((start / width, start / height), (stride * grid.stride / width, stride * grid.stride / height))


def look(network: CIAN, queries: Tensor, cells: Cells) -> AffinityMap:
    """Where query cells (1, C, qh, qw) look in an image."""
    assert network.affinity is not None
    affinity = network.affinity.look(queries, cells.features)[0].float().cpu().numpy()  # (qh, qw, kh, kw)
    grid, (height, width) = network.backbone.grid, cells.size
    start, cell = 0.5 if grid.corner else grid.stride / 2, grid.stride * _pooling(network)  # in pixels
    origin = ((start - cell / 2) / width, (start - cell / 2) / height)
    return AffinityMap(affinity, origin, (cell * affinity.shape[3] / width, cell * affinity.shape[2] / height))


def affinity_maps(network: CIAN, images: Sequence[np.ndarray]) -> tuple[Queries, list[AffinityMap]]:
    """Where the cells of the first image look in each of the images.

    Shape:
        images: (H, W, 3) uint8 each.
    """
    found = [cells_of(network, image) for image in images]
    height, width = found[0].features.shape[2:]
    pooling = _pooling(network)
    keys = max(-(-x.features.shape[2] // pooling) * -(-x.features.shape[3] // pooling) for x in found)
    stride = max(1, int(np.ceil(np.sqrt(height * width * keys / MOST))))
    queries = found[0].features[:, :, ::stride, ::stride]
    return queries_of(network, found[0], stride), [look(network, queries, cells) for cells in found]


def _pooling(network: CIAN) -> int:
    """Feature cells per key cell, along each side."""
    assert network.affinity is not None
    return 2 if isinstance(network.affinity.pool, torch.nn.MaxPool2d) else 1


def sample(mask: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """(len(y), len(x)): the mask at a grid of places, in parts of its height and width."""
    rows, columns = (
        (places * side).astype(int).clip(0, side - 1) for places, side in zip((y, x), mask.shape, strict=True)
    )
    return mask[rows][:, columns]
