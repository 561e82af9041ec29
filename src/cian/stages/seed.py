"""Seed maps of the training images (and of those others that they can be scored on): seeds/ID.png."""

from __future__ import annotations

import shutil

import numpy as np

from cian.data.masks import read_mask, write_mask
from cian.data.table import IGNORE
from cian.errors import CianError
from cian.runs import atomic
from cian.seeds.cam import class_activation_maps
from cian.seeds.saliency import saliency_source
from cian.seeds.seeds import seed_map
from cian.stages.classify import load_classifier
from cian.stages.context import Context, clean_start, for_each_image

FOLDER = "seeds"


def run(context: Context) -> None:
    settings = context.config.seeds
    table = context.seed_table
    clean_start(context, FOLDER)
    if settings.folder is not None:
        if context.accelerator.is_main_process:
            _take_over(context)
        context.accelerator.wait_for_everyone()
        return
    model = load_classifier(context)
    saliency = saliency_source(settings.background)

    def compute(row: int, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return class_activation_maps(model, image, table.tags(row), settings.scales, settings.mirror)

    def finish(row: int, image: np.ndarray, maps: tuple[np.ndarray, np.ndarray]) -> None:
        salient = saliency(table.ids[row], image) if saliency is not None and len(table.tags(row)) else None
        write_mask(targets[row], seed_map(image, *maps, table.tags(row), settings, salient))

    targets = [context.run.mask(FOLDER, image_id) for image_id in table.ids]
    for_each_image(context.accelerator, context.config.max_side, table, targets, "seeds", compute, finish)


def _take_over(context: Context) -> None:
    """Copies ready-made seed maps into the run.

    Raises:
        CianError: a training image has no map, or a map holds class ids that do not exist.
    """
    source = context.config.seeds.folder
    table = context.seed_table
    assert source is not None
    for i, image_id in enumerate(table.ids):
        file = source / f"{image_id}.png"
        if not file.is_file():
            if table.splits[i] != "train":
                continue
            raise CianError(f"{file}: no such seed map. seeds.folder needs ID.png for every training image.")
        ids = np.unique(read_mask(file))
        wrong = ids[(ids >= table.num_classes) & (ids != IGNORE)]
        if len(wrong):
            raise CianError(
                f"{file}: holds class id {wrong[0]}; the classes are 0 … {table.num_classes - 1}, 255 = ignore."
            )
        target = context.run.mask(FOLDER, image_id)
        if not target.exists():
            with atomic(target) as temporary:
                shutil.copyfile(file, temporary)
