"""Sparse labels from class activation maps: what is certain is labelled, the rest is 255."""

from __future__ import annotations

import numpy as np

from cian.config import SeedConfig
from cian.data.table import IGNORE


def seed_map(
    cams: np.ndarray, tags: np.ndarray, settings: SeedConfig, saliency: np.ndarray | None = None
) -> np.ndarray:
    """One image's seeds, without ground truth.

    Foreground is where a class's CAM is over `foreground` and leads the next class by `margin`. Background is where
    every CAM is under `background_below`, or, with a saliency map, where the map is under `saliency_below` and no CAM
    claims the pixel. All else is 255; an image without tags is background throughout.

    Shape:
        cams: (T, H, W) float32 in [0, 1] of the tags (T,), class ids from 1; saliency: (H, W) in [0, 1] or None.
        Returns (H, W) uint8.
    """
    if not len(tags):
        return np.zeros(cams.shape[1:], np.uint8)
    best = cams.argmax(0)
    score = np.take_along_axis(cams, best[None], 0)[0]
    second = np.partition(cams, -2, 0)[-2] if len(tags) > 1 else np.zeros_like(score)
    seeds = np.full(score.shape, IGNORE, np.uint8)
    if saliency is None:
        seeds[score < settings.background_below] = 0
    else:
        seeds[(saliency < settings.saliency_below) & (score < settings.foreground)] = 0
    certain = (score >= settings.foreground) & (score - second >= settings.margin)
    seeds[certain] = np.asarray(tags)[best[certain]]
    return seeds
