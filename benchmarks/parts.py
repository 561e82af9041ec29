"""Two classes that almost always occur together: the head and the body of an animal.

    python benchmarks/parts.py [--margin 0.1 0] [--seed 0] [--until statistics] [--out runs/parts] [--set KEY=VALUE …]

Draws the demo's animals. Rabbits have two tags, `head` and `body`: in about nine of ten images of a rabbit both are
there, in the others the rabbit has turned away. So `head` never occurs without `body`. For each margin, prints in how
many of its images each class is labelled, the IoU of the seeds, the IoU over the pixels that they label and, with
`--until evaluate`, the IoU of the masks of held-out images. All margins share a classifier.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np

from cian.config import Config, changed, parse_assignment
from cian.data.table import BACKGROUND, Table
from cian.demo import Record, data_config, is_complete, write_data_set
from cian.demo.animals import bodies
from cian.demo.animals.composition import compose
from cian.demo.animals.drawing import Frame
from cian.demo.animals.kinds import CLASSES, KINDS, Animal
from cian.demo.run import SETTINGS
from cian.evaluation.run_scores import score_table
from cian.pipeline.run import check_data, run_config
from cian.runs.directory import Run
from cian.training.device import make_accelerator

TRAIN, VAL = 200, 60
RABBIT = CLASSES.index("rabbit")
BODY, HEAD = RABBIT + 1, RABBIT + 2  # class ids
NAMES = (BACKGROUND, *CLASSES[:RABBIT], "body", "head")
TURNED_AWAY = 0.1  # share of the rabbits
MIN_PIXELS = 100  # of each class in an image that shows it


def _face(a: Animal, f: Frame, turn: float) -> None:
    if a.rng.random() >= TURNED_AWAY:
        KINDS[RABBIT].face(replace(a, class_id=HEAD), f, turn)


def draw(out: Path, seed: int = 0) -> None:
    """Writes the data set, in the layout of the demo's."""
    parameters = {"name": "animals", "heads": True, "seed": seed}
    if not is_complete(out, parameters):
        with patch.object(bodies, "KINDS", (*KINDS[:RABBIT], replace(KINDS[RABBIT], face=_face))):
            write_data_set(out, parameters, NAMES, _records(seed))


def _records(seed: int) -> Iterator[Record]:
    for index in range(TRAIN + VAL):
        rng = np.random.default_rng([seed, index])
        while True:
            canvas, _ = compose(rng, index % len(CLASSES))
            counts = np.bincount(canvas.ids.ravel(), minlength=len(NAMES))
            if counts[1:].any() and counts[1:][counts[1:] > 0].min() >= MIN_PIXELS:
                break
        tags = [NAMES[i] for i in np.flatnonzero(counts) if i]
        yield Record(f"{index:03d}", canvas.finish(rng), canvas.ids, tags, "train" if index < TRAIN else "val")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--margin", type=float, nargs="+", default=[0.1, 0.0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--until", choices=("statistics", "evaluate"), default="statistics")
    parser.add_argument("--out", type=Path, default=Path("runs/parts"))
    parser.add_argument("--set", dest="settings", action="append", default=[])
    options = parser.parse_args()
    data = options.out.with_name(f"{options.out.name}-data")
    draw(data)
    given = {**SETTINGS, "compare": False, "seed": options.seed, **dict(map(parse_assignment, options.settings))}
    config = changed(Config(data=data_config(data)), given)
    table = check_data(config, make_accelerator(config.runtime))
    for margin in options.margin:
        run = run_config(changed(config, {"seeds.margin": margin}), Run(options.out), options.until, table=table)
        show(margin, run, table.split("train"), table.split("val") if options.until == "evaluate" else None)


def show(margin: float, run: Run, training: Table, held_out: Table | None) -> None:
    counts = score_table(run.folder("seeds"), training).counts  # (K, K + 1)
    found = {"seeds": iou(counts), "where labelled": iou(counts[:, :-1])}
    if held_out is not None:
        found["masks"] = iou(score_table(run.folder("predictions"), held_out).counts)
    with run.statistics_file.open(newline="", encoding="utf-8") as file:
        labelled = [f"{row['labelled_images']} of {row['images']}" for row in csv.DictReader(file)]
    print(
        f"\nseeds.margin={margin:g}\n\n| class | images with labels | {' | '.join(f'IoU, {name}' for name in found)} |"
    )
    print("|---" * (2 + len(found)) + "|")
    for name, images, *values in zip(NAMES, labelled, *found.values(), strict=True):
        print(f"| {name} | {images} | {' | '.join(f'{value:.1f}' for value in values)} |")
    print(f"| mean | | {' | '.join(f'{np.nanmean(values):.1f}' for values in found.values())} |")


def iou(counts: np.ndarray) -> np.ndarray:
    """(K,) in %; counts are (truth, prediction), and predictions from K on are of no class."""
    right = counts.diagonal()
    return 100 * right / np.maximum(1, counts.sum(1) + counts[:, : len(counts)].sum(0) - right)


if __name__ == "__main__":
    main()
