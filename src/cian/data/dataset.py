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
from cian.data.table import IGNORE, Table


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
        labels; `known`, likewise, what people have labelled, if the table has such label maps; `tags` (K,) bool,
        background and the image's tags.
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
        self.with_known = any(table.labels)

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, item: tuple[int, int]) -> dict[str, Tensor]:
        index, epoch = item
        self.table.known.require_unchanged(self.table.images[index])
        image = read_image(self.table.images[index], self.max_side)
        labels = None if self.labels is None else torch.from_numpy(self._label_maps(index, *image.shape[:2]))
        rng = np.random.default_rng([self.seed, epoch, index])
        crop, labels = augment(to_tensor(image), labels, self.settings, rng, self.fill)
        sample = {"image": crop, "tags": torch.from_numpy(self.table.allowed(index))}
        if labels is not None:
            sample |= zip(("labels", "known"), labels, strict=False)
        return sample

    def _label_maps(self, index: int, height: int, width: int) -> np.ndarray:
        """(1, H, W) uint8: the labels of an image; (2, H, W) with what a person has labelled, if the table has such
        label maps."""
        assert self.labels is not None
        file, own, size = self.labels[index], self.table.labels[index], (height, width)
        self.table.known.require_unchanged(file)
        maps = [read_mask(file, self.table.mask_ids if file == own else None)]
        if self.with_known:
            known = maps[0] if file == own else None if own is None else read_mask(own, self.table.mask_ids)
            maps.append(np.full(size, IGNORE, np.uint8) if known is None else known)
        # A label map may have the original size.
        return np.stack([part if part.shape == size else reduce_labels(part, size) for part in maps])
