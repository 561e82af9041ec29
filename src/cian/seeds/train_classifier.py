"""Trains the classifier of the seeds."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn

from cian.backbone.grid import Grid
from cian.config import Config
from cian.data.dataset import TrainingSet
from cian.data.sampler import GroupSampler
from cian.data.table import Table
from cian.seeds.classifier import Classifier, build_classifier, classification_loss
from cian.training.batches import enough_epochs, training_batches
from cian.training.loading import Batch
from cian.training.trainer import Losses, Task, fit


def train_classifier(config: Config, table: Table, folder: Path, accelerator: Accelerator) -> Classifier:
    """Trains a classifier of the tags into FOLDER/model.safetensors.

    Args:
        table: the training images.

    Returns:
        The classifier; it holds the trained weights unless the file was there before.
    """
    settings = config.classify
    set_seed(config.seed)
    model = build_classifier(config, len(table.classes))
    grid = model.backbone.grid
    sampler = classifier_batches(config, table, accelerator)
    task = Task(
        model=model,
        loss=partial(_loss, grid=grid),
        data=TrainingSet(table, settings.augment, config.seed, grid.mean_colour, max_side=config.seed_side),
        sampler=sampler,
        epochs=enough_epochs(sampler, settings.epochs, settings.min_steps),
        optimizer=settings.optimizer,
        folder=folder,
        title="training the classifier",
        section="classify",
    )
    fit(task, config.runtime, accelerator)
    return model


def classifier_batches(config: Config, table: Table, accelerator: Accelerator) -> GroupSampler:
    """The batches of the classifier.

    Raises:
        CianError: there are too few images for a batch.
    """
    return training_batches(config, table, accelerator, "classify", config.classify.batch_size)


def _loss(model: nn.Module, batch: Batch, _: float, grid: Grid) -> Losses:
    return {"total": classification_loss(model(grid.normalise(batch["image"])), batch["tags"])}
