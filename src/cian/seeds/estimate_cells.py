"""Estimates what a trained classifier knows of single cells, from the training images (see `CellScores`)."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor

from cian.data.table import Table
from cian.runs.each_image import work_on_rows
from cian.seeds.cam import object_cells
from cian.seeds.cell_scores import at_cells
from cian.seeds.classifier import Classifier
from cian.training.checkpoint import load_weights, save_weights

MOST_IMAGES = 5000  # images whose cells are compared with each other: about as many of each class
MOST_CELLS = 40_000  # cells of all these images together


def estimate_cells(model: Classifier, table: Table, side: int, file: Path, accelerator: Accelerator) -> None:
    """Compares the feature cells of the training images with each other, and writes the scores of cells to `file`.

    Args:
        model: with the trained weights.
        table: the training images.
        side: larger images are reduced to this long side, in pixels.
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

    @torch.no_grad()
    def features(row: int, image: np.ndarray) -> Tensor:
        grid = model.backbone.grid
        pixels = grid.scaled(grid.as_input(image, accelerator.device), 1.0)
        cells, detail = model.backbone.forward_detail(pixels)
        return torch.cat((cells, at_cells(detail, cells)), 1)[0].flatten(1).T  # (n, C + C')

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
        scores.estimate_objectness(every[:, :channels], every[:, channels:], torch.cat(known))
        save_weights(scores, file)
    accelerator.wait_for_everyone()


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
