"""PASCAL VOC 2012 from tags: seeds, without affinity, self affinity, CIAN, retrained, with CRF, full supervision.

    python benchmarks/voc.py --data VOC --saliency u2netp.onnx [--train train-small] [--score tune] [--val] [--out DIR]

VOC holds JPEGImages/, SegmentationClass/, tags.csv, classes.txt and ImageSets/LIST.txt. Thresholds and schedules are
tuned on `tune`; `--val` then scores the final networks once on the list `val`, without tags. A run that was interrupted
goes on. Every network has the same schedule and augmentation. Without --saliency, background comes from the CAMs.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from cian.config import load_config, parse_assignment
from cian.pipeline import run_config
from cian.runs import Run
from cian.stages.evaluate import score_pairs
from cian.stages.predict import predict_folder

ALONE = {"retrain.enabled": False, "compare": False}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--saliency", type=Path)
    parser.add_argument("--train", default="train-small")
    parser.add_argument("--score", default="tune")
    parser.add_argument("--val", action="store_true")
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
    variants = {
        "cian": {"compare": True},
        "self": {**ALONE, "affinity.mode": "self", "seeds.folder": str(options.out / "cian" / "seeds")},
        "full": {**ALONE, "affinity.mode": "none", "train.labels": "masks"},
    }
    for name, settings in variants.items():
        run_config(load_config(None, {**base, **settings}), Run(options.out / name))
    print(f"\n{options.train} → {options.score}, mIoU %")
    for name in variants:
        show(options.out / name)
    if options.val:
        print(f"\n{options.train} → val, mIoU %, without tags")
        for name in variants:
            for label, settings in (("", {"predict.crf.iterations": 0}), (", with CRF", {})):
                out = options.out / "val" / f"{name}{'-crf' if label else ''}"
                score_val(voc, options.out / name, out, settings, f"{name}{label}")


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


def score_val(voc: Path, run: Path, out: Path, settings: dict[str, Any], label: str) -> None:
    """Predicts and scores the list `val` (its masks have VOC's full size)."""
    ids = (voc / "ImageSets" / "val.txt").read_text(encoding="utf-8").split()
    images = out.parent / "images"
    images.mkdir(parents=True, exist_ok=True)
    for image_id in ids:
        link = images / f"{image_id}.jpg"
        if not link.exists():
            link.symlink_to((voc / "JPEGImages" / f"{image_id}.jpg").resolve())
    predict_folder(run, images, out, settings=settings)
    pairs = [(out / f"{image_id}.png", voc / "SegmentationClass" / f"{image_id}.png") for image_id in ids]
    classes = len((voc / "classes.txt").read_text(encoding="utf-8").split())
    print(f"{label:20s} {score_pairs(pairs, classes, resize=True).scores().miou:6.2f}", flush=True)


if __name__ == "__main__":
    main()
