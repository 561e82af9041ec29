"""The data set of `cian demo`: drawn animals with tags and exact masks, made from a random seed.

There are five kinds of animals, and only their heads tell them apart for sure. All share bodies and poses. Each kind
has its own range of coats, as animals do, but most coats are worn by two or three kinds: who sees the coat alone names
the right kind of three in four animals. A background fits several kinds. A classifier therefore looks at heads, class
activation maps cover little else, and the affinity between images has bodies to complete.
"""

from __future__ import annotations

import ctypes
import functools
import multiprocessing
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from cian.data.table import BACKGROUND
from cian.demo import Record, is_complete, write_data_set
from cian.demo.animals.composition import compose
from cian.demo.animals.kinds import CLASSES
from cian.parallel import cores

MIN_PIXELS = 250  # an image shows at least this many pixels of each kind in its tags
COVERAGE = (0.12, 0.42)  # smallest and largest share of an image that animals cover
PARALLEL_FROM = 50  # images; for fewer, starting processes takes longer than drawing
_PR_SET_PDEATHSIG = 1  # of Linux: the signal that this process gets when its parent ends
_VERSION = 5  # of the drawing; a data set of another version is drawn again


def generate(folder: Path, *, train: int = 200, val: int = 60, seed: int = 0) -> None:
    """Writes the data set into `folder`. A complete data set with the same parameters is kept.

    `folder` then holds `images/NNN.jpg`, `masks/NNN.png` (0 = background, then the kinds in alphabetical order),
    `tags.csv` with the columns image, tags, split, and `classes.txt`. Image `i` depends on `(seed, i)` only. The first
    `train` images are the training split.

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
    """The first `count` images, in order. Many images are drawn on several cores where processes start fast (Linux)."""
    workers = min(cores(), 8) if sys.platform == "linux" else 1
    if workers == 1 or count < PARALLEL_FROM:
        yield from map(functools.partial(draw, seed), range(count))
        return
    with multiprocessing.get_context("fork").Pool(workers, _depend_on_parent) as pool:
        yield from pool.imap(functools.partial(draw, seed), range(count), chunksize=4)


def _depend_on_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the signal by which the pool ends its processes
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # also where the parent is killed


def draw(seed: int, index: int) -> tuple[np.ndarray, np.ndarray]:
    """Image `index`, (H, W, 3) uint8, and its mask of class ids, (H, W) uint8."""
    rng = np.random.default_rng([seed, index])
    while True:  # sometimes animals hide each other or leave the image; then it is drawn again
        canvas, class_ids = compose(rng, index % len(CLASSES))
        counts = np.bincount(canvas.ids.ravel(), minlength=len(CLASSES) + 1)
        coverage = 1 - counts[0] / canvas.ids.size
        if min(counts[list(class_ids)]) >= MIN_PIXELS and COVERAGE[0] <= coverage <= COVERAGE[1]:
            return canvas.finish(rng), canvas.ids
