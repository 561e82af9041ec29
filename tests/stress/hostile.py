"""How a hostile input is tried, and what must not happen."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from tests.helpers import TINY
from tests.stress.forked import BEGUN, call, stop_at_work
from tests.stress.stand import Stand, Trial, Trials, some, times

SECONDS, GIGABYTES = 30, 2  # of a core, and of memory: what an input of some kB may take
CANARY = "CANARY"  # a file that only code in an input would write

Make = Callable[[Path], list[str]]  # writes an input into a folder, and returns the arguments of `cian`
Input = tuple[str, Make]

IMAGES = tuple(f"p{i}.png" for i in range(6))
TAGS = (["fox"], ["rabbit"], ["fox", "rabbit"], ["rabbit"], ["fox"], ["fox"])
SETTINGS = [part for key, value in TINY.items() for part in ("--set", f"{key}={json.dumps(value)}")]


def trials(
    stand: Stand,
    rng: random.Random,
    share: float,
    crafted: Iterable[Input],
    mutated: Callable[[random.Random], Input] | None = None,
    most: int = 100,
) -> Trials:
    """Crafted inputs (all of them in a whole soak), and `most` random ones."""
    for what, make in some(rng, list(crafted), share):
        yield trial(stand, what, make)
    for _ in times(most, share) if mutated else ():
        yield trial(stand, *mutated(rng))


def trial(stand: Stand, what: str, make: Make) -> Trial:
    return what, partial(attempt, stand, make)


def attempt(stand: Stand, make: Make, folder: Path) -> list[str]:
    """Calls `cian` on an input. Of `cian check`, also the `cian run` that belongs to it, up to where its work begins:
    the two must agree."""
    place = folder / "a" / "b" / "input"  # paths may lead out of it, and are noticed
    place.mkdir(parents=True)
    args = make(place)
    before = dict(_files(folder, stand.home, stand.temporary, but=place / "out"))
    log = stand.work / "hostile.log"
    ended = call(args, log, folder=place, hook=stop_at_work)
    wrong = ended.wrong(0, 1, 2, BEGUN, seconds=SECONDS, memory=GIGABYTES)
    shown = ended.text
    if args[0] == "check" and not wrong:
        run = call(["run", *args[1:], "--out", "out"], log, folder=place, hook=stop_at_work)
        wrong += [f"run {text}" for text in run.wrong(BEGUN, 1, 2, seconds=SECONDS, memory=GIGABYTES)]
        if run.code != (ended.code or BEGUN):
            wrong.append(f"check ends with {ended.code}, run with {run.code}: {run.text.strip()[-200:]}")
        if run.code != BEGUN and (place / "out").exists():
            wrong.append("a refused run writes files")
        shown += run.text
    after = dict(_files(folder, stand.home, stand.temporary, but=place / "out"))
    wrong += [f"writes {name}" for name in after if before.get(name) != after[name]]
    wrong += ["sends control characters to the terminal"] * ("\x1b" in shown or "\0" in shown)
    wrong += ["runs code of the input"] * any(Path(name).name == CANARY for name in after)
    return wrong


def _files(*folders: Path, but: Path) -> Iterator[tuple[str, tuple[int, int]]]:
    """(name, (size, time of change)) of all files, but not of those that programs keep for themselves."""
    for folder in folders:
        for path, names, files in os.walk(folder):
            names[:] = [name for name in names if Path(path, name) != but and name != "__pycache__"]
            for file in files:
                status = os.lstat(Path(path, file))
                if not file.endswith((".nbi", ".nbc")):
                    yield str(Path(path, file)), (status.st_size, status.st_mtime_ns)


def small_images(folder: Path, count: int = len(IMAGES)) -> None:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in IMAGES[:count]:
        Image.fromarray(rng.integers(0, 255, (32, 40, 3), dtype=np.uint8)).save(folder / name)


def sound(folder: Path) -> None:
    """A data set without faults: images/ and tags.csv."""
    small_images(folder / "images")
    (folder / "tags.csv").write_bytes(csv_rows())


def csv_rows() -> bytes:
    rows = [f"{name},{';'.join(tags)}\n" for name, tags in zip(IMAGES, TAGS, strict=True)]
    return ("image,tags\n" + "".join(rows)).encode()


def check(*args: str) -> list[str]:
    return ["check", "--images", "images", *args, *SETTINGS]


def checked(name: str, content: bytes, *args: str) -> Make:
    """A sound data set, with another file that the arguments name."""

    def make(folder: Path) -> list[str]:
        sound(folder)
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return check(*args)

    return make


def predicted(model: Path, change: Callable[[Path], object] = lambda _: None, *args: str) -> Make:
    """Prediction of small images with a copy of a model; `change` spoils something in the folder."""

    def make(folder: Path) -> list[str]:
        shutil.copytree(model, folder / "model")
        small_images(folder / "images", 3)
        change(folder)
        return ["predict", "--model", "model", "--images", "images", "--out", "out", "--set", "predict.scales=1", *args]

    return make
