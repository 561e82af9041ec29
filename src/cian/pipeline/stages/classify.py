"""Trains the multi-label classifier whose class activation maps become seeds, and estimates its scores of cells."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object, set_seed
from torch import Tensor, nn

from cian.backbone.grid import Grid
from cian.build import build_classifier
from cian.config import Config
from cian.data.dataset import TrainingSet
from cian.data.sampler import GroupSampler
from cian.data.table import Table
from cian.pipeline.context import Context, clean_start
from cian.runs.each_image import work_on_images
from cian.seeds.cam import object_cells
from cian.seeds.cell_scores import at_cells
from cian.seeds.classifier import Classifier, classification_loss
from cian.training.checkpoint import load_weights, save_weights
from cian.training.loading import Batch
from cian.training.trainer import Losses, Task, fit

FOLDER = "classify"
MOST_IMAGES = 5000  # whose cells are compared with each other: about as many of each class
MOST_CELLS = 40_000  # of all of them together


def run(context: Context) -> None:
    config = context.config
    table = context.train_table
    folder = clean_start(context, FOLDER)
    set_seed(config.seed)
    model = build_classifier(config, len(table.classes))
    settings = config.classify
    sampler = make_sampler(config, table, context.accelerator)
    grid = model.backbone.grid
    task = Task(
        model=model,
        loss=partial(_loss, grid=grid),
        data=TrainingSet(table, settings.augment, config.seed, grid.mean_colour, max_side=config.seed_side),
        sampler=sampler,
        epochs=enough_epochs(sampler, settings.epochs, settings.min_steps),
        optimizer=settings.optimizer,
        folder=folder,
        label="classifier",
        section="classify",
    )
    fit(task, config.runtime, context.accelerator)
    _estimate_cells(context, model, folder / "cells.safetensors")


def _estimate_cells(context: Context, model: Classifier, file: Path) -> None:
    """Compares the feature cells of the training images with each other (see `CellScores`)."""
    table, accelerator = context.train_table, context.accelerator
    load_weights(model, file.with_name("model.safetensors"))  # `fit` may have found it there
    model.eval().to(accelerator.device)
    rows = _some_of_each_class(table, MOST_IMAGES)
    most = max(4, min(64, MOST_CELLS // len(rows)))
    tags = torch.from_numpy(table.select(rows).multi_hot())
    share = rows[accelerator.process_index :: accelerator.num_processes]

    def collect(label: str, compute: Callable[[int, np.ndarray], Tensor]) -> list[Tensor]:
        """Of some cells of each image of `rows`, what `compute` says of all its cells (n, …)."""
        found: dict[int, Tensor] = {}

        def finish(row: int, image: np.ndarray, values: Tensor) -> None:
            found[row] = values[torch.linspace(0, len(values) - 1, min(most, len(values))).long()].cpu()

        work_on_images(accelerator, context.config.seed_side, table, share, label, compute, finish)
        found = {row: values for part in gather_object([found]) for row, values in part.items()}
        return [found[row] for row in rows]

    @torch.no_grad()
    def features(row: int, image: np.ndarray) -> Tensor:
        grid = model.backbone.grid
        pixels = grid.scaled(grid.as_input(image, accelerator.device), 1.0)
        cells, detail = model.backbone.forward_detail(pixels)
        return torch.cat((cells, at_cells(detail, cells)), 1)[0].flatten(1).T  # (n, C + C')

    def objects(row: int, image: np.ndarray) -> Tensor:
        return object_cells(model, image, table.tags(row)).flatten()

    cells = collect("comparing cells", features)
    channels = model.backbone.channels
    if accelerator.is_main_process:
        scores = model.cells.cpu()
        scores.estimate([part[:, :channels] for part in cells], tags)
        save_weights(scores, file)
    accelerator.wait_for_everyone()
    load_weights(model.cells, file)
    model.to(accelerator.device)
    known = collect("telling objects", objects)
    if accelerator.is_main_process:
        scores = model.cells.cpu()
        every = torch.cat(cells)
        scores.estimate_objectness(every[:, :channels], every[:, channels:], torch.cat(known))
        save_weights(scores, file)
    accelerator.wait_for_everyone()


def _some_of_each_class(table: Table, most: int) -> list[int]:
    """Rows of the table: all, or at most about `most`, as many of each class, and of images without one, as there
    are."""
    if len(table) <= most:
        return list(range(len(table)))
    owners = np.repeat(np.arange(len(table)), np.diff(table.tag_offsets))
    order = np.argsort(table.tag_ids, kind="stable")
    starts = np.searchsorted(table.tag_ids[order], np.arange(1, len(table.classes) + 2))
    pools = [owners[order[start:stop]] for start, stop in pairwise(starts.tolist())]
    pools.append(np.flatnonzero(np.diff(table.tag_offsets) == 0))
    pools = [pool for pool in pools if len(pool)]
    share = -(-most // len(pools))
    chosen = [pool[np.linspace(0, len(pool) - 1, min(share, len(pool))).astype(int)] for pool in pools]
    return sorted(set(np.concatenate(chosen).tolist()))


def load_classifier(context: Context) -> Classifier:
    model = build_classifier(context.config, len(context.table.classes), weights="random")
    folder = Path(context.run.folder(FOLDER))
    load_weights(model, folder / "model.safetensors")
    load_weights(model.cells, folder / "cells.safetensors")
    return model.eval().to(context.accelerator.device)


def make_sampler(config: Config, table: Table, accelerator: Accelerator) -> GroupSampler:
    return training_groups(config, table, accelerator, "classify", config.classify.batch_size)


def training_groups(
    config: Config, table: Table, accelerator: Accelerator, section: str, batch_size: int, group_size: int = 1
) -> GroupSampler:
    """The batches of the training images.

    Args:
        section: of the settings, for the error.

    Raises:
        CianError: they are too few.
    """
    return GroupSampler(
        table.tag_ids,
        table.tag_offsets,
        batch_size,
        group_size,
        config.seed,
        accelerator.process_index,
        accelerator.num_processes,
        f"{section}.batch_size",
    )


def enough_epochs(sampler: GroupSampler, epochs: int, min_steps: int) -> int:
    return max(epochs, -(-min_steps // len(sampler.epoch(0))))


def _loss(model: nn.Module, batch: Batch, _: float, grid: Grid) -> Losses:
    return {"total": classification_loss(model(grid.normalise(batch["image"])), batch["tags"])}
