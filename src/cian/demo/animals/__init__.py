"""The data set behind `cian demo`: drawn animals with tags and exact masks, made from a seed.

Five kinds of animals that only their heads tell apart. Bodies, poses and coats are shared between the kinds, and
backgrounds go with the kinds but not reliably. So a classifier learns to look at heads, class activation maps cover
little else, and there is something for the affinity between images to complete.
"""

from __future__ import annotations

import functools
import multiprocessing
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from cian.data.table import BACKGROUND
from cian.demo import Record, is_complete, write_data_set
from cian.demo.animals.composition import picture
from cian.demo.animals.kinds import CLASSES
from cian.parallel import cores

MIN_PIXELS = 250  # a picture shows at least this much of each kind that it is tagged with
COVERAGE = (0.12, 0.42)  # least and most of a picture that animals cover
PARALLEL_FROM = 50  # pictures; for fewer it is not worth while
_VERSION = 4  # of the drawing; a set drawn by another version is made anew


def generate(folder: Path, *, train: int = 200, val: int = 60, seed: int = 0) -> None:
    """Writes the data set into `folder`; a complete one that was made with the same parameters is kept as it is.

    `folder` then holds `images/NNN.jpg`, `masks/NNN.png` (0 = background, then the kinds in alphabetical order),
    `tags.csv` with the columns image, tags, split, and `classes.txt`. Picture `i` depends on `(seed, i)` only; the
    first `train` ones are the training split.

    Raises:
        CianError: `folder` cannot be written, or holds other files.
    """
    folder = Path(folder)
    parameters = {"name": "animals", "version": _VERSION, "train": train, "val": val, "seed": seed}
    if not is_complete(folder, parameters):
        write_data_set(folder, parameters, (BACKGROUND, *CLASSES), _records(train, val, seed))


def _records(train: int, val: int, seed: int) -> Iterator[Record]:
    for index, (image, mask) in enumerate(_draw_all(train + val, seed)):
        tags = [CLASSES[class_id - 1] for class_id in np.unique(mask) if class_id]
        yield Record(f"{index:03d}", image, mask, tags, "train" if index < train else "val")


def _draw_all(count: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The first `count` pictures, in order; many of them on several cores where processes start at once (Linux)."""
    workers = min(cores(), 8) if sys.platform == "linux" else 1
    if workers == 1 or count < PARALLEL_FROM:
        yield from map(functools.partial(draw, seed), range(count))
        return
    with multiprocessing.get_context("fork").Pool(workers, _leave_signals_to_parent) as pool:
        yield from pool.imap(functools.partial(draw, seed), range(count), chunksize=4)


def _leave_signals_to_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # with which the pool ends its processes


def draw(seed: int, index: int) -> tuple[np.ndarray, np.ndarray]:
    """Picture `index`: the image, (H, W, 3) uint8, and its mask of class ids, (H, W) uint8."""
    rng = np.random.default_rng([seed, index])
    while True:  # now and then animals hide each other or leave the picture; then it is drawn anew
        canvas, class_ids = picture(rng, index % len(CLASSES))
        counts = np.bincount(canvas.ids.ravel(), minlength=len(CLASSES) + 1)
        coverage = 1 - counts[0] / canvas.ids.size
        if min(counts[list(class_ids)]) >= MIN_PIXELS and COVERAGE[0] <= coverage <= COVERAGE[1]:
            return canvas.finish(rng), canvas.ids
