"""Disks that are full, limits of the system, clocks that go back, outputs that are closed, memory that grows."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from tests.stress.forked import UNPRINTED, Forked, call, size
from tests.stress.stand import SHORT, Stand, Trials, copy, left, resumed, says, some, times, unlike

FEW_FILES = 40  # that a process may have open at once


@contextlib.contextmanager
def _disk(folder: Path, options: str) -> Iterator[None]:
    """Mounts a small file system, for root."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def can_mount() -> bool:
    """Whether small file systems can be mounted here."""
    command = ["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return os.geteuid() == 0 and not subprocess.run(command, capture_output=True).returncode


def disks(stand: Stand, rng: random.Random, share: float) -> Trials:
    """The disk is full at another moment each time, or read-only. With space again, the same command resumes."""
    if not can_mount():
        return
    whole = sum(path.stat().st_size for path in stand.whole(**SHORT).rglob("*"))
    for _ in times(12, share):
        kilobytes = round(rng.uniform(0.02, 1.2) * whole / 1024)
        yield f"full at {kilobytes} kB", partial(_full, stand, f"size={kilobytes}k")
    for count in some(rng, [5, 12, 20], share):
        yield f"{count} files at most", partial(_full, stand, f"size=100m,nr_inodes={count}")
    yield "read-only", partial(_read_only, stand)


def _full(stand: Stand, options: str, folder: Path) -> list[str]:
    with _disk(folder / "disk", options):
        out = folder / "disk" / "run"
        ended = call(stand.run(out, **SHORT), folder / "full.log")
        wrong = ended.wrong(0, 1) + [text for text in left(out) if "last.pt" not in text]
        wrong += says(ended, "disk is full") if ended.code else []
        subprocess.run(["mount", "-o", "remount,size=300m,nr_inodes=10000", folder / "disk"], check=True)
        return wrong + resumed(stand, folder, out, **SHORT)


def _read_only(stand: Stand, folder: Path) -> list[str]:
    place, images = folder / "disk", stand.data / "images"
    with _disk(place, "size=10m"):
        subprocess.run(["mount", "-o", "remount,ro", place], check=True)
        commands = [
            stand.run(place / "run", **SHORT),
            ["predict", "--model", stand.model, "--images", images, "--out", place / "masks"],
            ["demo", "--out", place / "demo"],
        ]
        ended = [call(command, folder / "read-only.log") for command in commands]
    return [text for each in ended for text in each.wrong(1) + says(each, "ead-only")]


def limits(stand: Stand, rng: random.Random, share: float) -> Trials:
    """Limits of the system for the size of files and for the number of open files."""
    for _ in times(6, share):
        most = round(10 ** rng.uniform(3, 6))
        yield f"files of {most} bytes", partial(_limited, stand, resource.RLIMIT_FSIZE, most)
    for most in some(rng, [8, 12, 16, 20, 24, 32, 64], share):
        yield f"{most} open files", partial(_limited, stand, resource.RLIMIT_NOFILE, most)


def _limited(stand: Stand, kind: int, most: int, folder: Path) -> list[str]:
    out = folder / "run"
    ended = call(stand.run(out, **SHORT), folder / "limited.log", limits={kind: most})
    wrong = ended.wrong(0, 1) + [text for text in left(out) if "last.pt" not in text]
    return wrong + resumed(stand, folder, out, **SHORT)


def clocks(stand: Stand, rng: random.Random, share: float) -> Trials:
    """The clock is set back while a run works, and files seem to be of tomorrow."""
    for moment in some(rng, [0.2, 0.5, 0.8], share):
        yield f"set back at {moment:.0%} of the time", partial(_set_back, stand, moment)
    yield "a run of tomorrow", partial(_of_tomorrow, stand)


def _set_back(stand: Stand, moment: float, folder: Path) -> list[str]:
    real, start = time.time, time.monotonic()
    late = moment * stand.seconds(**SHORT)

    def turn_back() -> None:
        time.time = lambda: real() - 7200 * (time.monotonic() - start > late)

    out = folder / "run"
    ended = call(stand.run(out, **SHORT), folder / "run.log", hook=turn_back)
    return ended.wrong(0) + unlike(stand.whole(**SHORT), out) + resumed(stand, folder, out, **SHORT)


def _of_tomorrow(stand: Stand, folder: Path) -> list[str]:
    out = copy(stand.whole(**SHORT), folder / "run")
    for path in out.rglob("*"):
        os.utime(path, (time.time() + 86_400,) * 2)
    ended = call(stand.run(out, **SHORT), folder / "again.log")
    wrong = [f"works again: {ended.text}"] * ("resuming" in ended.text or "re-running" in ended.text)
    return ended.wrong(0) + wrong + unlike(stand.whole(**SHORT), out)


def terminals(stand: Stand, rng: random.Random, share: float) -> Trials:
    """stdout or stderr is full or closed, or cannot show the letters of class names."""
    data = ["--images", stand.data / "images", "--tags", stand.data / "tags.csv"]
    predictions = ["--masks", stand.data / "masks", "--classes", stand.data / "classes.txt"]
    commands: dict[str, Sequence[str | Path]] = {
        "check": ["check", *data],
        "run": stand.run(stand.whole(**SHORT), **SHORT),
        "evaluate": ["evaluate", "--predictions", stand.data / "masks", *predictions],
    }
    ways = [(command, number, what) for command in commands for number in (1, 2) for what in ("full", "closed")]
    for command, number, what in some(rng, ways, share):
        stream = "stdout" if number == 1 else "stderr"
        yield f"{command}, {stream} is {what}", partial(_without_output, commands[command], number, what)


def _without_output(args: Sequence[str | Path], number: int, what: str, folder: Path) -> list[str]:
    def take_away() -> None:
        if what == "closed":
            os.close(number)
            setattr(sys, "stdout" if number == 1 else "stderr", None)  # as Python does at its start
        else:
            os.dup2(os.open("/dev/full", os.O_WRONLY), number)

    ended = call(args, folder / "ended.log", hook=take_away)
    return [text for text in ended.wrong(0, 1, UNPRINTED) if text != "fails without a word"]


def growth(stand: Stand, rng: random.Random, share: float) -> Trials:
    """The memory and the open files of `cian predict` over many images of different sizes."""
    if share < 0.3:
        return  # caches fill over the first hundred images, which hides whether memory grows
    count = round(1000 * share)
    yield f"{count} images of different sizes", partial(_grow, stand, count, rng.randrange(10**6))


def _grow(stand: Stand, count: int, seed: int, folder: Path) -> list[str]:
    """At most 20 MB for 1,000 images, by a line through what it takes after the first third; 30 MB in any case."""
    (folder / "images").mkdir()
    draw = np.random.default_rng(seed)
    for i in range(count):
        height, width = draw.integers(32, 160, 2)
        noise = Image.fromarray(draw.integers(0, 255, (height // 8, width // 8, 3), dtype=np.uint8))
        noise.resize((int(width), int(height))).save(folder / "images" / f"{i}.png")
    args = ["predict", "--model", stand.model, "--images", folder / "images", "--out", folder / "out"]
    process = Forked([*args, "--set", "predict.scales=1"], folder / "predict.log")
    samples: list[tuple[int, int]] = []
    files = 0
    while not process.ends_within(0.3):
        done = len(list((folder / "out").glob("*.png")))
        samples.append((done, size(process.pid)))
        with contextlib.suppress(OSError):
            files = max(files, len(list(Path(f"/proc/{process.pid}/fd").iterdir())))
    wrong = process.wait(600).wrong(0, seconds=600)
    later = np.array([(done, memory / 2**20) for done, memory in samples if done >= count / 3 and memory])
    if len(later) < 3:
        return [*wrong, f"only {len(later)} samples of its memory"]
    grown = float(np.polyfit(later[:, 0], later[:, 1], 1)[0]) * (count * 2 / 3)
    wrong += [f"grows by {grown:.0f} MB over the last {count * 2 // 3} images"] * (grown > max(30, 0.02 * count))
    return wrong + [f"{files} files are open"] * (files > FEW_FILES)
