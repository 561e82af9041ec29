"""How long it takes to start a finished run on a million images, when nothing has changed.

The images are hard links to a few tiny files. The results of the stages are made by this script: masks that are hard
links, and empty files. So the first start measures how long it takes to read, check and fingerprint all images, and the
second how long `cian run` needs to find that nothing is left to do.

python benchmarks/million.py [--images 1000000] [--folder FOLDER]

With a million images, on two cores that were busy with other work, the first start took 7 minutes. The start of the
finished run took 87 s, over the aim, and 3.3 GB of memory.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from figures import figure
from PIL import Image

import cian
from cian.data.masks import write_mask
from cian.pipeline.context import Context
from cian.pipeline.stage import Stage
from cian.pipeline.stages import STAGES

MOST = 60.0  # seconds for the start of a finished run on a million images
CLASSES = 20
HELD_OUT = 20  # every 20th image is held out and has a mask
LINKS = 30_000  # to one file; ext4 allows 65,000
SIDE = 32
OLD = 1_600_000_000  # the time of all files: files that have just been written are always read again


class Links:
    """Hard links to copies of a file, which lie beside it."""

    def __init__(self, file: Path):
        self.original = self.file = file
        self.count = 0
        os.utime(file, (OLD, OLD))

    def make(self, path: Path) -> None:
        self.count += 1
        if self.count % LINKS == 0:
            self.file = self.original.with_name(f"{self.count}-{self.original.name}")
            self.file.write_bytes(self.original.read_bytes())
            os.utime(self.file, (OLD, OLD))
        path.parent.mkdir(exist_ok=True, parents=True)
        os.link(self.file, path)


def draw(folder: Path, count: int) -> None:
    """FOLDER with images/, masks/ of every 20th image, tags.csv with splits, and classes.txt."""
    rng = np.random.default_rng(0)
    originals = folder / "originals"
    originals.mkdir(parents=True)
    names = [f"class{i:02}" for i in range(CLASSES)]
    copies: list[Path] = []
    for i in range(count // LINKS + 1):
        copies.append(originals / f"image{i}.jpg")
        Image.fromarray(rng.integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8)).save(copies[-1])
        os.utime(copies[-1], (OLD, OLD))
    mask = originals / "mask.png"
    write_mask(mask, np.repeat(np.arange(SIDE, dtype=np.uint8)[None] % (CLASSES + 1), SIDE, 0))
    (originals / "result.png").write_bytes(mask.read_bytes())
    masks = Links(mask)
    rows = ["image,tags,split"]
    for i in range(count):
        name = f"{i // 1000:04}/{i:07}"
        if i % 1000 == 0:
            (folder / "images" / name).parent.mkdir(parents=True)
        os.link(copies[i % len(copies)], folder / "images" / f"{name}.jpg")
        tags = {names[i % CLASSES], names[i * 7 % 13]} if i % HELD_OUT else set(names)
        rows.append(f"{name}.jpg,{';'.join(tags)},{'train' if i % HELD_OUT else 'val'}")
        if i % HELD_OUT == 0:
            masks.make(folder / "masks" / f"{name}.png")
    (folder / "tags.csv").write_text("\n".join(rows) + "\n")
    (folder / "classes.txt").write_text("\n".join(["background", *names]) + "\n")


def pretend(stage: Stage, links: Links, context: Context) -> None:
    """What a stage would write, without its work."""
    for folder in stage.masks(context):
        for image_id in folder.table.ids:
            links.make(context.run.mask(folder.folder, image_id))
    for name in (*stage.outputs(context), *stage.weights(context)):
        path = context.run.path / name
        if path.suffix:
            path.parent.mkdir(exist_ok=True)
            path.touch()
        else:
            path.mkdir(exist_ok=True, parents=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, help="a folder for the data on a local disk; default: a temporary one")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        draw(folder, args.images)
        settings: dict[str, Any] = {
            "data.split_column": "split",
            "data.masks": str(folder / "masks"),
            "data.classes": str(folder / "classes.txt"),
            "runtime.device": "cpu",
        }
        links = Links(folder / "originals" / "result.png")
        for stage in STAGES:
            vars(stage)["run"] = partial(pretend, stage, links)
        start = time.perf_counter()
        cian.run(folder / "images", folder / "tags.csv", folder / "run", **settings)
        figure(f"first start, {args.images:,} images, with made-up stages", [time.perf_counter() - start], "s")
        start = time.perf_counter()
        command = [sys.executable, "-m", "cian", "run", "--out", str(folder / "run")]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        seconds = time.perf_counter() - start
        assert "re-running" not in done.stderr and "resuming" not in done.stderr, done.stderr
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        memory, cpu = used.ru_maxrss / 1e6, used.ru_utime + used.ru_stime
        figure(f"start of the finished run, {args.images:,} images", [seconds], "s", most=MOST, note=f"{cpu:.0f} s CPU")
        figure("its memory", [memory], "GB")


if __name__ == "__main__":
    main()
