"""Class activation maps and object maps of one image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cian.config import SeedConfig
from cian.seeds.cell_scores import at_cells
from cian.seeds.classifier import Classifier
from cian.seeds.similarity import spread
from cian.seeds.threshold import otsu


def class_activation_maps(
    model: Classifier, image: np.ndarray, tags: np.ndarray, settings: SeedConfig
) -> tuple[np.ndarray, np.ndarray]:
    """The CAMs of an image's tags, which tell classes apart, and its object maps, which tell objects from background.

    An object map is the sum of two maps: the objectness of the cells, and their scores (see `CellScores`) added to the
    same scores spread over cells that look alike (see `spread`), divided by the maximum. All maps are averaged over
    scales and mirror images, and each is divided by its maximum.

    Shape:
        image: (H, W, 3) uint8; tags: (T,) class ids from 1. Returns two (T, H, W) float32 in [0, 1].
    """
    cams, objects, objectness = _maps(model, image, tags, settings.scales, settings.mirror)
    return cams.cpu().numpy(), _to_one(objects + objectness).cpu().numpy()


def object_cells(model: Classifier, image: np.ndarray, tags: np.ndarray) -> Tensor:
    """Which feature cells of an image, at scale 1, are likely to be objects: where the highest score of its tags is
    over Otsu's threshold.

    Shape:
        image: (H, W, 3) uint8; tags: (T,) class ids from 1. Returns (h, w) bool.
    """
    height, width = image.shape[:2]
    grid = model.backbone.grid
    shape = grid.cells(torch.empty(grid.size(height, width))).shape
    if not len(tags):
        return torch.zeros(shape, dtype=torch.bool)
    most = _maps(model, image, tags, (1.0,), mirror=False)[1].amax(0)
    small = F.interpolate(most[None, None], shape, mode="area")[0, 0]
    return small >= otsu(most.cpu().numpy(), 0, 1)


@torch.no_grad()
def _maps(
    model: Classifier, image: np.ndarray, tags: np.ndarray, scales: Sequence[float], mirror: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """CAMs, scores of cells and objectness, (T, H, W) each; the first two are divided by their maxima.

    The scores are the sum of those of `CellScores` and of the same ones spread over cells that look alike.
    """
    size = image.shape[:2]
    if not len(tags):
        return (torch.zeros(0, *size),) * 3
    channels = torch.as_tensor(tags, dtype=torch.long) - 1
    grid = model.backbone.grid
    pixels = grid.as_input(image, next(model.parameters()).device)
    features, detail = model.backbone.forward_detail(grid.scaled(pixels, 1.0))
    maps: list[Tensor] = []
    for scale in scales:
        batch = grid.scaled(pixels, scale)
        views = [(features, detail)] if scale == 1.0 else []  # computed above
        todo = [batch] * (scale != 1.0) + [batch.flip(3)] * mirror
        if todo:
            views += zip(*(part.split(1) for part in model.backbone.forward_detail(torch.cat(todo))), strict=True)
        found = [_of_cells(model, *view, channels) for view in views]
        maps.append((found[0] + found[1].flip(4)) / 2 if mirror else found[0])
    finest = max((view.shape[3:] for view in maps), key=lambda shape: shape[0] * shape[1])
    fused = torch.stack([grid.upsample(view[0], finest) for view in maps]).mean(0)  # (3, T, h, w)
    alike = spread(fused[1], detail[0], pixels[0], grid.corner)
    cams, scores, objectness = grid.upsample(fused, size)
    alike = grid.upsample(alike[None], size)[0]
    return _to_one(cams), _to_one(_to_one(scores) + _to_one(alike)), objectness


def _of_cells(model: Classifier, features: Tensor, detail: Tensor, channels: Tensor) -> Tensor:
    """CAMs, cell scores and objectness of features (1, C, h, w), side by side: (1, 3, T, h, w)."""
    scores, objectness = model.cells(features, at_cells(detail, features))
    scores = scores[:, channels]
    objectness = objectness[:, channels] if objectness.shape[1] > 1 else objectness
    return torch.stack((model.head(features).relu()[:, channels], scores, objectness.expand_as(scores)), 1)


def _to_one(maps: Tensor) -> Tensor:
    """(T, H, W) ≥ 0, each divided by its maximum."""
    return maps / maps.amax((1, 2), keepdim=True).clamp(min=1e-6)
