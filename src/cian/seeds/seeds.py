"""Sparse labels from class activation maps: what is certain is labelled, the rest is 255."""

from __future__ import annotations

import numpy as np
from PIL import Image

from cian.config import CrfConfig, SeedConfig
from cian.crf import dense_crfs
from cian.data.masks import resize_mask
from cian.data.table import IGNORE

CONTRAST = 5.0  # nats from the mean of an object map below its threshold to that above
_LEAST = 1e-3  # probability of anything, before the edges of the picture are asked
_BINS = 64  # of a histogram of object maps
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

    Foreground is where an object map is over `foreground` times the picture's threshold (see `otsu`), background where
    all are under it, and what is nearer to it than the share `uncertain` is open; an image without tags is background
    throughout. Classes are told apart by the geometric mean of CAM and object map. The borders then move to the edges
    of the picture (see `along_edges`), if `crf` has iterations.

    With a saliency map, which has edges of its own, foreground is only where that is over `salient_above`, and
    background where it is under `salient_below` and no class claims the pixel. There, and without `crf`, a class must
    also lead the next one by `margin`.

    Shape:
        image: (H, W, 3) uint8; cams, objects: (T, H, W) float32 in [0, 1] of the tags (T,), class ids from 1 (see
        `class_activation_maps`); saliency: (H, W) in [0, 1].
        Returns (H, W) uint8.
    """
    if not len(tags):
        return np.zeros(cams.shape[1:], np.uint8)
    telling = np.sqrt(cams * objects)
    most = objects.max(0)
    threshold, gap = otsu(most)
    threshold *= settings.foreground
    low, high = (1 - settings.uncertain) * threshold, (1 + settings.uncertain) * threshold
    classes = np.append(np.append(0, tags), IGNORE).astype(np.uint8)
    if saliency is None and settings.crf.iterations:
        return classes[along_edges(image, most, telling, (low, high), gap, settings.crf)]
    best = telling.argmax(0)
    lead = telling.max(0) - (np.partition(telling, -2, 0)[-2] if len(tags) > 1 else 0)
    own = np.take_along_axis(objects, best[None], 0)[0]
    if saliency is None:
        certain, background = own >= high, most < low
    else:
        certain = (own >= threshold) & (saliency >= settings.salient_above)
        background = (saliency < settings.salient_below) & (own < threshold)
    certain &= lead >= settings.margin
    labels = np.full(best.shape, len(tags) + 1)  # indices into `classes`
    labels[background] = 0
    labels[certain] = best[certain] + 1
    return classes[labels]


def otsu(values: np.ndarray) -> tuple[float, float]:
    """The threshold that divides values in [0, 1] into two classes with the least variance within them (Otsu, "A
    Threshold Selection Method from Gray-Level Histograms", 1979), and the distance of the means of these.

    How high object maps are varies from one data set, and one picture, to the next.
    """
    counts, edges = np.histogram(values, _BINS, (0, 1))
    share = counts.cumsum() / counts.sum()  # of the values up to each edge
    mean = (counts * (edges[:-1] + edges[1:]) / 2).cumsum() / counts.sum()
    within = np.maximum(share * (1 - share), 1e-9)
    between = (mean[-1] * share - mean) ** 2 / within
    best = between.argmax()
    return float(edges[1:][best]), float(np.sqrt(between[best] / within[best]))


def along_edges(
    image: np.ndarray,
    objects: np.ndarray,
    classes: np.ndarray,
    thresholds: tuple[float, float],
    gap: float,
    crf: CrfConfig,
) -> np.ndarray:
    """Labels that follow the edges of the picture: a CRF is asked twice, with a low and with a high threshold of what
    is an object; what both times comes out the same is labelled, the rest stays open (from Ahn et al., CVPR 2019,
    arXiv 1904.05044, who ask it about two kinds of certain labels).

    Probabilities rise from background to object as a logistic function of the object map around the threshold.

    Args:
        gap: how far apart the object maps of the two are; makes `CONTRAST` nats.

    Shape:
        image: (H, W, 3) uint8; objects: (H, W) float32; classes: (T, H, W) float32 ≥ 0, in whose ratio the tags share
        what is an object. Returns (H, W) of 0 for background, 1 … T for the tags, T + 1 for open.
    """
    size = objects.shape
    small = tuple(-(-side // SHRINK) for side in size)
    image = np.asarray(Image.fromarray(image).resize(small[::-1], Image.Resampling.BOX))
    objects, *shares = (
        np.asarray(Image.fromarray(part).resize(small[::-1], Image.Resampling.BILINEAR)) for part in (objects, *classes)
    )
    shares = np.stack(shares) / np.maximum(np.sum(shares, axis=0), 1e-6)  # (T, h, w)
    unaries = []
    for threshold in thresholds:
        probability = 1 / (1 + np.exp(-CONTRAST * (objects - threshold) / max(gap, 1e-3)))
        unaries.append(-np.log(np.maximum(np.stack([1 - probability, *(probability * shares)]), _LEAST)))
    found = dense_crfs(
        image,
        unaries,
        gaussian=(crf.gaussian[0] / SHRINK, crf.gaussian[1]),
        bilateral=(crf.bilateral[0] / SHRINK, *crf.bilateral[1:]),
        iterations=crf.iterations,
    )
    first, second = (probabilities.argmax(0) for probabilities in found)
    return resize_mask(np.where(first == second, first, len(classes) + 1).astype(np.uint8), size)
