"""What every stage gets: the run, its settings, the data, and the device; and work image by image."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
from accelerate import Accelerator

from cian.config import Config
from cian.data.images import read_image
from cian.data.table import TRAIN, Table
from cian.progress import Ticker
from cian.runs import Run, remove_temporaries
from cian.training import make_accelerator

Result = TypeVar("Result")


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
    def seed_table(self) -> Table:
        """The training images, and those others that seeds can be scored on: with tags and a mask."""
        table = self.table
        rows = [
            i
            for i, split in enumerate(table.splits)
            if split == TRAIN or (table.masks[i] is not None and table.tagged[i])
        ]
        return table.select(rows)

    @property
    def final_network(self) -> str:
        """The folder of the network that is shipped."""
        return "retrain" if self.config.retrain.enabled else "train"


def for_each_image(
    accelerator: Accelerator,
    table: Table,
    targets: Sequence[Path],
    label: str,
    compute: Callable[[int, np.ndarray], Result],
    finish: Callable[[int, np.ndarray, Result], None],
    workers: int = 2,
) -> None:
    """Work on all images whose `targets` file is not there yet: reading, `compute` and `finish` overlap.

    Every process of a distributed run takes its share.

    Args:
        targets: for each image the file that `finish` writes last.
        compute: (row, image (H, W, 3) uint8) → result, in this thread, in order (the network).
        finish: (row, image, result) in a pool of threads (CRF, writing).
    """
    open_rows = [row for row in range(len(table)) if not targets[row].exists()]
    share = open_rows[accelerator.process_index :: accelerator.num_processes]
    done = len(table) - len(open_rows)
    with ThreadPoolExecutor(1) as readers, ThreadPoolExecutor(workers) as finishers:
        pending: deque[Future] = deque()
        try:
            with Ticker(label, done + len(share), done) as ticker:
                for row, image in _read_ahead(readers, share, table):
                    pending.append(finishers.submit(finish, row, image, compute(row, image)))
                    while len(pending) > 2 * workers or (pending and pending[0].done()):
                        pending.popleft().result()
                    ticker.advance()
                for future in pending:
                    future.result()
        except BaseException:
            finishers.shutdown(wait=False, cancel_futures=True)
            raise
    accelerator.wait_for_everyone()


def _read_ahead(pool: ThreadPoolExecutor, rows: Iterable[int], table: Table) -> Iterator[tuple[int, np.ndarray]]:
    ahead: deque[tuple[int, Future]] = deque()
    for row in rows:
        ahead.append((row, pool.submit(read_image, table.images[row])))
        if len(ahead) > 4:
            first, future = ahead.popleft()
            yield first, future.result()
    for first, future in ahead:
        yield first, future.result()


def clean_start(context: Context, folder: str) -> Path:
    """The folder of a stage, without what a killed process left half-written."""
    path = context.run.folder(folder)
    if context.accelerator.is_main_process:
        path.mkdir(parents=True, exist_ok=True)
        remove_temporaries(path)
    context.accelerator.wait_for_everyone()
    return path
