"""Writes the seed maps of a table: made with the classifier, or taken from a folder of ready-made ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from accelerate import Accelerator

from cian.config import Config
from cian.data.masks import proportional, read_mask, reduce_labels, with_labels, write_mask
from cian.data.summary import often_together
from cian.data.table import IGNORE, Table
from cian.errors import CianError
from cian.files import copy_file
from cian.runs.each_image import for_each_image
from cian.seeds.cam import class_activation_maps
from cian.seeds.classifier import Classifier
from cian.seeds.saliency import saliency_source
from cian.seeds.seed_map import seed_map


def write_seed_maps(
    config: Config,
    table: Table,
    targets: Sequence[Path],
    title: str,
    model: Classifier,
    accelerator: Accelerator,
    *,
    training: Table,
    keep_labels: bool,
) -> None:
    """Makes the seed map of each image from its tags.

    Args:
        training: the training images. Their tags say which classes are often together.
        targets: the file of each seed map; those that exist are kept.
        title: what the progress line says.
        keep_labels: whether the labelled pixels of an image's label map replace the seeds.
    """
    settings = config.seeds
    saliency = saliency_source(settings.background)
    together = often_together(training) | np.eye(len(training.classes), dtype=bool)  # (C, C)

    def compute(row: int, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return class_activation_maps(model, image, table.tags(row), settings)

    def finish(row: int, image: np.ndarray, maps: tuple[np.ndarray, np.ndarray]) -> None:
        tags = table.tags(row)
        salient = saliency(table.ids[row], image) if saliency is not None and len(tags) else None
        labels = table.labels[row] if keep_labels else None
        known = None if labels is None else reduce_labels(read_mask(labels, table.mask_ids), image.shape[:2])
        pairs = together[np.ix_(tags - 1, tags - 1)]
        write_mask(targets[row], seed_map(image, *maps, tags, pairs, settings, salient, known))

    for_each_image(accelerator, config.seed_side, table, targets, title, compute, finish)


def copy_seed_maps(
    config: Config,
    table: Table,
    targets: Sequence[Path],
    title: str,
    source: Path,
    accelerator: Accelerator,
    *,
    keep_labels: bool,
) -> None:
    """Copies ready-made seed maps SOURCE/ID.png.

    Args:
        targets, title, keep_labels: as for `write_seed_maps`.

    Raises:
        CianError: a seed map holds unknown class ids, or does not have the proportions of its image.
    """

    def finish(row: int, image: np.ndarray, _: None) -> None:
        file, labels = source / f"{table.ids[row]}.png", table.labels[row] if keep_labels else None
        seeds = read_mask(file)
        _check_seed_map(file, seeds, image.shape[:2], table.num_classes)
        if labels is not None:
            write_mask(targets[row], with_labels(seeds, read_mask(labels, table.mask_ids)))
            return
        copy_file(file, targets[row])

    for_each_image(accelerator, config.seed_side, table, targets, title, lambda row, image: None, finish)


def check_ready_made(source: Path, table: Table) -> None:
    """
    Raises:
        CianError: an image has no ready-made seed map.
    """
    missing = next((file for image_id in table.ids if not (file := source / f"{image_id}.png").is_file()), None)
    if missing is not None:
        raise CianError(f"{missing}: no such seed map. seeds.folder needs ID.png for every training image.")


def _check_seed_map(file: Path, seeds: np.ndarray, size: tuple[int, int], num_classes: int) -> None:
    """
    Args:
        size: (height, width) of the image.
    """
    ids = np.flatnonzero(np.bincount(seeds.ravel(), minlength=256))
    wrong = ids[(ids >= num_classes) & (ids != IGNORE)]
    if len(wrong):
        raise CianError(
            f"{file}: holds class id {wrong[0]}, but class ids are 0 to {num_classes - 1}, and 255 is unlabelled. "
            "Correct the seed map."
        )
    if not proportional(seeds.shape, size):
        raise CianError(
            f"{file}: has {seeds.shape[1]} x {seeds.shape[0]} pixels, its image {size[1]} x {size[0]}: other "
            "proportions. Make the seed map from the image as it is shown, turned by its EXIF orientation."
        )
