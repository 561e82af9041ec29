"""Trains the segmentation network on label maps."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn

from cian.backbone.grid import Grid
from cian.build import build_network
from cian.config import AugmentConfig, Config, OptimizerConfig, TrainConfig
from cian.data.dataset import TrainingSet
from cian.data.sampler import GroupSampler
from cian.data.table import IGNORE, Table
from cian.distributed import average
from cian.losses import cian_loss
from cian.network import CIAN
from cian.training.batches import enough_epochs, training_batches
from cian.training.loading import Batch
from cian.training.trainer import Losses, Task, fit

MOST_REPEATS = 8  # of an image with a label map in an epoch


def train_network(
    config: Config,
    table: Table,
    labels: Sequence[Path],
    folder: Path,
    accelerator: Accelerator,
    *,
    title: str,
    start: Callable[[CIAN], None],
    epochs: int | None = None,
    optimizer: OptimizerConfig,
) -> None:
    """Trains a network into FOLDER/model.safetensors.

    Args:
        table: the training images.
        labels: the label map of each image.
        title: what the progress line says.
        start: gives the network its first weights.
        epochs: default: as `train.epochs` and `train.min_steps` say.
    """
    settings = config.train
    set_seed(config.seed)
    network = build_network(config, table.num_classes)
    start(network)
    rows = often_enough(table, settings.labelled_share)
    passes = len(table) / len(rows)  # over the images, in an epoch: an epoch that takes some twice is longer
    table, labels = table.select(rows), [labels[row] for row in rows]
    sampler = network_batches(config, table, accelerator)
    grid = network.backbone.grid
    task = Task(
        model=network,
        loss=partial(_loss, grid=grid, settings=settings, group_size=sampler.group_size),
        data=TrainingSet(table, fitting_crop(settings, grid), config.seed, grid.mean_colour, labels, config.max_side),
        sampler=sampler,
        epochs=enough_epochs(
            sampler, math.ceil((epochs or settings.epochs) * passes), 0 if epochs else settings.min_steps
        ),
        optimizer=optimizer,
        folder=folder,
        title=title,
        section="train",
    )
    fit(task, config.runtime, accelerator)


def often_enough(table: Table, share: float) -> np.ndarray:
    """The rows of a table, those of images with a label map as often as it takes for them to be `share` of the rows,
    but at most `MOST_REPEATS` times."""
    labelled = np.flatnonzero([labels is not None for labels in table.labels])
    others = len(table) - len(labelled)
    repeats = 1
    if len(labelled) and others:
        repeats = min(MOST_REPEATS, max(1, round(share / (1 - share) * others / len(labelled))))
    return np.concatenate([np.arange(len(table)), np.tile(labelled, repeats - 1)])


def network_batches(config: Config, table: Table, accelerator: Accelerator) -> GroupSampler:
    """The batches of the segmentation network: groups of images that share a tag, if it has a cross branch.

    Raises:
        CianError: there are too few images for a batch.
    """
    group_size = config.train.group_size if config.affinity.mode == "cross" else 1
    return training_batches(config, table, accelerator, "train", config.train.batch_size, group_size)


def fitting_crop(settings: TrainConfig, grid: Grid) -> AugmentConfig:
    """The augmentation, with the crop brought to the next size that fits the grid."""
    side, _ = grid.size(settings.augment.crop, settings.augment.crop)
    return settings.augment.model_copy(update={"crop": side})


def _loss(
    model: nn.Module, batch: Batch, progress: float, grid: Grid, settings: TrainConfig, group_size: int
) -> Losses:
    self_logits, cross_logits = model(grid.normalise(batch["image"]), group_size)
    return cian_loss(
        self_logits,
        cross_logits,
        grid.cells(batch["labels"]),
        completion=settings.completion and progress >= settings.completion_after,
        allowed=batch["tags"] if settings.tag_filter else None,
        known=grid.cells(batch["known"]) != IGNORE if "known" in batch else None,
        balance=settings.balanced,
        robust=settings.robust if progress >= settings.robust_after else 0.0,
        average=average,
    )
