"""Estimates what a trained classifier knows of single cells, from the training images (see `CellScores`)."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import gather_object
from safetensors.torch import load_file, save
from torch import Tensor

from cian.data.masks import read_mask
from cian.data.table import IGNORE, Table
from cian.errors import Problem
from cian.files import write_bytes
from cian.runs.each_image import work_on_rows
from cian.seeds.cam import object_cells
from cian.seeds.cell_scores import Contrast, LabelledCells, at_cells
from cian.seeds.classifier import Classifier
from cian.terminal import note
from cian.training.checkpoint import load_weights, save_weights

MOST_IMAGES = 5000  # images whose cells are compared with each other: about as many of each class
MOST_CELLS = 40_000  # cells of all these images together
MOST_LABELLED = 200_000  # cells of objects, or of background, of all images with a label map together
BACKGROUND = 0.2  # the share of objects among the labelled pixels of a cell of background


def estimate_cells(
    model: Classifier, table: Table, side: int, file: Path, contrast_file: Path, accelerator: Accelerator
) -> None:
    """Compares the feature cells of the training images with each other, and writes the scores of cells to `file`.

    Args:
        model: with the trained weights.
        table: the training images.
        side: larger images are reduced to this long side, in pixels.
        contrast_file: where to write what objects and background look like, for `learn_cells`. Without objects, it is
            not written.
    """
    model.eval().to(accelerator.device)
    rows = some_of_each_class(table, MOST_IMAGES)
    most = max(4, min(64, MOST_CELLS // len(rows)))
    tags = torch.from_numpy(table.select(rows).multi_hot())
    share = rows[accelerator.process_index :: accelerator.num_processes]

    def collect(title: str, compute: Callable[[int, np.ndarray], Tensor]) -> list[Tensor]:
        """What `compute` says of some cells of each image of `rows`: it returns (n, …) for the n cells of an image."""
        found: dict[int, Tensor] = {}

        def finish(row: int, image: np.ndarray, values: Tensor) -> None:
            found[row] = values[torch.linspace(0, len(values) - 1, min(most, len(values))).long()].cpu()

        work_on_rows(accelerator, side, table, share, title, compute, finish)
        found = {row: values for part in gather_object([found]) for row, values in part.items()}
        return [found[row] for row in rows]

    def features(row: int, image: np.ndarray) -> Tensor:
        return _features(model, image)[0].flatten(1).T  # (n, C + C')

    def objects(row: int, image: np.ndarray) -> Tensor:
        return object_cells(model, image, table.tags(row)).flatten()

    cells = collect("object maps, pass 1 of 2", features)
    channels = model.backbone.channels
    if accelerator.is_main_process:
        scores = model.cells.cpu()
        scores.estimate([part[:, :channels] for part in cells], tags)
        save_weights(scores, file)
    accelerator.wait_for_everyone()
    load_weights(model.cells, file)
    model.to(accelerator.device)
    known = collect("object maps, pass 2 of 2", objects)
    if accelerator.is_main_process:
        scores = model.cells.cpu()
        every = torch.cat(cells)
        contrast = scores.estimate_objectness(every[:, :channels], every[:, channels:], torch.cat(known))
        if contrast is not None:
            write_bytes(contrast_file, save(vars(contrast)))
        save_weights(scores, file)
    accelerator.wait_for_everyone()


def learn_cells(
    model: Classifier, table: Table, side: int, contrast_file: Path, file: Path, accelerator: Accelerator
) -> None:
    """Learns objectness from label maps, without training, and writes the scores of cells to `file`.

    Args:
        model: with the trained weights and the scores of cells of `estimate_cells`.
        table: the training images. Those with a label map count.
        side: larger images are reduced to this long side, in pixels.
        contrast_file: what `estimate_cells` wrote. Without it, the scores stay as they are.
    """
    model.eval().to(accelerator.device)
    rows = [row for row, labels in enumerate(table.labels) if labels is not None]
    most = max(64, MOST_LABELLED // max(1, len(rows)))
    found: dict[int, LabelledCells] = {}

    def compute(row: int, image: np.ndarray) -> Tensor:
        return _features(model, image)

    def finish(row: int, image: np.ndarray, features: Tensor) -> None:
        labels = table.labels[row]
        assert labels is not None
        shape = features.shape[2:]
        inside, outside = labelled_cells(read_mask(labels, table.mask_ids), (shape[0], shape[1]))
        y = model.cells.described(*features[0].flatten(1).T.split(list(channels), 1))
        parts = (y[cells.flatten()].cpu() for cells in (inside, outside))
        some = [part[torch.linspace(0, len(part) - 1, min(most, len(part))).long()] for part in parts]
        found[row] = LabelledCells(frozenset(table.tags(row).tolist()), *some)

    channels = model.backbone.channels, model.backbone.detail_channels
    share = rows[accelerator.process_index :: accelerator.num_processes]
    work_on_rows(accelerator, side, table, share, "cells of label maps", compute, finish)
    found = {row: cells for part in gather_object([found]) for row, cells in part.items()}
    if accelerator.is_main_process:
        scores = model.cells.cpu()
        if not contrast_file.exists():
            value = "not there: no objects were found, or an earlier version trained the classifier"
            cure = "Label maps change the seeds of their own images alone. To use them for all, start a new run (--out)"
            note(Problem(str(contrast_file), value, cure))
        else:
            scores.learn_objectness(Contrast(**load_file(contrast_file)), [found[row] for row in rows])
        save_weights(scores, file)
    accelerator.wait_for_everyone()


def labelled_cells(labels: np.ndarray, shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The cells whose labelled pixels are mostly objects, and those whose labelled pixels are nearly all background.

    Shape:
        labels: (H, W) uint8, 255 = unlabelled; shape: (h, w), of the cells. Returns two (h, w) bool.
    """
    values = torch.from_numpy(labels)
    shares = torch.stack((values != IGNORE, (values != IGNORE) & (values != 0))).float()
    labelled, objects = F.interpolate(shares[None], shape, mode="area")[0]  # (h, w) each
    share = objects / labelled.clamp(min=1e-9)
    return (labelled > 0) & (share > 0.5), (labelled > 0) & (share < BACKGROUND)


@torch.no_grad()
def _features(model: Classifier, image: np.ndarray) -> Tensor:
    """Features of an image's cells, the last ones and the fine ones: (1, C + C', h, w)."""
    grid = model.backbone.grid
    pixels = grid.scaled(grid.as_input(image, next(model.parameters()).device), 1.0)
    cells, detail = model.backbone.forward_detail(pixels)
    return torch.cat((cells, at_cells(detail, cells)), 1)


def some_of_each_class(table: Table, most: int) -> list[int]:
    """Rows of the table: all of them, or about `most` with equal numbers from each class and from the images without a
    class, as far as there are enough."""
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
