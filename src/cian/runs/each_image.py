"""Work on the images of a table, one by one. Images that are done are skipped; processes and cores share the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import numpy as np
from accelerate import Accelerator

from cian.data.images import read_image
from cian.data.problems import FileError
from cian.data.table import Table
from cian.parallel import overlapped
from cian.terminal import Ticker

Result = TypeVar("Result")


def for_each_image(
    accelerator: Accelerator,
    max_side: int,
    table: Table,
    targets: Sequence[Path],
    title: str,
    compute: Callable[[int, np.ndarray], Result],
    finish: Callable[[int, np.ndarray, Result], None],
    unreadable: Callable[[FileError], None] | None = None,
) -> None:
    """Works on all images whose `targets` file does not exist. Each process of a distributed run takes its share.

    Several images are worked on at a time, see `cian.parallel.overlapped`.

    Args:
        max_side: larger images are reduced to this long side, in px.
        targets: for each image, the file that `finish` writes last.
        compute: (row, image (H, W, 3) uint8) → result; runs the network.
        finish: (row, image, result); runs the CRF and writes. Called in any order, from several threads.
        unreadable: called with the error of each image that cannot be read; the image is left out. None raises the
            first such error.
    """
    rows = range(len(table))[accelerator.process_index :: accelerator.num_processes]
    share = [row for row in rows if not targets[row].exists()]
    work_on_rows(accelerator, max_side, table, share, title, compute, finish, len(rows) - len(share), unreadable)
    accelerator.wait_for_everyone()


def work_on_rows(
    accelerator: Accelerator,
    max_side: int,
    table: Table,
    share: Sequence[int],
    title: str,
    compute: Callable[[int, np.ndarray], Result],
    finish: Callable[[int, np.ndarray, Result], None],
    done: int = 0,
    unreadable: Callable[[FileError], None] | None = None,
) -> None:
    """`for_each_image` for the rows `share`, in this process.

    Args:
        done: number of images that were done before, for the progress.
    """

    def read(row: int) -> tuple[int, np.ndarray] | None:
        try:
            table.known.require_unchanged(table.images[row])
            return row, read_image(table.images[row], max_side)
        except FileError as error:
            if unreadable is None:
                raise
            unreadable(error)
            return None

    def work(given: tuple[int, np.ndarray]) -> Result:
        return compute(*given)

    def end(given: tuple[int, np.ndarray], result: Result) -> None:
        finish(*given, result)

    on_cpu = accelerator.device.type == "cpu"
    jobs = overlapped(on_cpu, share, read, work, end)
    with Ticker(title, done + len(share), done) as ticker, closing(jobs):
        for _ in jobs:
            ticker.advance()
