"""What masks, strokes or clicks on some images bring beside the tags of all: a table, and mIoU over a person's time.

    python benchmarks/labels.py --data VOC [--kind masks] [--images 0 50 all] [--alone] [--order random]
        [--seeds 0 1 2] [--score tune val] [--out DIR] [--set KEY=VALUE …]
    python benchmarks/labels.py --data demo …        the demo's drawings
    python benchmarks/labels.py --figure             draws the figure and writes the tables, without running anything

VOC is the folder that voc.py describes; the program is given the tags of `--train` alone. A script draws strokes and
clicks from the true masks (see drawn.py). The images with labels are the first ones of a random order, the same for
each random seed of the training, or of the order that `cian suggest` finds in the seeds from tags alone (`--order
suggested`). `--images 0` is tags alone, `--kind masks --images all` full supervision. `--alone` gives the same labels
without any other image: full supervision on the labelled images, with as many training steps.

Runs of one random seed share their classifier. An interrupted call resumes. Each result is added to
benchmarks/results/labels.json. docs/labels.png and the tables in docs/how-good-is-it.md are made from that file.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
from bench import replaced
from drawn import Kind, drawn

import cian
from cian.config import Config, changed, parse_assignment
from cian.data.masks import read_mask, write_mask
from cian.data.sampler import GroupSampler
from cian.data.table import TRAIN, Table
from cian.demo import data_config
from cian.demo.animals import generate
from cian.demo.run import SETTINGS
from cian.files import atomic, read_json, write_csv, write_json, write_text
from cian.pipeline.ablation import reusable
from cian.pipeline.run import check_data, run_config
from cian.pipeline.suggest import suggest
from cian.runs.directory import Run
from cian.training.device import make_accelerator
from cian.training.segmentation import network_batches

RESULTS = Path(__file__).with_name("results") / "labels.json"
DOCS = Path(__file__).parents[1] / "docs"
PAGE, FIGURE = DOCS / "how-good-is-it.md", DOCS / "labels.png"
BEGIN, END = "<!-- labels.py: begin -->", "<!-- labels.py: end -->"
FIGURE_OF, SPLIT = "VOC train-small", "val"
SECONDS = {"tags": 20, "clicks": 22, "strokes": 35, "masks": 240}  # an image; Bearman et al., "What's the Point", 2016
KEY = ("data", "kind", "images", "order", "alone", "seed", "settings")  # what identifies a result


@dataclass
class Data:
    """
    Attributes:
        name: the data set and its list of training images.
        config: of tags alone.
        train: the ids of the training images.
        masks: the folder of their masks.
    """

    name: str
    config: Config
    train: list[str]
    masks: Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="the folder of VOC, or `demo`")
    parser.add_argument("--kind", choices=("masks", "strokes", "clicks"), default="masks")
    parser.add_argument("--images", nargs="+", default=["0", "50", "all"])
    parser.add_argument("--alone", action="store_true")
    parser.add_argument("--order", choices=("random", "suggested"), default="random")
    parser.add_argument("--train", default="train-small")
    parser.add_argument("--score", nargs="+", default=["tune", "val"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--out", type=Path, default=Path("runs/labels"))
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--set", dest="settings", action="append", default=[])
    parser.add_argument("--figure", action="store_true")
    options = parser.parse_args()
    if options.data is not None:
        data = demo(options.out) if options.data == "demo" else voc(Path(options.data), options)
        for seed in options.seeds:
            for number in options.images:
                keep(measure(data, number, options, seed), options.results)
    results = read_json(options.results)
    print(f"\n{tables(results)}")
    if options.figure:
        write_text(PAGE, replaced(PAGE.read_text(encoding="utf-8"), tables(results), BEGIN, END))
        if shown := [result for result in results if result["data"] == FIGURE_OF]:
            draw(shown, FIGURE)


def voc(folder: Path, options: argparse.Namespace) -> Data:
    """PASCAL VOC 2012, with the tags of the training images alone."""
    lists = {name: folder / "ImageSets" / f"{name}.txt" for name in (options.train, *options.score)}
    train = lists[options.train].read_text(encoding="utf-8").split()
    with (folder / "tags.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if Path(row["image"]).stem in set(train)]
    tags = options.out / "tags.csv"
    tags.parent.mkdir(parents=True, exist_ok=True)
    write_csv(tags, [("image", "tags"), *((row["image"], row["tags"]) for row in rows)])
    settings = {
        "data.images": str(folder / "JPEGImages"),
        "data.tags": str(tags),
        "data.masks": str(folder / "SegmentationClass"),
        "data.classes": str(folder / "classes.txt"),
        "data.splits.train": str(lists[options.train]),
        **{f"data.splits.{name}": str(lists[name]) for name in options.score},
    }
    return Data(f"VOC {options.train}", changed(Config(), settings), train, folder / "SegmentationClass")


def demo(out: Path) -> Data:
    """The demo's drawings."""
    folder = out / "data"
    generate(folder)
    with (folder / "tags.csv").open(encoding="utf-8", newline="") as file:
        train = [Path(row["image"]).stem for row in csv.DictReader(file) if row["split"] == TRAIN]
    return Data("demo", changed(Config(data=data_config(folder)), SETTINGS), train, folder / "masks")


def labelled(data: Data, number: str, order: str, base: Run) -> list[str]:
    """The training images that a person labels.

    Args:
        base: the run with tags alone, for the order that `cian suggest` finds in its seeds.
    """
    if number == "all":
        return data.train
    if order == "random":
        return [data.train[i] for i in np.random.default_rng(0).permutation(len(data.train))[: int(number)]]
    return [suggestion.id for suggestion in suggest(base, int(number))]


def measure(data: Data, number: str, options: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Runs the pipeline with labels for some images; returns the result as it is kept."""
    kind: Kind = options.kind
    own = dict(parse_assignment(text) for text in options.settings)
    settings = {"seed": seed, "compare": False, **own}
    base = Run(options.out / f"seed-{seed}" / "tags")
    run, chosen = base, []
    if number != "0":
        if options.order == "suggested" or not options.alone:
            until = "seed" if options.order == "suggested" else "classify"
            run_config(changed(data.config, settings), base, until=until)
        chosen = labelled(data, number, options.order, base)
        name = "-".join([kind, number, *([] if options.order == "random" else [options.order])])
        labels = options.out / "labels" / name
        labels.mkdir(parents=True, exist_ok=True)
        for image_id in chosen:
            if not (file := labels / f"{image_id}.png").exists():
                write_mask(file, drawn(read_mask(data.masks / f"{image_id}.png"), kind))
        settings["data.labels"] = str(labels)
        run = Run(base.path.with_name(f"{name}-alone" if options.alone else name))
        if options.alone:
            settings |= alone(data, chosen, options.out / "lists" / f"{name}.txt")
    config = changed(data.config, settings)
    if chosen and not options.alone:  # the classifier is that of tags alone
        shared = reusable(config, check_data(config, make_accelerator(config.runtime)), base)
        run.take_over(base, {stage: outputs for stage, outputs in shared.items() if stage == "classify"})
    run_config(config, run)
    return {
        "data": data.name,
        "kind": kind if chosen else "tags",
        "images": len(chosen),
        "of": len(data.train),
        "order": options.order if chosen else "random",
        "alone": options.alone and bool(chosen),
        "seed": seed,
        "settings": own,
        **scores(run),
        "commit": commit(),
    }


def alone(data: Data, chosen: Sequence[str], file: Path) -> dict[str, Any]:
    """Settings for training on some images only, for as many steps as on all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join([*chosen, ""]), encoding="utf-8")
    config = data.config
    accelerator = make_accelerator(config.runtime)
    table: Table = check_data(config, accelerator).split(TRAIN)
    sampler: GroupSampler = network_batches(config, table, accelerator)
    steps = config.train.epochs * len(sampler.epoch(0))
    of_classifier = config.classify.epochs * -(-len(table) // config.classify.batch_size)
    return {
        "data.splits.train": str(file),
        "data.min_images": 0,
        "train.min_steps": max(steps, config.train.min_steps),
        "classify.min_steps": max(of_classifier, config.classify.min_steps),
    }


def scores(run: Run) -> dict[str, Any]:
    """mIoU of the network by split, without CRF and with, and of the seeds over the pixels that they label."""
    stages = read_json(run.metrics_file)["stages"]
    plain = stages["without affinity" if "CIAN" not in stages else "CIAN"]
    splits = [split for split in plain if split != TRAIN]
    seeds = stages.get("seeds", {}).get(TRAIN, {}).get("miou_labelled")
    return {
        "miou": {split: plain[split]["miou"] for split in splits},
        "with_crf": {split: stages["final, with CRF"][split]["miou"] for split in splits},
        "seeds": seeds,
    }


def commit() -> str:
    """The version of cian, and of its source if it is a checkout."""
    folder = Path(cian.__file__).parent
    found = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=folder, capture_output=True, text=True, check=False
    )
    return f"{cian.__version__} {found.stdout.strip()}".strip()


def keep(result: dict[str, Any], file: Path) -> None:
    """Adds a result to the file, in place of an earlier one of the same run."""
    results = read_json(file) if file.exists() else []
    others = [each for each in results if any(each[key] != result[key] for key in KEY)]
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, [*others, result])


def minutes(result: dict[str, Any]) -> float:
    """A person's time for the tags and labels of a result. The time of a label includes that of the image's tags."""
    tagged = 0 if result["alone"] else result["of"] - result["images"]
    return (tagged * SECONDS["tags"] + result["images"] * SECONDS[result["kind"]]) / 60


@dataclass
class Point:
    """The results of one amount of labels, of all random seeds.

    Attributes:
        series: what they are labels of, in words.
    """

    series: str
    results: list[dict[str, Any]]

    @property
    def images(self) -> int:
        return self.results[0]["images"]

    @property
    def full(self) -> bool:
        """Whether this is full supervision."""
        return self.results[0]["kind"] == "masks" and self.images == self.results[0]["of"]

    def values(self, key: str, split: str) -> list[float]:
        return [result[key][split] for result in self.results if split in result[key]]


def points(results: Sequence[dict[str, Any]]) -> list[Point]:
    """The results of a data set, those of all random seeds together, cheapest first."""
    found: dict[tuple[Any, ...], Point] = {}
    for result in sorted(results, key=lambda result: (minutes(result), result["seed"])):
        series = result["kind"] if result["order"] == "random" else f"{result['kind']}, {result['order']} order"
        if result["kind"] != "tags":
            series = f"{series} alone" if result["alone"] else f"tags and {series}"
        series = ", ".join([series, *(f"{key}={value}" for key, value in result["settings"].items())])
        found.setdefault((series, result["images"]), Point(series, [])).results.append(result)
    return list(found.values())


def tables(results: Sequence[dict[str, Any]]) -> str:
    """Markdown: for each data set and each list of held-out images, the scores beside a person's time."""
    parts: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for result in results:
        for split in result["miou"]:
            parts[result["data"], split].append(result)
    texts = []
    for (data, split), some in sorted(parts.items()):
        seeds = sorted({result["seed"] for result in some})
        every = points(some)
        full = next((point for point in every if point.full), None)
        of_full = ["of full supervision"] if full else []
        titles = ["labels", "of images", "a person's hours", "mIoU", *of_full, "with CRF", *of_full]
        lines = [
            f"{data} → {split}, random seeds {', '.join(map(str, seeds))}\n",
            f"| {' | '.join(titles)} |",
            "|---" * len(titles) + "|",
        ]
        for point in every:
            cells = [point.series, str(point.images), f"{minutes(point.results[0]) / 60:.1f}"]
            for key in ("miou", "with_crf"):
                values = point.values(key, split)
                cells += [spread(values), *([share(values, full.values(key, split))] if full else [])]
            lines.append(f"| {' | '.join(cells)} |")
        texts.append("\n".join(lines))
    return "\n\n".join(texts)


def spread(values: Sequence[float]) -> str:
    return f"{mean(values):.2f}" + (f" ± {stdev(values):.2f}" if len(values) > 1 else "")


def share(values: Sequence[float], full: Sequence[float]) -> str:
    return f"{100 * mean(values) / mean(full):.1f} %"


def draw(results: Sequence[dict[str, Any]], file: Path) -> None:
    """mIoU without CRF over a person's hours: a line for each kind of labels, from tags alone on."""
    from matplotlib.figure import Figure

    every = [point for point in points(results) if point.values("miou", SPLIT)]
    tags = [point for point in every if point.series == "tags"]
    figure = Figure(figsize=(7.5, 4.2), layout="constrained")
    axes = figure.subplots()
    colours = ("#1b6ca8", "#e07a1f", "#3a8f5c", "#8a8f98", "#a3488f", "#b8860b")
    names = [name for name in dict.fromkeys(point.series for point in every) if name != "tags"]
    for name, colour in zip(names, colours, strict=False):
        line = [point for point in every if point.series == name]
        whole = line if name.endswith(" alone") else [*tags, *line]
        hours = [minutes(point.results[0]) / 60 for point in whole]
        means = [mean(point.values("miou", SPLIT)) for point in whole]
        axes.plot(hours, means, "o-", color=colour, markersize=5, label=name)
        for point in line:
            place = minutes(point.results[0]) / 60, mean(point.values("miou", SPLIT))
            axes.annotate(str(point.images), place, (0, 6), textcoords="offset points", ha="center", fontsize=8)
    for point in tags:
        place = minutes(point.results[0]) / 60, mean(point.values("miou", SPLIT))
        axes.plot(*place, "o", color="black", markersize=6, zorder=3, label="tags")
    for point in every:
        if point.full:
            axes.axhline(mean(point.values("miou", SPLIT)), color="#8a8f98", linestyle=":", linewidth=1)
    seeds = sorted({result["seed"] for result in results})
    axes.set_xscale("log")
    axes.set_xlabel(f"a person's hours for {results[0]['of']} images")
    axes.set_ylabel(f"mIoU % on VOC {SPLIT}, random seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.grid(color="#e6e9ec")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right")
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic(file) as temporary:
        figure.savefig(temporary, dpi=150, format="png")


if __name__ == "__main__":
    main()
