"""Seed maps: seeds/ID.png of the training images; compare/seeds/ID.png of others that they can be scored on."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cian.data.masks import read_mask, write_mask
from cian.data.table import IGNORE, TRAIN, Table
from cian.errors import CianError
from cian.runs import atomic
from cian.seeds.cam import class_activation_maps
from cian.seeds.saliency import saliency_source
from cian.seeds.seeds import seed_map
from cian.stages.classify import load_classifier
from cian.stages.context import Context, clean_start, for_each_image

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
        if context.accelerator.is_main_process:
            _take_over(settings.folder, table, targets)
        context.accelerator.wait_for_everyone()
        return
    model = load_classifier(context)
    saliency = saliency_source(settings.background)

    def compute(row: int, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return class_activation_maps(model, image, table.tags(row), settings.scales, settings.mirror)

    def finish(row: int, image: np.ndarray, maps: tuple[np.ndarray, np.ndarray]) -> None:
        salient = saliency(table.ids[row], image) if saliency is not None and len(table.tags(row)) else None
        write_mask(targets[row], seed_map(image, *maps, table.tags(row), settings, salient))

    for_each_image(context.accelerator, context.config.seed_side, table, targets, label, compute, finish)


def _take_over(source: Path, table: Table, targets: Sequence[Path]) -> None:
    """Copies ready-made seed maps into the run.

    Raises:
        CianError: a training image has no map, or a map holds class ids that do not exist.
    """
    for image_id, target in zip(table.ids, targets, strict=True):
        file = source / f"{image_id}.png"
        if not file.is_file():
            raise CianError(f"{file}: no such seed map. seeds.folder needs ID.png for every training image.")
        ids = np.unique(read_mask(file))
        wrong = ids[(ids >= table.num_classes) & (ids != IGNORE)]
        if len(wrong):
            raise CianError(
                f"{file}: holds class id {wrong[0]}; the classes are 0 … {table.num_classes - 1}, 255 = ignore."
            )
        if not target.exists():
            with atomic(target) as temporary:
                shutil.copyfile(file, temporary)
