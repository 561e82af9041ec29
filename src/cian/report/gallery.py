"""Rows of images: each image, its maps, its seeds and its masks."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cian.data.images import read_image, reduced
from cian.data.masks import read_mask
from cian.data.table import IGNORE, TRAIN, Table
from cian.evaluation.folders import image_miou
from cian.pipeline.context import Context
from cian.report.pictures import Layer, Pictures, colour, heat_layer, mask_layer
from cian.seeds.cam import class_activation_maps

SHOWN, SHOWN_MOST = 12, 24  # rows of images: at least, and at most if there are many classes
TRAINING_SHOWN = 4
CANDIDATES = 400  # images to choose from, spread over the split


def galleries(context: Context, pictures: Pictures) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """Rows for some of the predicted images and, if these are others, for some of the training images."""
    predicted = context.predict_table
    scored = predicted.with_masks()
    classifier = context.load_classifier() if context.has_seeds and context.has_classifier else None
    parts: list[dict[str, Any] | None] = []
    for table, number, most in (
        (scored if len(scored) else predicted, SHOWN, SHOWN_MOST),
        (context.train_table if TRAIN not in context.predict_splits else None, TRAINING_SHOWN, SHOWN),
    ):
        if table is None or not len(table):
            parts.append(None)
            continue
        rows = [_row(context, table, row, classifier, pictures) for row in choose(context, table, number, most)]
        parts.append({"rows": rows, "total": len(table)})
    there = [part for part in parts if part is not None]
    for part in there:  # images of one size in both
        part["columns"] = max(len(row["tiles"]) for other in there for row in other["rows"])
    return parts[0], parts[1]


def choose(context: Context, table: Table, number: int, most: int) -> list[int]:
    """Rows that together show every class, if `most` rows can. The scores of the images do not count.

    The class that was shown least gets the next image. The images come from all parts of the table.
    """
    candidates = evenly_spread(len(table), CANDIDATES)
    shows = {row: shown_classes(context, table, row) for row in candidates}
    missing = {class_id for classes in shows.values() for class_id in classes}
    chosen: list[int] = []
    count: Counter[int] = Counter()
    while len(chosen) < min(len(candidates), number if not missing else most):
        wanted = sorted(missing or {c for row in candidates if row not in chosen for c in shows[row]})
        target = min(wanted, key=lambda class_id: count[class_id], default=None)
        open_rows = [row for row in candidates if row not in chosen]
        row = next((row for row in open_rows if target in shows[row]), open_rows[0])
        chosen.append(row)
        count.update(shows[row])
        missing -= shows[row]
    return chosen


def evenly_spread(count: int, most: int) -> list[int]:
    """At most `most` of the numbers below `count`, evenly spread."""
    return np.linspace(0, count - 1, min(count, most)).round().astype(int).tolist()


def shown_classes(context: Context, table: Table, row: int) -> set[int]:
    """The classes of an image: its tags or, if they are unknown, the classes in its predicted mask."""
    if table.tagged[row]:
        return set(table.tags(row).tolist())
    mask = mask_if_there(context.find_mask("final", table.ids[row]))
    return set() if mask is None else set(np.unique(mask).tolist()) - {0, IGNORE}


def _row(context: Context, table: Table, row: int, classifier: Any, pictures: Pictures) -> dict[str, Any]:
    """One image, its maps, its seeds and its masks."""
    config, image_id = context.config, table.ids[row]
    image = read_image(table.images[row])
    picture = pictures.add(image_id, image)
    size = (picture["width"], picture["height"])
    truth_file = table.masks[row]
    truth = None if truth_file is None else read_mask(truth_file, table.mask_ids)
    tiles: list[dict[str, Any]] = [{"name": "image", "layer": None, "iou": None, "about": "the image"}]

    def add(name: str, about: str, layer: Layer, iou: float | None = None) -> None:
        tiles.append({"name": name, "about": about, "layer": layer, "iou": iou})

    if classifier is not None and len(table.tags(row)):
        working = reduced(image, config.seed_side)
        maps = class_activation_maps(classifier, working, table.tags(row), config.seeds)
        names = {"CAM": "class activation map of its tags", "object map": "where objects of its tags are"}
        for (name, about), values in zip(names.items(), maps, strict=True):
            add(name, about, heat_layer(_resized(values.max(0), size, 4)))
    for folder in context.mask_folders:
        mask = mask_if_there(context.run.mask(folder.folder, image_id)) if folder.caption else None
        if mask is not None and table.splits[row] in folder.table.splits:
            sparse = folder.role == "seeds"
            iou = None if truth is None or sparse else image_miou(mask, truth, table.num_classes)
            add(folder.caption, folder.description, mask_layer(mask, size, seeds=sparse), iou)
    if truth is not None:
        add("truth", "true mask", mask_layer(truth, size))
    classes = sorted(shown_classes(context, table, row))
    return {
        **picture,
        "tiles": tiles,
        "classes": [{"name": table.class_names[i], "colour": colour(i)} for i in classes],
        "tagged": bool(table.tagged[row]),
        "split": table.splits[row],
    }


def mask_if_there(file: Path | None) -> np.ndarray | None:
    return read_mask(file) if file is not None and file.exists() else None


def _resized(values: np.ndarray, size: tuple[int, int], factor: int) -> np.ndarray:
    """A smooth (H, W) float map at 1 / factor of a (width, height)."""
    target = (max(1, size[0] // factor), max(1, size[1] // factor))
    return np.asarray(Image.fromarray(values.astype(np.float32)).resize(target, Image.Resampling.BILINEAR))
