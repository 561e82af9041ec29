"""Batches for training, made by processes that load and augment the images."""

from __future__ import annotations

import os
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import Tensor
from torch.multiprocessing import get_sharing_strategy
from torch.utils.data import DataLoader, Dataset

from cian.config import RuntimeConfig
from cian.data.images import limit_pixels, megapixel_limit
from cian.data.sampler import GroupSampler
from cian.errors import CianError, Interrupted
from cian.signals import STOPPED, Stop, ignore_signals
from cian.training.device import loader_workers

Batch = dict[str, Tensor]
_LONGEST_FOLDER = 75  # bytes: 107, the most that the name of a socket may have, less `/pymp-…/listener-…`


class BatchPlan:
    """The sampler's plan from a place on, as a batch sampler."""

    def __init__(self, sampler: GroupSampler, epochs: int, epoch: int, step: int):
        self.sampler, self.place = sampler, (epochs, epoch, step)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        return self.sampler.batches(*self.place)


def make_loader(data: Dataset, plan: BatchPlan, runtime: RuntimeConfig, cuda: bool) -> DataLoader:
    """The loader of a training; `cuda`: whether the batches go to a GPU.

    Raises:
        CianError: the loading processes could not send their batches.
    """
    workers = loader_workers(runtime)
    if workers and get_sharing_strategy() == "file_descriptor":  # through sockets in the folder of temporary files
        folder = tempfile.gettempdir()
        if len(os.fsencode(folder)) > _LONGEST_FOLDER:
            raise CianError(
                f"TMPDIR = {folder}: over {_LONGEST_FOLDER} bytes, too long for the sockets of the loading processes. "
                "Set a shorter TMPDIR, or --set runtime.workers=0."
            )
    return DataLoader(
        data,
        batch_sampler=plan,
        num_workers=workers,
        pin_memory=cuda,
        prefetch_factor=3 if workers else None,
        worker_init_fn=partial(_start_worker, megapixel_limit()),
    )


def _start_worker(megapixels: float, worker: int) -> None:
    ignore_signals(worker)
    limit_pixels(megapixels)  # a process that is not forked does not have it yet


class Batches:
    """The batches of a loader, as a context.

    On leaving, the loading processes end, if need be by force. They ignore signals, so the main process would wait for
    ever for one that hangs.
    """

    def __init__(self, loader: DataLoader):
        self.loader = loader

    def __enter__(self) -> Batches:
        self.batches: Any = iter(self.loader)
        return self

    def __next__(self) -> Batch:
        return next(self.batches)

    def __exit__(self, *_: object) -> None:
        if self.loader.num_workers:
            self.batches._shutdown_workers()  # `del` does nothing where a traceback holds the iterator
            for process in self.batches._workers:
                process.kill()


@contextmanager
def loading_errors(stop: Stop) -> Iterator[None]:
    """Turns an error of a loading process into one message.

    Args:
        stop: the signal that the training got. One to the whole group also ends a loading process that is just
            starting.

    Raises:
        CianError: an image cannot be read, or a loading process ended.
        Interrupted: a signal ended it.
    """
    try:
        yield
    except CianError as error:
        found = re.search(r"^cian\.[\w.]+Error: (.*)", str(error), re.DOTALL | re.MULTILINE)  # below the traceback
        if found is None:
            raise
        raise CianError(found[1].strip()) from None
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        time.sleep(0.1)  # a signal to both may come to this process last
        if stop.number is not None:
            raise Interrupted(STOPPED, stop.number) from None
        raise CianError(
            "A loading process ended, probably because memory ran out. Run the same command again with "
            "--set runtime.workers=0. (A script of your own needs `if __name__ == '__main__':` around its call.)"
        ) from None
