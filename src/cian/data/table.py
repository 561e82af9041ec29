"""The one internal form of a data set: images, tags, splits, label maps to learn from, and masks to score with.

Columns, not objects: tags are stored as compressed sparse rows, so that ten million images cost some hundred bytes each
and a split is a selection of rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from cian.data.known_files import KnownFiles

BACKGROUND = "background"
IGNORE = 255
MAX_CLASSES = 254  # class ids are stored in 8 bit masks; 0 is background, 255 is ignore
TRAIN = "train"


@dataclass(frozen=True)
class Table:
    """A data set of N images.

    Attributes:
        classes: names without background; the class id of `classes[i]` in masks and logits is `i + 1`.
        ids: N unique names: the path of the image under the image folder, "/"-separated, without its suffix.
            Artefacts are called `ID.png`.
        images: N paths of image files.
        tag_ids: class ids (1 … len(classes)) of all images, one after the other, sorted within an image.
        tag_offsets: (N + 1,) int64; the tags of image i are `tag_ids[tag_offsets[i]:tag_offsets[i + 1]]`.
        splits: N split names. `train` is trained on; all others are only predicted and scored.
        masks: N paths of indexed masks (0 = background, 255 = ignore) to score with, or None where an image has none.
        labels: N paths of label maps (0 = background, 255 = not labelled) to learn from, or None where an image has
            none.
        tagged: (N,) bool; False where the tags of an image are unknown (a held-out image without a row).
        whole: (N,) bool; True where a label map is whole: at most half of its pixels are not labelled. Such an image
            needs no seeds. Known only after `check_dataset` has read the label maps.
        mask_classes: the class for each id in the files of masks and label maps, from id 1, or None where the class is
            dropped. None as a whole if these are `classes`. `mask_ids` is made from it.
        source: what the tags were read from, in words.
        known: what is known of the content of all these files.
    """

    classes: tuple[str, ...]
    ids: tuple[str, ...]
    images: tuple[Path, ...]
    tag_ids: np.ndarray
    tag_offsets: np.ndarray
    splits: tuple[str, ...]
    masks: tuple[Path | None, ...]
    labels: tuple[Path | None, ...]
    tagged: np.ndarray
    whole: np.ndarray
    mask_classes: tuple[str | None, ...] | None
    source: str
    known: KnownFiles = field(default_factory=KnownFiles, repr=False)

    @classmethod
    def build(
        cls,
        classes: Sequence[str],
        ids: Sequence[str],
        images: Sequence[Path],
        tags: Iterable[Iterable[int] | None],
        splits: Sequence[str] | None = None,
        masks: Sequence[Path | None] | None = None,
        labels: Sequence[Path | None] | None = None,
        whole: Sequence[bool] | np.ndarray | None = None,
        mask_classes: Sequence[str | None] | None = None,
        source: str = "",
    ) -> Table:
        """Makes a table from per-image lists. `tags` gives the class ids (from 1) of each image, None = unknown."""
        rows = [None if row is None else sorted(set(row)) for row in tags]
        offsets = np.zeros(len(rows) + 1, np.int64)
        np.cumsum([len(row or ()) for row in rows], out=offsets[1:])
        return cls(
            classes=tuple(classes),
            ids=tuple(ids),
            images=tuple(images),
            tag_ids=np.array([tag for row in rows for tag in row or ()], np.int32),
            tag_offsets=offsets,
            splits=tuple(splits) if splits is not None else (TRAIN,) * len(rows),
            masks=tuple(masks) if masks is not None else (None,) * len(rows),
            labels=tuple(labels) if labels is not None else (None,) * len(rows),
            tagged=np.array([row is not None for row in rows], bool),
            whole=np.array(whole, bool) if whole is not None else np.zeros(len(rows), bool),
            mask_classes=None if mask_classes is None else tuple(mask_classes),
            source=source,
        )

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def num_classes(self) -> int:
        """Number of classes with background."""
        return len(self.classes) + 1

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names by class id, background first."""
        return (BACKGROUND, *self.classes)

    @property
    def split_names(self) -> tuple[str, ...]:
        """The splits that occur, `train` first, then in order of appearance."""
        names = dict.fromkeys(self.splits)
        return tuple(sorted(names, key=lambda name: name != TRAIN))

    @cached_property
    def mask_ids(self) -> np.ndarray | None:
        """(256,) uint8: the class id of each value in the files of masks and label maps; None if they are the same.

        Values of dropped classes become 255, values that are no class `MAX_CLASSES`.
        """
        if self.mask_classes is None:
            return None
        ids = np.full(256, MAX_CLASSES, np.uint8)
        ids[[0, IGNORE]] = 0, IGNORE
        known = {name: i for i, name in enumerate(self.class_names)}
        for value, name in enumerate(self.mask_classes[:MAX_CLASSES], start=1):
            ids[value] = IGNORE if name is None else known.get(name, IGNORE)
        return ids

    def tags(self, index: int) -> np.ndarray:
        """Class ids (from 1) of image `index`, sorted."""
        return self.tag_ids[self.tag_offsets[index] : self.tag_offsets[index + 1]]

    def allowed(self, index: int) -> np.ndarray:
        """(K,) bool: the classes that may occur in image `index`: background and its tags; all if tags are unknown."""
        allowed = np.zeros(self.num_classes, bool)
        allowed[0] = True
        allowed[self.tags(index)] = True
        return allowed if self.tagged[index] else np.ones(self.num_classes, bool)

    def multi_hot(self) -> np.ndarray:
        """(N, K - 1) float32: 1 where an image has a tag."""
        hot = np.zeros((len(self), len(self.classes)), np.float32)
        rows = np.repeat(np.arange(len(self)), np.diff(self.tag_offsets))
        hot[rows, self.tag_ids - 1] = 1
        return hot

    def select(self, rows: Sequence[int] | np.ndarray) -> Table:
        """The table of some rows, in that order."""
        chosen = np.asarray(rows, np.int64).reshape(-1)
        places = chosen.tolist()
        counts = np.diff(self.tag_offsets)[chosen]
        offsets = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
        shifts = np.repeat(self.tag_offsets[chosen] - offsets[:-1], counts)  # from a tag's new place to its old one
        return replace(
            self,
            ids=tuple(self.ids[i] for i in places),
            images=tuple(self.images[i] for i in places),
            tag_ids=self.tag_ids[np.arange(len(shifts)) + shifts],
            tag_offsets=offsets,
            splits=tuple(self.splits[i] for i in places),
            masks=tuple(self.masks[i] for i in places),
            labels=tuple(self.labels[i] for i in places),
            tagged=self.tagged[chosen],
            whole=self.whole[chosen],
        )

    def split(self, name: str) -> Table:
        """The table of one split; empty if there is none of that name."""
        return self.select([i for i, split in enumerate(self.splits) if split == name])

    def with_masks(self) -> Table:
        """The table of those images that have a mask."""
        return self.select([i for i, mask in enumerate(self.masks) if mask is not None])
