"""Trains the multi-label classifier whose class activation maps become seeds."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from accelerate.utils import set_seed
from torch import nn

from cian.backbones import Backbone, build_backbone
from cian.data.dataset import TrainingSet
from cian.data.groups import GroupSampler
from cian.grid import normalise
from cian.seeds.cam import Classifier, classification_loss
from cian.stages.context import Context, clean_start
from cian.training import Batch, Losses, fit, load_weights

FOLDER = "classify"


def run(context: Context) -> None:
    config = context.config
    table = context.train_table
    folder = clean_start(context, FOLDER)
    set_seed(config.seed)
    model = build_classifier(context, config.backbone.weights)
    settings = config.classify
    fill = fill_colour(model.backbone.mean)
    sampler = make_sampler(context)
    fit(
        model,
        partial(_loss, backbone=model.backbone),
        model.parameter_groups(settings.optimizer.lr, settings.optimizer.new_lr_factor),
        TrainingSet(table, settings.augment, config.seed, fill, max_side=config.max_side),
        sampler,
        folder=folder,
        label="classifier",
        epochs=enough_epochs(sampler, settings.epochs, settings.min_steps),
        optimizer=settings.optimizer,
        runtime=config.runtime,
        accelerator=context.accelerator,
    )


def build_classifier(context: Context, weights: str) -> Classifier:
    settings = context.config.backbone
    backbone = build_backbone(settings.name, settings.output_stride, weights, settings.frozen_stages)
    return Classifier(backbone, len(context.table.classes)).to(memory_format=torch.channels_last)


def load_classifier(context: Context) -> Classifier:
    model = build_classifier(context, "random")
    load_weights(model, Path(context.run.folder(FOLDER)) / "model.safetensors")
    return model.eval().to(context.accelerator.device)


def make_sampler(context: Context) -> GroupSampler:
    return training_groups(context, "classify", context.config.classify.batch_size)


def training_groups(context: Context, section: str, batch_size: int, group_size: int = 1) -> GroupSampler:
    """The batches of the training images.

    Args:
        section: of the settings, for the error.

    Raises:
        CianError: they are too few.
    """
    accelerator = context.accelerator
    table = context.train_table
    return GroupSampler(
        table.tag_ids,
        table.tag_offsets,
        batch_size,
        group_size,
        context.config.seed,
        accelerator.process_index,
        accelerator.num_processes,
        f"{section}.batch_size",
    )


def enough_epochs(sampler: GroupSampler, epochs: int, min_steps: int) -> int:
    return max(epochs, -(-min_steps // len(sampler.epoch(0))))


def fill_colour(mean: tuple[float, ...]) -> tuple[int, int, int]:
    """The mean colour, 0 … 255: what lies outside an image is 0 after normalisation."""
    red, green, blue = (round(255 * value) for value in mean)
    return red, green, blue


def _loss(model: nn.Module, batch: Batch, _: float, backbone: Backbone) -> Losses:
    return {"total": classification_loss(model(normalise(batch["image"], backbone)), batch["tags"])}
