"""Rows of images: each image, its maps, its seeds and its masks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cian.data.images import read_image, reduced
from cian.data.masks import read_mask
from cian.data.table import Table
from cian.evaluation.folders import object_iou
from cian.report.findings import Finding
from cian.report.samples import mask_if_there, shown_classes
from cian.seeds.cam import class_activation_maps
from cian.seeds.classifier import Classifier

if TYPE_CHECKING:
    from cian.pipeline.context import Context


@dataclass(frozen=True)
class View:
    """What is laid over an image: a mask or a heat map, or nothing.

    Attributes:
        name, about: a few words, and a sentence for a screen reader.
        mask: (H, W) uint8.
        heat: (h, w) float, 0 … 1.
        score: IoU of the objects, see `object_iou`.
    """

    name: str
    about: str
    mask: np.ndarray | None = None
    heat: np.ndarray | None = None
    score: float | None = None


@dataclass(frozen=True)
class ImageRow:
    """One image and all that lies over it.

    Attributes:
        image: (H, W, 3) uint8.
        classes: the ids of its tags or, if they are unknown, of the classes in its mask.
        tagged: whether its tags are known.
        found: what is wrong with its mask, if it was chosen for this.
    """

    image_id: str
    image: np.ndarray
    views: list[View]
    classes: list[int]
    tagged: bool
    found: Finding | None


def image_rows(
    context: Context, table: Table, chosen: Sequence[int | Finding], classifier: Classifier | None
) -> Iterator[ImageRow]:
    """One after the other, because images can be large.

    Args:
        chosen: rows of the table, or why they were chosen.
        classifier: what maps are made with; None for no maps.
    """
    for each in chosen:
        row, found = (each.row, each) if isinstance(each, Finding) else (each, None)
        image = read_image(table.images[row])
        yield ImageRow(
            table.ids[row],
            image,
            _views(context, table, row, image, classifier),
            sorted(shown_classes(context, table, row)),
            bool(table.tagged[row]),
            found,
        )


def _views(context: Context, table: Table, row: int, image: np.ndarray, classifier: Classifier | None) -> list[View]:
    config, image_id = context.config, table.ids[row]
    truth_file = table.masks[row]
    truth = None if truth_file is None else read_mask(truth_file, table.mask_ids)
    views = [View("image", "the image")]
    if classifier is not None and len(table.tags(row)):
        working = reduced(image, config.seed_side)
        maps = class_activation_maps(classifier, working, table.tags(row), config.seeds)
        names = {"CAM": "class activation map of its tags", "object map": "where objects of its tags are"}
        views += [View(name, about, heat=each.max(0)) for (name, about), each in zip(names.items(), maps, strict=True)]
    for folder in context.mask_folders:
        mask = mask_if_there(context.run.mask(folder.folder, image_id)) if folder.caption else None
        if mask is not None and table.splits[row] in folder.table.splits:
            score = None if truth is None or folder.role == "seeds" else object_iou(mask, truth)
            views.append(View(folder.caption, folder.description, mask, score=score))
    if truth is not None:
        views.append(View("truth", "true mask", truth))
    return views
