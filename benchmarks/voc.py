"""PASCAL VOC 2012 from tags: seeds, without affinity, self affinity, CIAN, retrained, with CRF, full supervision.

    python benchmarks/voc.py --data VOC --saliency u2netp.onnx [--train train-small] [--score tune] [--val] [--out DIR]

VOC holds JPEGImages/, SegmentationClass/, tags.csv, classes.txt and ImageSets/LIST.txt. Thresholds and schedules are
tuned on `tune`; `--val` then scores the final networks once on the list `val`, without tags. A run that was interrupted
goes on. Every network starts from the same classifier and has the same schedule and augmentation; all but full
supervision learn from the same seeds. Without --saliency, background comes from the CAMs. With --only, some of the runs
(cian first: it makes the seeds of all).
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

from cian.config import load_config, parse_assignment
from cian.data.table import Table
from cian.pipeline import run_config
from cian.runs import Run, write_json
from cian.stages.context import Context
from cian.stages.evaluate import score
from cian.stages.predict import predict_masks

VARIANTS: dict[str, dict[str, Any]] = {
    "cian": {"retrain.enabled": True, "retrain.epochs": 4},
    "none": {"affinity.mode": "none"},
    "self": {"affinity.mode": "self"},
    "full": {"affinity.mode": "none", "train.labels": "masks"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--saliency", type=Path)
    parser.add_argument("--train", default="train-small")
    parser.add_argument("--score", default="tune")
    parser.add_argument("--val", action="store_true")
    parser.add_argument("--only", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--out", type=Path, default=Path("runs/voc"))
    parser.add_argument("--set", dest="settings", action="append", default=[])
    options = parser.parse_args()
    voc: Path = options.data
    base: dict[str, Any] = {
        "data.images": str(voc / "JPEGImages"),
        "data.tags": str(voc / "tags.csv"),
        "data.masks": str(voc / "SegmentationClass"),
        "data.classes": str(voc / "classes.txt"),
        "data.splits.train": str(voc / "ImageSets" / f"{options.train}.txt"),
        f"data.splits.{options.score}": str(voc / "ImageSets" / f"{options.score}.txt"),
        **({"seeds.background": str(options.saliency)} if options.saliency else {}),
        **dict(parse_assignment(text) for text in options.settings),
    }
    for name in options.only:
        config = load_config(None, {**base, **VARIANTS[name]})
        if name != "cian":
            share_seeds(options.out / "cian", options.out / name)
        run_config(config, Run(options.out / name))
    print(f"\n{options.train} → {options.score}, mIoU %")
    for name in options.only:
        show(options.out / name)
    if options.val:
        print(f"\n{options.train} → val, mIoU %, without tags")
        for name in options.only:
            score_val(voc, Run(options.out / name), name)


def share_seeds(source: Path, target: Path) -> None:
    """Gives a new run the classifier and the seeds of another one."""
    if target.exists():
        return
    for name in ("classify", "seeds"):
        shutil.copytree(source / name, target / name)
    records = json.loads((source / "stages.json").read_text(encoding="utf-8"))
    write_json(target / "stages.json", {name: records[name] for name in ("classify", "seed")})


def show(run: Path) -> None:
    """One line for each stage and split of a run."""
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    records = json.loads((run / "stages.json").read_text(encoding="utf-8"))
    for stage, splits in metrics["stages"].items():
        for split, scores in splits.items():
            precision = [value for value in scores["precision"].values() if value is not None]
            print(
                f"{run.name:5s} {stage:18s} {split:6s} {scores['miou']:6.2f}  labelled {scores['miou_labelled']:6.2f}  "
                f"coverage {scores['coverage']:6.2f}   precision {sum(precision) / len(precision):6.2f}"
            )
    print(f"{run.name:5s} minutes: " + ", ".join(f"{name} {r['seconds'] / 60:.1f}" for name, r in records.items()))


def score_val(voc: Path, run: Run, name: str) -> None:
    """Predicts the list `val` without tags, without and with CRF, and scores it (its masks have VOC's full size)."""
    config = load_config(run.config_file)
    ids = (voc / "ImageSets" / "val.txt").read_text(encoding="utf-8").split()
    names = (voc / "classes.txt").read_text(encoding="utf-8").split()
    files = [voc / "JPEGImages" / f"{image_id}.jpg" for image_id in ids]
    masks = [voc / "SegmentationClass" / f"{image_id}.png" for image_id in ids]
    table = Table.build(names[1:], ids, files, [None] * len(ids), ["val"] * len(ids), masks)
    context = Context(run, config, table)
    for network in ("train", "retrain") if config.retrain.enabled else ("train",):
        plain, crf = f"val/{network}", f"val/{network}-crf"
        predict_masks(context, table, network, "val", without_crf=plain, with_crf=(crf, config.predict.crf))
        for folder, what in ((plain, ""), (crf, ", with CRF")):
            print(
                f"{name:5s} {network + what:18s} {score(run.folder(folder), table, 'val').scores().miou:6.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
