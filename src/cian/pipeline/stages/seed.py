"""Seed maps: seeds/ID.png of the training images; compare/seeds/ID.png of others that they can be scored on."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from cian.data.check import proportional
from cian.data.masks import read_mask, write_mask
from cian.data.table import IGNORE, TRAIN, Table
from cian.errors import CianError
from cian.files import atomic
from cian.pipeline.context import Context, clean_start
from cian.pipeline.stages.classify import load_classifier
from cian.runs.each_image import for_each_image
from cian.seeds.cam import class_activation_maps
from cian.seeds.saliency import saliency_source
from cian.seeds.seed_map import seed_map

FOLDER, HELD_OUT = "seeds", "compare/seeds"


def run(context: Context) -> None:
    _make(context, context.train_table, FOLDER, "seeds")


def run_held_out(context: Context) -> None:
    """To be scored, and for the report; nothing is trained on them."""
    if len(context.held_out_seed_table):
        _make(context, context.held_out_seed_table, HELD_OUT, "seeds of held-out images")


def seed_file(context: Context, table: Table, row: int) -> Path:
    """Where the seed map of an image lies, if it has one."""
    return context.run.mask(FOLDER if table.splits[row] == TRAIN else HELD_OUT, table.ids[row])


def _make(context: Context, table: Table, folder: str, label: str) -> None:
    settings = context.config.seeds
    clean_start(context, folder)
    targets = [context.run.mask(folder, image_id) for image_id in table.ids]
    if settings.folder is not None:
        files = [settings.folder / f"{image_id}.png" for image_id in table.ids]

        def take_over(row: int, image: np.ndarray, _: None) -> None:
            _take_over(files[row], image.shape[:2], table.num_classes, targets[row])

        for_each_image(
            context.accelerator, context.config.seed_side, table, targets, label, lambda row, image: None, take_over
        )
        return
    model = load_classifier(context)
    saliency = saliency_source(settings.background)

    def compute(row: int, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return class_activation_maps(model, image, table.tags(row), settings)

    def finish(row: int, image: np.ndarray, maps: tuple[np.ndarray, np.ndarray]) -> None:
        salient = saliency(table.ids[row], image) if saliency is not None and len(table.tags(row)) else None
        write_mask(targets[row], seed_map(image, *maps, table.tags(row), settings, salient))

    for_each_image(context.accelerator, context.config.seed_side, table, targets, label, compute, finish)


def check_ready_made(source: Path, table: Table) -> None:
    """
    Raises:
        CianError: an image has no ready-made seed map.
    """
    missing = next((file for image_id in table.ids if not (file := source / f"{image_id}.png").is_file()), None)
    if missing is not None:
        raise CianError(f"{missing}: no such seed map. seeds.folder needs ID.png for every training image.")


def _take_over(file: Path, size: tuple[int, int], num_classes: int, target: Path) -> None:
    """Copies a ready-made seed map of an image of this (height, width) into the run.

    Raises:
        CianError: it holds class ids that do not exist, or has not the proportions of its image.
    """
    seeds = read_mask(file)
    ids = np.flatnonzero(np.bincount(seeds.ravel(), minlength=256))
    wrong = ids[(ids >= num_classes) & (ids != IGNORE)]
    if len(wrong):
        raise CianError(f"{file}: holds class id {wrong[0]}; the classes are 0 … {num_classes - 1}, 255 = ignore.")
    if not proportional(seeds.shape, size):
        raise CianError(
            f"{file}: has {seeds.shape[1]} x {seeds.shape[0]} pixels, its image {size[1]} x {size[0]}: other "
            "proportions. Make it of the image as it is shown, turned by its EXIF orientation."
        )
    with atomic(target) as temporary:
        shutil.copyfile(file, temporary)
