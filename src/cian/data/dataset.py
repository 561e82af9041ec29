"""Training samples from a table: decoded and augmented, as uint8. The device normalises them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from cian.config import AugmentConfig
from cian.data.augment import augment, to_tensor
from cian.data.images import read_image
from cian.data.masks import read_mask, reduce_labels
from cian.data.table import Table


class TrainingSet(Dataset):
    """Augmented images with labels and tags.

    Args:
        table: the images.
        settings: the augmentation.
        seed: the augmentation of a sample follows from the seed, the epoch and the index of the image.
        fill: the colour outside the image, 0 … 255.
        labels: the label map of each image, of its size or larger; None as a whole for training on tags.
        max_side: see `read_image`.

    Shape:
        Items, by (index, epoch): `image` (3, crop, crop) uint8; `labels` (crop, crop) uint8, 255 = ignore, if there are
        labels; `tags` (K,) bool, background and the image's tags.
    """

    def __init__(
        self,
        table: Table,
        settings: AugmentConfig,
        seed: int,
        fill: tuple[int, int, int],
        labels: Sequence[Path] | None = None,
        max_side: int | None = None,
    ):
        self.table, self.settings, self.seed, self.fill = table, settings, seed, fill
        self.labels, self.max_side = labels, max_side

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, item: tuple[int, int]) -> dict[str, Tensor]:
        index, epoch = item
        self.table.known.require_unchanged(self.table.images[index])
        image = read_image(self.table.images[index], self.max_side)
        labels = None
        if self.labels is not None:
            file = self.labels[index]
            self.table.known.require_unchanged(file)
            mask = read_mask(file, self.table.mask_ids if file == self.table.labels[index] else None)
            if mask.shape != image.shape[:2]:  # a label map of the original size
                mask = reduce_labels(mask, image.shape[:2])
            labels = torch.from_numpy(mask)
        rng = np.random.default_rng([self.seed, epoch, index])
        crop, labels = augment(to_tensor(image), labels, self.settings, rng, self.fill)
        sample = {"image": crop, "tags": torch.from_numpy(self.table.allowed(index))}
        if labels is not None:
            sample["labels"] = labels
        return sample
