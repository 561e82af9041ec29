"""Sparse labels from class activation maps: what is certain is labelled, the rest is 255."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from cian.config import CrfConfig, SeedConfig
from cian.crf.dense import dense_crfs
from cian.data.masks import resize_mask
from cian.data.table import IGNORE
from cian.seeds.otsu import otsu

HIGHEST = 0.85  # threshold of object maps (at most 1) up to which Otsu's is raised
CERTAINTY = 0.7  # probability of a label, before the edges of the picture are asked
SHRINK = 2  # edges are looked for at this fraction of the size: feature cells are coarser still


def seed_map(
    image: np.ndarray,
    cams: np.ndarray,
    objects: np.ndarray,
    tags: np.ndarray,
    settings: SeedConfig,
    saliency: np.ndarray | None = None,
) -> np.ndarray:
    """One image's seeds, without ground truth.

    Foreground is where an object map is over the picture's threshold (see `threshold`) and its class leads the next one
    by `margin`, in the geometric mean of CAM and object map; with a saliency map, only where that is over
    `salient_above`. Background is where every object map is under `background_below` times that threshold or, with a
    saliency map, where that is under `salient_below` and no class claims the pixel. All else is open; an image without
    tags is background throughout. Without a saliency map, which has edges of its own, labels then follow the edges of
    the picture (see `along_edges`).

    Shape:
        image: (H, W, 3) uint8; cams, objects: (T, H, W) float32 in [0, 1] of the tags (T,), class ids from 1 (see
        `class_activation_maps`); saliency: (H, W) in [0, 1].
        Returns (H, W) uint8.
    """
    if not len(tags):
        return np.zeros(cams.shape[1:], np.uint8)
    telling = np.sqrt(cams * objects)
    best = telling.argmax(0)
    lead = telling.max(0) - (np.partition(telling, -2, 0)[-2] if len(tags) > 1 else 0)
    most = objects.max(0)
    level = threshold(most, settings.foreground)
    claimed = np.take_along_axis(objects, best[None], 0)[0] >= level
    certain = claimed & (lead >= settings.margin)
    if saliency is None:
        background = most < settings.background_below * level
    else:
        certain &= saliency >= settings.salient_above
        background = (saliency < settings.salient_below) & ~claimed
    classes = np.append(np.append(0, tags), IGNORE).astype(np.uint8)
    labels = np.full(best.shape, len(tags) + 1)  # indices into `classes`
    labels[background] = 0
    labels[certain] = best[certain] + 1
    if saliency is None and settings.crf.iterations:
        labels = along_edges(image, labels, best + 1, len(tags) + 1, settings.crf)
    return classes[labels]


def with_labels(seeds: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The seeds, with the labelled pixels of a label map in their place.

    Shape:
        seeds: (h, w) uint8; labels: (H, W) uint8, 255 = unlabelled, reduced to (h, w) by the nearest pixel. Returns
        (h, w) uint8.
    """
    if labels.shape != seeds.shape:
        labels = resize_mask(labels, seeds.shape)
    return np.where(labels == IGNORE, seeds, labels)


def threshold(objects: np.ndarray, factor: float) -> float:
    """Where the object map of a picture is likely to be an object: so many times Otsu's threshold. That alone labels
    more background as objects than it leaves parts of objects out, and the first costs networks more.

    Shape:
        objects: (H, W) in [0, 1].
    """
    found = otsu(objects, 0, 1)
    return min(found * factor, max(found, HIGHEST))


def along_edges(
    image: np.ndarray, labels: np.ndarray, best: np.ndarray, num_classes: int, crf: CrfConfig
) -> np.ndarray:
    """Labels that follow the edges of the picture: a CRF is asked twice, with the open pixels as background and as
    foreground; what both times comes out the same is labelled, the rest stays open (Ahn et al., CVPR 2019,
    arXiv 1904.05044, make their labels so).

    Shape:
        image: (H, W, 3) uint8; labels: (H, W) in 0 … num_classes, the last of which is "open"; best: (H, W), the class
        that an open pixel has if it is foreground. Returns labels of the same kind.
    """
    size = labels.shape
    small = tuple(-(-side // SHRINK) for side in size)
    image = np.asarray(Image.fromarray(image).resize(small[::-1], Image.Resampling.BOX))
    labels, best = (resize_mask(part.astype(np.uint8), small).astype(int) for part in (labels, best))
    unaries = []
    for guess in (np.zeros_like(best), best):
        start = np.where(labels == num_classes, guess, labels)  # (H, W)
        unary = np.full((num_classes, *start.shape), -math.log((1 - CERTAINTY) / (num_classes - 1)), np.float32)
        np.put_along_axis(unary, start[None], -math.log(CERTAINTY), 0)
        unaries.append(unary)
    found = dense_crfs(
        image,
        unaries,
        gaussian=(crf.gaussian[0] / SHRINK, crf.gaussian[1]),
        bilateral=(crf.bilateral[0] / SHRINK, *crf.bilateral[1:]),
        iterations=crf.iterations,
    )
    first, second = (probabilities.argmax(0) for probabilities in found)
    return resize_mask(np.where(first == second, first, num_classes).astype(np.uint8), size)
