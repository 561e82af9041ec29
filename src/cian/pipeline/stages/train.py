"""Trains the segmentation network: on seeds (with and without affinity), and again on the relabelled masks."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import cast

from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn

from cian.backbone.grid import Grid
from cian.build import build_network
from cian.config import AugmentConfig, Config, TrainConfig
from cian.data.dataset import TrainingSet
from cian.data.sampler import GroupSampler
from cian.data.table import Table
from cian.losses import cian_loss
from cian.network import CIAN
from cian.pipeline.context import Context, clean_start
from cian.pipeline.stages import classify
from cian.pipeline.stages.classify import enough_epochs, training_groups
from cian.training.checkpoint import load_weights
from cian.training.distributed import average
from cian.training.loading import Batch
from cian.training.trainer import Losses, Task, fit

BASELINE, TRAINED, RETRAINED = "baseline", "train", "retrain"
LABELS = {BASELINE: "seeds", TRAINED: "seeds", RETRAINED: "relabel"}


def run(context: Context, name: str) -> None:
    """
    Args:
        name: "baseline" (the same network without affinity), "train" or "retrain"; also the folder.
    """
    config = network_config(context.config, name)
    settings = config.train
    table = context.train_table
    folder = clean_start(context, name)
    set_seed(config.seed)
    network = build_network(config, table.num_classes)
    if name == RETRAINED:
        load_weights(network, context.run.folder(TRAINED) / "model.safetensors")
    elif settings.start == "classifier" and config.has_classifier:
        network.backbone.load_state_dict(classify.load_classifier(context).backbone.state_dict())
    sampler = make_sampler(config, table, context.accelerator)
    epochs = enough_epochs(sampler, settings.epochs, settings.min_steps)
    optimizer = settings.optimizer
    if name == RETRAINED:
        epochs = config.retrain.epochs or epochs
        optimizer = optimizer.model_copy(update={"lr": optimizer.lr * config.retrain.lr_factor})
    grid = network.backbone.grid
    task = Task(
        model=network,
        loss=partial(_loss, grid=grid, settings=settings, group_size=sampler.group_size),
        data=TrainingSet(
            table,
            fitting_crop(settings, grid),
            config.seed,
            grid.mean_colour,
            label_files(context, name),
            config.max_side,
        ),
        sampler=sampler,
        epochs=epochs,
        optimizer=optimizer,
        folder=folder,
        label={BASELINE: "without affinity", TRAINED: "training", RETRAINED: "retraining"}[name],
        section="train",
    )
    fit(task, config.runtime, context.accelerator)


def make_sampler(config: Config, table: Table, accelerator: Accelerator) -> GroupSampler:
    """As `training_groups`; of groups that share a tag where there is a cross branch."""
    group_size = config.train.group_size if config.affinity.mode == "cross" else 1
    return training_groups(config, table, accelerator, "train", config.train.batch_size, group_size)


def network_config(config: Config, name: str) -> Config:
    """The settings of one of the networks: the baseline has no affinity module."""
    if name != BASELINE:
        return config
    return config.model_copy(update={"affinity": config.affinity.model_copy(update={"mode": "none"})})


def label_files(context: Context, name: str) -> list[Path]:
    """Where the labels of each training image lie."""
    table = context.train_table
    if not context.config.seeded and name != RETRAINED:
        return cast("list[Path]", list(table.masks))  # each has one, or the run had not started
    return [context.run.mask(LABELS[name], image_id) for image_id in table.ids]


def load_network(context: Context, name: str) -> CIAN:
    """A trained network of this run, ready to predict."""
    network = build_network(network_config(context.config, name), context.table.num_classes, weights="random")
    load_weights(network, context.run.folder(name) / "model.safetensors")
    return network.eval().to(context.accelerator.device)


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
