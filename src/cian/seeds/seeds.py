"""Sparse labels from class activation maps: what is certain is labelled, the rest is 255."""

from __future__ import annotations

import numpy as np

from cian.config import SeedConfig
from cian.data.table import IGNORE


def seed_map(
    cams: np.ndarray,
    spread: np.ndarray,
    tags: np.ndarray,
    settings: SeedConfig,
    saliency: np.ndarray | None = None,
) -> np.ndarray:
    """One image's seeds, without ground truth.

    Foreground is where a class's CAM is over `foreground`, leads the next class by `margin`, and is confirmed: by what
    looks alike (the spread CAM is over `confirmed`) or, with a saliency map, by saliency over `salient_above`.
    Background is where every spread CAM is under `background_below` or, with a saliency map, where that is under
    `salient_below` and no CAM claims the pixel. All else is 255; an image without tags is background throughout.

    Shape:
        cams, spread: (T, H, W) float32 in [0, 1] of the tags (T,), class ids from 1; saliency: (H, W) in [0, 1].
        Returns (H, W) uint8.
    """
    if not len(tags):
        return np.zeros(cams.shape[1:], np.uint8)
    best = cams.argmax(0)
    score = np.take_along_axis(cams, best[None], 0)[0]
    second = np.partition(cams, -2, 0)[-2] if len(tags) > 1 else np.zeros_like(score)
    claimed = score >= settings.foreground
    certain = claimed & (score - second >= settings.margin)
    if saliency is None:
        certain &= np.take_along_axis(spread, best[None], 0)[0] >= settings.confirmed
        background = spread.max(0) < settings.background_below
    else:
        certain &= saliency >= settings.salient_above
        background = (saliency < settings.salient_below) & ~claimed
    seeds = np.full(score.shape, IGNORE, np.uint8)
    seeds[background] = 0
    seeds[certain] = np.asarray(tags)[best[certain]]
    return seeds
