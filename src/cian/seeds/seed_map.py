"""Seeds of one image from its class activation maps: pixels that are certain are labelled, all others are 255."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from cian.config import CrfConfig, SeedConfig
from cian.crf.dense import dense_crfs
from cian.data.masks import reduce_labels, resize_mask
from cian.data.table import IGNORE
from cian.seeds.threshold import seed_threshold

CERTAINTY = 0.7  # probability of a label before the CRF
FIXED = 0.9999  # the same of a label by a person
SHRINK = 2  # the CRF works on the image reduced by this factor, which is still finer than feature cells


def seed_map(
    image: np.ndarray,
    cams: np.ndarray,
    objects: np.ndarray,
    tags: np.ndarray,
    together: np.ndarray,
    settings: SeedConfig,
    saliency: np.ndarray | None = None,
    known: np.ndarray | None = None,
) -> np.ndarray:
    """The seeds of one image.

    A class is scored by the geometric mean of its CAM and its object map. A pixel is foreground if the object map of
    its best class reaches the image's threshold (see `seed_threshold`), and the class leads the next one by `margin`.
    With a saliency map, the map must also reach `salient_above`. Between classes that are often together, such as a
    face and its body, any lead will do: their scores are similar everywhere, and both would be left without labels.

    A pixel is background if every object map is below `background_below` times the threshold. With a saliency map, it
    is background if the map is below `salient_below` and the object map of its best class is below the threshold.

    All other pixels are unlabelled (255). An image without tags is background everywhere. Without a saliency map, the
    labels are then aligned with the edges of the image (see `along_edges`).

    Pixels that a person has labelled, with any class, keep this label. Those around them follow it along the edges.

    Shape:
        image: (H, W, 3) uint8; cams, objects: (T, H, W) float32 in [0, 1] of the tags (T,), class ids from 1 (see
        `class_activation_maps`); together: (T, T) bool, pairs of tags that are often together (see
        `often_together`), each with itself among them; saliency: (H, W) in [0, 1]; known: (H, W) uint8, the labels
        of a person, 255 = unlabelled. Returns (H, W) uint8.
    """
    if known is None:
        known = np.full(cams.shape[1:], IGNORE, np.uint8)  # (H, W)
    if not len(tags):
        return np.where(known == IGNORE, 0, known).astype(np.uint8)
    scores = np.sqrt(cams * objects)  # (T, H, W)
    best = scores.argmax(0)  # (H, W)
    others = np.where(together[:, best], 0, scores)  # (T, H, W)
    lead = scores.max(0) - others.max(0)  # (H, W)
    highest = objects.max(0)  # (H, W)
    level = seed_threshold(highest, settings.foreground)
    claimed = np.take_along_axis(objects, best[None], 0)[0] >= level  # (H, W)
    certain = claimed & (lead >= settings.margin)  # (H, W)
    if saliency is None:
        background = highest < settings.background_below * level  # (H, W)
    else:
        certain &= saliency >= settings.salient_above
        background = (saliency < settings.salient_below) & ~claimed  # (H, W)
    classes = np.append(np.append(0, tags), IGNORE).astype(np.uint8)
    labels = np.full(best.shape, len(tags) + 1)  # (H, W), indices into `classes`
    labels[background] = 0
    labels[certain] = best[certain] + 1
    fixed = np.isin(known, classes[:-1])  # (H, W)
    labels[fixed] = np.searchsorted(classes[:-1], known[fixed])
    if saliency is None and settings.crf.iterations:
        labels = along_edges(image, labels, best + 1, len(tags) + 1, settings.crf, fixed)
    return np.where(known == IGNORE, classes[labels], known)


def along_edges(
    image: np.ndarray, labels: np.ndarray, best: np.ndarray, num_classes: int, crf: CrfConfig, fixed: np.ndarray
) -> np.ndarray:
    """Labels aligned with the edges of the image, as in IRNet (Ahn et al., CVPR 2019, arXiv 1904.05044).

    A CRF runs twice: once with the unlabelled pixels as background, once with them as foreground. A pixel for which
    both agree is labelled; the others are unlabelled.

    Shape:
        image: (H, W, 3) uint8; labels: (H, W) in 0 … num_classes, where num_classes means unlabelled; best: (H, W), the
        class that an unlabelled pixel has if it is foreground; fixed: (H, W) bool, labels that are certain. Returns
        labels of the same kind.
    """
    size = labels.shape
    small = tuple(-(-side // SHRINK) for side in size)
    image = np.asarray(Image.fromarray(image).resize(small[::-1], Image.Resampling.BOX))
    drawn = reduce_labels(np.where(fixed, labels, IGNORE).astype(np.uint8), small)  # (H, W); keeps thin strokes
    labels, best = (resize_mask(part.astype(np.uint8), small).astype(int) for part in (labels, best))
    certain = drawn != IGNORE  # (H, W)
    labels[certain] = drawn[certain]
    rows, columns = np.nonzero(certain)
    unaries = []
    for guess in (np.zeros_like(best), best):
        start = np.where(labels == num_classes, guess, labels)  # (H, W)
        unary = np.full((num_classes, *start.shape), -math.log((1 - CERTAINTY) / (num_classes - 1)), np.float32)
        np.put_along_axis(unary, start[None], -math.log(CERTAINTY), 0)
        unary[:, certain] = -math.log((1 - FIXED) / (num_classes - 1))
        unary[(drawn[rows, columns], rows, columns)] = -math.log(FIXED)
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
