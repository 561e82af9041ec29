"""PASCAL VOC 2012 from tags: the paper's steps and full supervision, and their scores on all of val.

    python benchmarks/voc.py --data VOC [--saliency u2netp.onnx] [--train train-small] [--score tune] [--repeat 1]
        [--only completion baseline full-supervision …] [--val] [--out DIR] [--set KEY=VALUE …]

VOC holds JPEGImages/, SegmentationClass/, tags.csv, classes.txt and ImageSets/LIST.txt. Thresholds and schedules were
chosen on `tune`. `--val` then scores the networks on the list `val`, without tags.

The runs are those of `cian ablate`: all variants of a random seed share one classifier and one set of seed maps, and
all have the same schedule and augmentation. An interrupted call resumes. Background comes from the object maps. With
--saliency there is another variant, `with-saliency`, whose background comes from the saliency network.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any

from cian.config import dump_config, load_config, parse_assignment
from cian.data.known_files import fingerprint
from cian.data.table import Table
from cian.evaluation.run_scores import score_table
from cian.files import read_json, write_json
from cian.pipeline.ablation import BASELINE, FIRST, FULL, WITH_SALIENCY, ablate, markdown, mean_deviation, summary
from cian.pipeline.context import Context
from cian.pipeline.predict_masks import predict_masks
from cian.runs.directory import Run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--saliency")
    parser.add_argument("--train", default="train-small")
    parser.add_argument("--score", default="tune")
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--only", nargs="+")
    parser.add_argument("--val", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("runs/voc"))
    parser.add_argument("--set", dest="settings", action="append", default=[])
    options = parser.parse_args()
    voc: Path = options.data
    config = load_config(
        None,
        {
            "data.images": str(voc / "JPEGImages"),
            "data.tags": str(voc / "tags.csv"),
            "data.masks": str(voc / "SegmentationClass"),
            "data.classes": str(voc / "classes.txt"),
            "data.splits.train": str(voc / "ImageSets" / f"{options.train}.txt"),
            f"data.splits.{options.score}": str(voc / "ImageSets" / f"{options.score}.txt"),
            **dict(parse_assignment(text) for text in options.settings),
        },
    )
    only = options.only or [FIRST, BASELINE, *([WITH_SALIENCY] if options.saliency else []), FULL]
    result = ablate(config, options.out, options.repeat, only, options.saliency)
    print(f"\n{options.train} → {options.score}\n\n{markdown(result)}")
    seeds = [str(seed) for seed in range(config.seed, config.seed + options.repeat)]
    chosen = {name: entry for name, entry in result["variants"].items() if name in (FIRST, *only)}
    print(f"{scores_table(chosen, seeds)}\n")
    runs = {name: [options.out / f"seed-{seed}" / name for seed in seeds] for name in chosen}
    for run in [*runs[FIRST], *runs.get(WITH_SALIENCY, [])]:
        show_seeds(run)
    if options.val:
        val = {name: [score_val(voc, Run(run)) for run in each] for name, each in runs.items()}
        write_json(options.out / "val.json", val)
        scored = {
            name: {
                "group": chosen[name]["group"],
                "runs": {
                    seed: {"miou": run["plain"]["miou"], "miou_crf": run["crf"]["miou"]}
                    for seed, run in zip(seeds, each, strict=True)
                },
            }
            for name, each in val.items()
        }
        print(f"{options.train} → val, without tags\n\n{scores_table(scored, seeds)}\n\n{class_table(val)}")


def show_seeds(run: Path) -> None:
    """How good the seed maps of a run are, by split, and how long its stages took."""
    for split, scores in read_json(run / "metrics.json")["stages"]["seeds"].items():
        precision = [value for value in scores["precision"].values() if value is not None]
        print(
            f"{run.parent.name}/{run.name} seeds, {split}: mIoU {scores['miou']:.2f}, of what is labelled "
            f"{scores['miou_labelled']:.2f}, coverage {scores['coverage']:.1f} %, mean precision "
            f"{sum(precision) / len(precision):.1f} %"
        )
    minutes = (f"{name} {record.seconds / 60:.1f}" for name, record in Run(run).records().items())
    print(f"{run.parent.name}/{run.name} minutes: {', '.join(minutes)}\n")


def score_val(voc: Path, run: Run) -> dict[str, Any]:
    """Scores on the list `val` without tags, plain and with CRF (its masks have VOC's full size)."""
    folder = run.path / "val"
    file, made_with = folder / "scores.json", folder / "settings.json"
    config = load_config(run.config_file)
    weights = fingerprint(run.model / "model.safetensors")
    settings = {"predict": dump_config(config)["predict"], "weights": weights}
    if not made_with.exists() or read_json(made_with) != settings:
        shutil.rmtree(folder, ignore_errors=True)
        write_json(made_with, settings)
    if file.exists():
        return read_json(file)
    ids = (voc / "ImageSets" / "val.txt").read_text(encoding="utf-8").split()
    names = (voc / "classes.txt").read_text(encoding="utf-8").split()
    files = [voc / "JPEGImages" / f"{image_id}.jpg" for image_id in ids]
    masks = [voc / "SegmentationClass" / f"{image_id}.png" for image_id in ids]
    table = Table.build(names[1:], ids, files, [None] * len(ids), ["val"] * len(ids), masks)
    context = Context(config, table, run)
    predict_masks(
        context, table, context.networks[-1], "val", without_crf="val/plain", with_crf=("val/crf", config.predict.crf)
    )
    scores = {
        folder: score_table(run.folder(f"val/{folder}"), table).scores().as_dict(table.class_names)
        for folder in ("plain", "crf")
    }
    write_json(file, scores)
    return scores


def scores_table(variants: dict[str, Any], seeds: list[str]) -> str:
    """Every random seed, mean and deviation, gains over the network without affinity, the share of full supervision.

    Args:
        variants: as in the result of `ablate`, each with a run for each of `seeds`.
    """
    head = ["random seed", *seeds, "mean ± deviation", f"gain over {BASELINE}", "of full supervision"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    rows = {row["name"]: row for row in summary({"variants": variants})}
    for name, row in rows.items():
        for key, label in (("miou", name), ("miou_crf", f"{name}, with CRF")):
            values, gains, full = row[key], row[f"{key}_gain"], rows[FULL][key] if FULL in rows else []
            if not values:
                continue
            gain = share = ""
            if gains and name != BASELINE:
                gain = f"{', '.join(f'{value:+.2f}' for value in gains)}: {mean_deviation(gains, signed=True)}"
            if full and name != FULL:
                share = f"{100 * sum(values) / sum(full):.1f} %"
            shown = [f"{value:.2f}" for value in values]
            lines.append(f"| {' | '.join([label, *shown, mean_deviation(values), gain, share])} |")
    return "\n".join(lines)


def class_table(val: dict[str, list[dict[str, Any]]]) -> str:
    """IoU of every class, mean over the random seeds."""
    lines = [f"| IoU without CRF | {' | '.join(val)} |", "|---" * (len(val) + 1) + "|"]
    for class_name in next(iter(val.values()))[0]["plain"]["iou"]:
        ious = ([run["plain"]["iou"][class_name] for run in runs] for runs in val.values())
        lines.append(f"| {class_name} | {' | '.join(f'{sum(each) / len(each):.1f}' for each in ious)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
