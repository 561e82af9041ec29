"""Trains the segmentation network on label maps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn

from cian.backbone.grid import Grid
from cian.build import build_network
from cian.config import AugmentConfig, Config, OptimizerConfig, TrainConfig
from cian.data.dataset import TrainingSet
from cian.data.sampler import GroupSampler
from cian.data.table import Table
from cian.distributed import average
from cian.losses import cian_loss
from cian.network import CIAN
from cian.training.batches import enough_epochs, training_batches
from cian.training.loading import Batch
from cian.training.trainer import Losses, Task, fit


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
    sampler = network_batches(config, table, accelerator)
    grid = network.backbone.grid
    task = Task(
        model=network,
        loss=partial(_loss, grid=grid, settings=settings, group_size=sampler.group_size),
        data=TrainingSet(table, fitting_crop(settings, grid), config.seed, grid.mean_colour, labels, config.max_side),
        sampler=sampler,
        epochs=epochs or enough_epochs(sampler, settings.epochs, settings.min_steps),
        optimizer=optimizer,
        folder=folder,
        title=title,
        section="train",
    )
    fit(task, config.runtime, accelerator)


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
        balanced=settings.balanced,
        robust=settings.robust if progress >= settings.robust_after else 0.0,
        average=average,
    )
