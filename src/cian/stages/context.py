"""What every stage gets: the run, its settings, the data, and the device; and work image by image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from accelerate import Accelerator

from cian.config import Config
from cian.cores import ahead, cores
from cian.data.images import read_image
from cian.data.problems import FileError
from cian.data.table import TRAIN, Table
from cian.progress import Ticker
from cian.runs import Run, remove_temporaries
from cian.training import make_accelerator

Result = TypeVar("Result")

ON_GPU = 4  # images at a time whose results are in its memory


@dataclass
class Context:
    """
    Attributes:
        run: the run directory.
        config: resolved settings.
        table: all images of the run.
    """

    run: Run
    config: Config
    table: Table

    @cached_property
    def accelerator(self) -> Accelerator:
        return make_accelerator(self.config.runtime)

    @cached_property
    def train_table(self) -> Table:
        return self.table.split(TRAIN)

    @cached_property
    def predict_splits(self) -> tuple[str, ...]:
        """As configured; default: all but train, or train if there is no other."""
        if self.config.predict.splits is not None:
            return self.config.predict.splits
        return tuple(name for name in self.table.split_names if name != TRAIN) or (TRAIN,)

    @cached_property
    def predict_table(self) -> Table:
        return self.table.select([i for i, split in enumerate(self.table.splits) if split in self.predict_splits])

    @cached_property
    def scored_table(self) -> Table:
        """Images that are predicted and have a mask to score them on."""
        return self.predict_table.with_masks()

    @cached_property
    def held_out_seed_table(self) -> Table:
        """Images that are not trained on, but that seeds can be scored on: with tags and a mask (and, where seed maps
        are given, a seed map)."""
        table, given = self.table, self.config.seeds.folder
        rows = [
            i
            for i, split in enumerate(table.splits)
            if split != TRAIN
            and table.masks[i] is not None
            and table.tagged[i]
            and (given is None or (given / f"{table.ids[i]}.png").is_file())
        ]
        return table.select(rows)

    @property
    def final_network(self) -> str:
        """The folder of the network that is shipped."""
        return "retrain" if self.config.retrain.enabled else "train"


def for_each_image(
    accelerator: Accelerator,
    max_side: int,
    table: Table,
    targets: Sequence[Path],
    label: str,
    compute: Callable[[int, np.ndarray], Result],
    finish: Callable[[int, np.ndarray, Result], None],
    unreadable: Callable[[FileError], None] | None = None,
) -> None:
    """Work on all images whose `targets` file is not there yet. Every process of a distributed run takes its share.

    On a GPU, reading ahead, `compute` and `finish` overlap, with the results of few images at a time in its memory. On
    a CPU each core works on an image of its own, from reading to writing: nothing waits for another core.

    Args:
        max_side: larger images are reduced to this long side.
        targets: for each image the file that `finish` writes last.
        compute: (row, image (H, W, 3) uint8) → result: the network.
        finish: (row, image, result): CRF, writing; in any order, from several threads.
        unreadable: is told of each image that cannot be read, which is then left out; None: the first one is raised.
    """
    rows = range(len(table))[accelerator.process_index :: accelerator.num_processes]
    share = [row for row in rows if not targets[row].exists()]
    work_on_images(accelerator, max_side, table, share, label, compute, finish, len(rows) - len(share), unreadable)
    accelerator.wait_for_everyone()


def work_on_images(
    accelerator: Accelerator,
    max_side: int,
    table: Table,
    share: Sequence[int],
    label: str,
    compute: Callable[[int, np.ndarray], Result],
    finish: Callable[[int, np.ndarray, Result], None],
    done: int = 0,
    unreadable: Callable[[FileError], None] | None = None,
) -> None:
    """As `for_each_image`, of the rows `share`, by this process.

    Args:
        done: images that were done before, for the progress.
    """
    on_cpu = accelerator.device.type == "cpu"

    def read(row: int) -> np.ndarray | None:
        try:
            return read_image(table.images[row], max_side)
        except FileError as error:
            if unreadable is None:
                raise
            unreadable(error)
            return None

    def whole(row: int) -> None:
        if (image := read(row)) is not None:
            finish(row, image, compute(row, image))

    threads = cores()
    with (
        Ticker(label, done + len(share), done) as ticker,
        ThreadPoolExecutor(threads, initializer=partial(torch.set_num_threads, 1) if on_cpu else None) as pool,
    ):
        if on_cpu:
            jobs = ahead(pool, whole, share, 2 * threads)
        else:
            images = zip(share, ahead(pool, read, share, 2 * threads), strict=True)
            steps = ((row, image, compute(row, image)) for row, image in images if image is not None)
            jobs = ahead(pool, lambda step: finish(*step), steps, min(2 * threads, ON_GPU))
        try:
            for _ in jobs:
                ticker.advance()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def clean_start(context: Context, folder: str) -> Path:
    """The folder of a stage, without what a killed process left half-written."""
    path = context.run.folder(folder)
    if context.accelerator.is_main_process:
        path.mkdir(parents=True, exist_ok=True)
        remove_temporaries(path)
    context.accelerator.wait_for_everyone()
    return path
