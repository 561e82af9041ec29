"""Random scale, mirror, crop and colour of an image and its labels (torchvision v2 functionals).

All randomness comes from a generator that the caller seeds, so that a sample depends only on (seed, epoch, image) and
not on the number of workers.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from cian.config import AugmentConfig
from cian.data.table import IGNORE


def to_tensor(image: np.ndarray) -> Tensor:
    """(H, W, 3) uint8 → (3, H, W) uint8."""
    return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)


def augment(
    image: Tensor,
    labels: Tensor | None,
    settings: AugmentConfig,
    rng: np.random.Generator,
    fill: tuple[int, int, int],
) -> tuple[Tensor, Tensor | None]:
    """One random square crop. Outside the image it is `fill`, and 255 in the labels.

    Shape:
        image: (3, H, W) uint8; labels: (L, H, W) uint8 or None. Returns (3, crop, crop) and (L, crop, crop).
    """
    crop = settings.crop
    scale = float(rng.choice(settings.scales))
    height, width = (max(1, round(side * scale)) for side in image.shape[1:])
    mirror = bool(settings.mirror and rng.random() < 0.5)
    # A crop that is larger than the image is also placed at random: offsets may be negative.
    top, left = (int(rng.integers(min(0, side - crop), max(0, side - crop) + 1)) for side in (height, width))
    image = F.resize(image, [height, width], antialias=True)
    image = _crop(image, top, left, crop, fill)
    if labels is not None:
        labels = F.resize(labels, [height, width], InterpolationMode.NEAREST_EXACT)
        labels = _crop(labels, top, left, crop, (IGNORE,) * len(labels))
    if mirror:
        image = F.horizontal_flip(image)
        labels = None if labels is None else F.horizontal_flip(labels)
    if settings.jitter:
        low, high = 1 - settings.jitter, 1 + settings.jitter
        image = F.adjust_brightness(image, rng.uniform(low, high))
        image = F.adjust_contrast(image, rng.uniform(low, high))
        image = F.adjust_saturation(image, rng.uniform(low, high))
    return image, labels


def _crop(image: Tensor, top: int, left: int, crop: int, fill: tuple[int, ...]) -> Tensor:
    """(C, H, W) → (C, crop, crop)."""
    out = torch.tensor(fill, dtype=image.dtype)[:, None, None].repeat(1, crop, crop)
    height, width = image.shape[1:]
    rows, cols = slice(max(top, 0), min(top + crop, height)), slice(max(left, 0), min(left + crop, width))
    part = image[:, rows, cols]
    y, x = max(-top, 0), max(-left, 0)
    out[:, y : y + part.shape[1], x : x + part.shape[2]] = part
    return out
