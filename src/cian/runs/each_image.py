"""Work on all images of a table, one by one: what is done is skipped, processes and cores share the rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from accelerate import Accelerator

from cian.data.images import read_image
from cian.data.problems import FileError
from cian.data.table import Table
from cian.parallel import cores, map_ahead
from cian.terminal import Ticker

Result = TypeVar("Result")
ON_GPU = 4  # images at a time whose results are in its memory


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
            jobs = map_ahead(pool, whole, share, 2 * threads)
        else:
            images = zip(share, map_ahead(pool, read, share, 2 * threads), strict=True)
            steps = ((row, image, compute(row, image)) for row, image in images if image is not None)
            jobs = map_ahead(pool, lambda step: finish(*step), steps, min(2 * threads, ON_GPU))
        try:
            for _ in jobs:
                ticker.advance()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
