"""The demo over several random seeds: seeds, without affinity, CIAN, with CRF.

    python benchmarks/demo.py [--seeds 0 1 2] [--out runs/demo-seeds] [--set KEY=VALUE …]

Finished runs are not repeated. Prints a table of mIoU on the 60 held-out images: each random seed, mean and standard
deviation, and the gains of affinity, paired by random seed. "final, with CRF" is the better of
the two networks in each run. The data is the same for all random seeds. The random seed
decides initial weights, order and augmentation.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from cian.config import parse_assignment
from cian.demo.run import run_demo
from cian.pipeline.ablation import mean_deviation

GAINS = (("CIAN", "without affinity"), ("CIAN, with CRF", "without affinity, with CRF"))  # titles in metrics.json


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/demo-seeds"))
    parser.add_argument("--set", dest="settings", action="append", default=[])
    options = parser.parse_args()
    table: dict[str, list[float]] = {}
    seconds = []
    for seed in options.seeds:
        settings = {**dict(parse_assignment(text) for text in options.settings), "seed": seed}
        run = run_demo(options.out / str(seed), settings=settings)
        for name, splits in json.loads(run.metrics_file.read_text())["stages"].items():
            if "val" in splits:
                table.setdefault(name, []).append(splits["val"]["miou"])
        seconds.append(sum(record.seconds for record in run.records().values()))
    print("mIoU % on the held-out images; random seeds " + " ".join(map(str, options.seeds)))
    for name, values in table.items():
        shown = "  ".join(f"{value:5.2f}" for value in values)
        print(f"{name:25s} {shown}   mean {mean_deviation(values)}")
    for name, base in GAINS:
        if name not in table or base not in table:
            continue
        gains = [value - other for value, other in zip(table[name], table[base], strict=True)]
        shown = "  ".join(f"{value:+5.2f}" for value in gains)
        print(f"{'gain of ' + name:25s} {shown}   mean {mean_deviation(gains, signed=True)}")
    print("seconds of each run: " + " ".join(f"{value:.0f}" for value in seconds))


if __name__ == "__main__":
    main()
