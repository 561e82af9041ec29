"""What whole masks of some images bring beside the tags of all: PASCAL VOC 2012.

    python benchmarks/labels.py --data VOC [--masks 0 10 50 …] [--train train-small] [--score tune] [--seeds 0 1 2]
        [--out DIR] [--set KEY=VALUE …]

VOC is the folder that voc.py describes. The images with a mask are drawn at random, the same ones for each random seed
of the training; more masks include those of fewer. `--masks all` is full supervision. An interrupted call resumes.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import mean, stdev

import numpy as np

import cian
from cian.config import parse_assignment
from cian.files import read_json


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--masks", nargs="+", default=["0", "50"])
    parser.add_argument("--train", default="train-small")
    parser.add_argument("--score", default="tune")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--out", type=Path, default=Path("runs/labels"))
    parser.add_argument("--set", dest="settings", action="append", default=[])
    options = parser.parse_args()
    voc: Path = options.data
    lists = {name: voc / "ImageSets" / f"{name}.txt" for name in (options.train, options.score)}
    ids = lists[options.train].read_text(encoding="utf-8").split()
    order = np.random.default_rng(0).permutation(len(ids))
    rows = []
    for number in options.masks:
        chosen = [ids[i] for i in (order if number == "all" else order[: int(number)])]
        labels = options.out / f"masks-{number}"
        labels.mkdir(parents=True, exist_ok=True)
        for image_id in chosen:
            link = labels / f"{image_id}.png"
            if not link.exists():
                link.symlink_to((voc / "SegmentationClass" / f"{image_id}.png").resolve())
        scores = []
        for seed in options.seeds:
            run = cian.run(
                voc / "JPEGImages",
                voc / "tags.csv",
                options.out / f"seed-{seed}" / number,
                seed=seed,
                **{
                    "data.masks": str(voc / "SegmentationClass"),
                    "data.classes": str(voc / "classes.txt"),
                    "data.splits.train": str(lists[options.train]),
                    f"data.splits.{options.score}": str(lists[options.score]),
                    "data.labels": str(labels) if chosen else None,
                    "compare": False,
                    **dict(parse_assignment(text) for text in options.settings),
                },
            )
            final = read_json(run.path / "metrics.json")["stages"]
            plain = final["without affinity" if "CIAN" not in final else "CIAN"][options.score]["miou"]
            scores.append((plain, final["final, with CRF"][options.score]["miou"]))
        columns = [_spread(values) for values in zip(*scores, strict=True)]
        rows.append(f"| {number} | {columns[0]} | {columns[1]} |")
    print(f"\n{options.train} → {options.score}, random seeds {', '.join(map(str, options.seeds))}\n")
    print("\n".join(["| whole masks | mIoU | with CRF |", "|---|---|---|", *rows]))


def _spread(values: tuple[float, ...]) -> str:
    return f"{mean(values):.2f}" + (f" ± {stdev(values):.2f}" if len(values) > 1 else "")


if __name__ == "__main__":
    main()
