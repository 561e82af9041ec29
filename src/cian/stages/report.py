"""report.html: what a run learned and how well, in one self-contained page.

Text, tables and charts are HTML and SVG in the reader's own fonts, so that class names in any script can be read. Each
picture is stored once; masks and heat maps are small layers over it.
"""

from __future__ import annotations

import base64
import io
import os
import platform
import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2
import matplotlib
import numpy as np
import torch
import yaml
from matplotlib.ticker import MaxNLocator
from PIL import Image
from scipy.ndimage import distance_transform_edt, maximum_filter, minimum_filter

from cian.backbones import Backbone
from cian.config import Config, dump_config
from cian.data.check import summary_data
from cian.data.images import read_image
from cian.data.masks import palette, read_mask
from cian.data.table import IGNORE, TRAIN, Table
from cian.grid import as_input, scaled
from cian.metrics import Confusion
from cian.network import CIAN
from cian.progress import Ticker, duration
from cian.runs import read_json, write_text
from cian.seeds.cam import class_activation_maps
from cian.stages import evaluate, predict, relabel, seed
from cian.stages.classify import load_classifier
from cian.stages.context import Context
from cian.stages.train import load_network
from cian.training import read_metrics

THUMB = 360  # longest side of a picture on the page, in pixels
SHOWN, SHOWN_MOST = 12, 24  # rows of pictures: at least, and at most where there are many classes
TRAINING_SHOWN = 4
CANDIDATES = 400  # images that pictures are chosen from, spread over the split
MATRIX_CLASSES = 24  # a larger matrix becomes a list of its largest entries
PAIRS = 15
LOOKS = 5  # examples of affinity
LOOK_SIDE = 352  # longest side of the images that affinity is shown on
LOOK_BYTES = 160_000  # of one affinity atlas

Layer = str  # data URI of an image that lies over a picture


def run(context: Context) -> None:
    """Writes the page from what the run has; what it has not (no masks, no affinity, …) is said or left out."""
    if not context.accelerator.is_main_process:
        return
    scores: dict[str, Any] = read_json(context.run.metrics_file)
    pictures = Pictures()
    with Ticker("report", 4, unit="parts") as ticker:
        held_out, training = _galleries(context, pictures)
        ticker.advance(2)
        affinity = _affinity(context, pictures) if context.config.affinity.mode != "none" else None
        ticker.advance()
        page = _template().render(
            name=context.run.path.resolve().name,
            written=datetime.now().astimezone().strftime("%d %B %Y, %H:%M").lstrip("0"),
            config=context.config,
            classes=_legend(context.table),
            table=context.table,
            train_images=len(context.train_table),
            learned_from_masks=context.config.train.labels == "masks",
            splits=context.predict_splits,
            predicted_images=len(context.predict_table),
            scores=scores,
            scored_images=_count_scored(context, scores),
            rows=_score_rows(context, scores),
            seed_tables=_seed_tables(context, scores),
            per_class=_per_class(context, scores),
            confusion=_confusion(context, scores),
            held_out=held_out,
            training=training,
            shown={
                tile["name"] for part in (held_out, training) if part for row in part["rows"] for tile in row["tiles"]
            },
            affinity=affinity,
            curves=_curves(context),
            data=_data(context.table),
            stages=_stages(context),
            versions=_versions(context),
            machine=_machine(context),
            artefacts=_artefacts(context),
            settings=yaml.safe_dump(dump_config(context.config), sort_keys=False, allow_unicode=True),
            model=context.run.model,
            pictures=pictures.uris,
        )
        write_text(context.run.report_file, page)
        ticker.advance()


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["score"] = lambda value: "–" if value is None else f"{value:.1f}"
    environment.filters["thousands"] = lambda value: f"{value:,}".replace(",", "\u202f")
    environment.filters["duration"] = duration
    environment.filters["shell"] = shlex.quote
    return environment.get_template("report.html.j2")


# Scores


def _score_rows(context: Context, scores: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of the table of scores: labels for the training first, then predictions in the order of the pipeline."""
    order = (
        evaluate.SEEDS,
        evaluate.RELABEL,
        evaluate.WITHOUT_AFFINITY,
        evaluate.AFFINITY,
        evaluate.RETRAINED,
        evaluate.FINAL,
    )
    rows = []
    for name, splits in scores["stages"].items():
        for split, values in splits.items():
            rows.append(
                {
                    "place": order.index(name),
                    "name": name,
                    "about": _about(context.config, name),
                    "split": split,
                    "tags": _uses_tags(context.config, name, split),
                    "images": _number_scored(context, name, split),
                    "miou": values["miou"],
                    "labelled": values["miou_labelled"] if name == evaluate.SEEDS else None,
                    "accuracy": values["accuracy"],
                    "coverage": values["coverage"],
                    "precision": _mean(values["precision"].values()),
                    "recall": _mean(values["recall"].values()),
                    "headline": split == scores["split"] and name == _final(scores, split),
                }
            )
    return sorted(rows, key=lambda row: row["place"])


def _about(config: Config, name: str) -> str:
    """What a row of the table of scores is, in a sentence."""
    labels = "the true masks" if config.train.labels == "masks" else "the seeds"
    module = {
        "cross": "affinity within and across images",
        "self": "affinity within each image",
        "none": "no affinity module",
    }[config.affinity.mode]
    if name == evaluate.SEEDS:
        if config.seeds.folder is not None:
            return "The ready-made seed maps; what is uncertain is left open."
        return "Sparse labels from class activation maps; what is uncertain is left open."
    return {
        evaluate.WITHOUT_AFFINITY: f"The same network without the affinity module, trained on {labels}. No CRF.",
        evaluate.AFFINITY: f"The network ({module}), trained on {labels}. No CRF.",
        evaluate.RELABEL: "Masks of the training images by this network, with CRF: what the retraining learns from.",
        evaluate.RETRAINED: "The same network, trained again on the relabelled masks. No CRF.",
        evaluate.FINAL: "The model's final masks, refined by the CRF.",
    }[name]


def _uses_tags(config: Config, name: str, split: str) -> str:
    """Whether an image's own tags limited what may appear in its mask."""
    if name == evaluate.SEEDS:
        return "yes" if config.seeds.folder is None else "ready-made"
    if name == evaluate.RELABEL:
        return "yes" if config.relabel.tag_filter else "no"
    return "yes" if split == TRAIN else "no"


def _number_scored(context: Context, name: str, split: str) -> int:
    images = {evaluate.SEEDS: context.seed_table, evaluate.RELABEL: context.train_table}
    table = images.get(name, context.predict_table)
    return sum(s == split and mask is not None for s, mask in zip(table.splits, table.masks, strict=True))


def _count_scored(context: Context, scores: dict[str, Any]) -> int:
    return _number_scored(context, evaluate.FINAL, scores["split"]) if scores["split"] is not None else 0


def _final(scores: dict[str, Any], split: str) -> str | None:
    """The last predictions that were scored on a split."""
    names = (evaluate.FINAL, evaluate.RETRAINED, evaluate.AFFINITY)
    return next((name for name in names if split in scores["stages"].get(name, {})), None)


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _seed_tables(context: Context, scores: dict[str, Any]) -> list[dict[str, Any]]:
    """By split: precision, recall, and share of what the seeds leave open, of each class."""
    tables = []
    for split, values in scores["stages"].get(evaluate.SEEDS, {}).items():
        counts = np.array(values["confusion"])  # (K, K + 1)
        pixels = counts.sum(1)
        rows = []
        for i, name in enumerate(context.table.class_names):
            open_share = float(counts[i, -1] / pixels[i]) * 100 if pixels[i] else None
            rows.append(
                {
                    "name": name,
                    "colour": colour(i),
                    "precision": values["precision"][name],
                    "recall": values["recall"][name],
                    "coverage": None if open_share is None else 100 - open_share,
                }
            )
        tables.append({"split": split, "rows": rows, "coverage": values["coverage"]})
    return tables


_STAGE_COLOURS = {
    evaluate.SEEDS: "#a9a9a0",
    evaluate.WITHOUT_AFFINITY: "#e09f3e",
    evaluate.AFFINITY: "#5fa8d3",
    evaluate.RELABEL: "#8d6cab",
    evaluate.RETRAINED: "#1b4965",
}


def _per_class(context: Context, scores: dict[str, Any]) -> dict[str, Any] | None:
    """IoU of each class on the split of the headline: the final masks as bars, other stages as marks."""
    split = scores["split"]
    final = None if split is None else _final(scores, split)
    if final is None:
        return None
    values = {name: by_split[split]["iou"] for name, by_split in scores["stages"].items() if split in by_split}
    others = [name for name in _STAGE_COLOURS if name in values and name != final]
    rows = [
        {
            "name": name,
            "colour": colour(i),
            "final": values[final][name],
            "marks": [
                {"stage": other, "value": values[other][name], "colour": _STAGE_COLOURS[other]}
                for other in others
                if values[other][name] is not None
            ],
            "all": [values[other][name] for other in (*others, final)],
        }
        for i, name in enumerate(context.table.class_names)
    ]
    return {
        "split": split,
        "final": final,
        "rows": rows,
        "stages": [*others, final],
        "legend": [(name, _STAGE_COLOURS[name]) for name in others],
    }


def _confusion(context: Context, scores: dict[str, Any]) -> dict[str, Any] | None:
    """Where the pixels of each class went in the final masks, in per cent of its pixels."""
    split = scores["split"]
    final = None if split is None else _final(scores, split)
    if final is None:
        return None
    counts = np.array(scores["stages"][final][split]["confusion"], np.float64)  # (K, K + 1)
    pixels = counts.sum(1, keepdims=True)
    shares = np.divide(counts, pixels, out=np.zeros_like(counts), where=pixels > 0) * 100
    names = context.table.class_names
    wrong = [
        (shares[i, j], names[i], names[j])
        for i in range(len(names))
        for j in range(len(names))
        if i != j and shares[i, j]
    ]
    wrong.sort(key=lambda entry: -entry[0])
    columns = [*names, "left open"] if counts[:, -1].any() else list(names)
    matrix = None
    if len(names) <= MATRIX_CLASSES:
        matrix = [
            {"name": name, "colour": colour(i), "cells": shares[i, : len(columns)].tolist(), "any": bool(pixels[i, 0])}
            for i, name in enumerate(names)
        ]
    return {"split": split, "final": final, "columns": columns, "matrix": matrix, "pairs": wrong[:PAIRS]}


# The data, the training, the run


def _legend(table: Table) -> list[dict[str, str]]:
    return [{"name": name, "colour": colour(i)} for i, name in enumerate(table.class_names)]


def colour(class_id: int) -> str:
    return "#{:02x}{:02x}{:02x}".format(*palette()[class_id])


def _data(table: Table) -> dict[str, Any]:
    data = summary_data(table)
    matrix = np.array(data["co_occurrence"]).reshape(len(table.classes), len(table.classes))
    first, second = np.triu_indices(len(matrix), k=1)
    together = matrix[first, second]
    pairs = [
        (int(together[i]), table.classes[first[i]], table.classes[second[i]])
        for i in np.argsort(-together, kind="stable")[:PAIRS]
        if together[i]
    ]
    tags = np.diff(table.tag_offsets)[table.tagged]
    return {
        **data,
        "rows": [
            {"name": name, "colour": colour(i + 1), "counts": [counts[i] for counts in data["counts"].values()]}
            for i, name in enumerate(table.classes)
        ],
        "matrix": matrix.tolist() if len(matrix) <= MATRIX_CLASSES else None,
        "most": int(together.max()) if len(together) else 0,
        "pairs": pairs,
        "tags_per_image": float(tags.mean()) if len(tags) else None,
    }


_LOSSES = {
    "total": ("total", "#22262b"),
    "self_seed": ("self · labels", "#1b6ca8"),
    "cross_seed": ("cross · labels", "#e07a1f"),
    "self_completion": ("self · completion", "#3f8f5b"),
    "cross_completion": ("cross · completion", "#b5446e"),
}


def _trained(config: Config) -> list[tuple[str, str]]:
    """(folder, title) of the networks that these settings train."""
    own_seeds = config.train.labels == "seeds" and config.seeds.folder is None
    wanted = {
        "classify": ("Classifier", own_seeds),
        "baseline": ("Training without affinity", config.compare),
        "train": ("Training", True),
        "retrain": ("Retraining", config.retrain.enabled),
    }
    return [(name, title) for name, (title, there) in wanted.items() if there]


def _curves(context: Context) -> list[dict[str, Any]]:
    """One chart per trained network: its losses over the steps."""
    charts = []
    for folder, title in _trained(context.config):
        log = read_metrics(context.run.folder(folder) / "metrics.jsonl")
        names = [name for name in log[0] if name not in ("step", "epoch", "lr", "images_per_second")] if log else []
        if not log:
            continue
        if len(names) == 2:  # the other one is the total
            names = ["total"]
        steps = np.array([line["step"] for line in log], float)
        lines = {name: np.array([line.get(name, np.nan) for line in log], float) for name in names}
        highest = max((float(np.nanmax(values)) for values in lines.values()), default=1.0) or 1.0
        ticks = np.asarray(MaxNLocator(4).tick_values(0, highest)).tolist()
        top, end = ticks[-1], float(steps[-1])
        charts.append(
            {
                "title": title,
                "lines": [
                    {
                        "name": _LOSSES.get(name, (name, ""))[0],
                        "colour": _LOSSES.get(name, ("", "#666666"))[1],
                        "points": _polyline(steps / end, values / top),
                        "last": float(values[-1]),
                    }
                    for name, values in lines.items()
                ],
                "y": [(f"{tick:g}", 100 * (1 - tick / top)) for tick in ticks if tick >= 0],
                "x": [
                    (f"{int(tick)}", 100 * tick / end)
                    for tick in MaxNLocator(4, integer=True).tick_values(0, end)
                    if 0 <= tick <= end
                ],
                "epochs": round(log[-1]["epoch"]),
                "lr": (log[0]["lr"], log[-1]["lr"]),
                "speed": float(np.median([line["images_per_second"] for line in log])),
            }
        )
    return charts


def _polyline(x: np.ndarray, y: np.ndarray, most: int = 300) -> str:
    """The points of an SVG polyline in a box of 1000 × 1000, averaged where there are more than `most`."""
    groups = np.array_split(np.arange(len(x)), min(len(x), most))
    points = [(x[group].mean(), y[group].mean()) for group in groups]
    if len(points) == 1:
        points = [(0.0, points[0][1]), *points]
    return " ".join(f"{1000 * px:.1f},{1000 * (1 - py):.1f}" for px, py in points if np.isfinite(py))


def _stages(context: Context) -> list[dict[str, Any]]:
    """How long each stage took."""
    config = context.config
    trained = dict(_trained(config))
    wanted = {
        "classify": ("classifier", "classify" in trained),
        "seed": ("seeds", config.train.labels == "seeds"),
        "baseline": ("training without affinity", config.compare),
        "train": ("training", True),
        "relabel": ("relabelling", config.retrain.enabled),
        "retrain": ("retraining", config.retrain.enabled),
        "predict": ("predictions", True),
        "compare": ("predictions to compare", config.compare or config.retrain.enabled),
        "export": ("model", True),
        "evaluate": ("scores", True),
    }
    records = context.run.records()
    rows: list[dict[str, Any]] = [
        {"name": title, "seconds": records[name].seconds}
        for name, (title, there) in wanted.items()
        if there and name in records
    ]
    return [row for row in rows if row["seconds"] >= 0.5] or rows


def _versions(context: Context) -> dict[str, str]:
    """As recorded at the start of the run."""
    if not context.run.config_file.exists():
        return {}
    tree = yaml.safe_load(context.run.config_file.read_text(encoding="utf-8"))
    return tree.get("versions", {}) if isinstance(tree, dict) else {}


def _machine(context: Context) -> str:
    device = context.accelerator.device
    processor = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        models = [
            line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        processor = next((model for model in models if model not in ("", "unknown")), processor)
    text = f"{processor}, {os.cpu_count()} cores, {platform.system()}"
    if device.type == "cuda":
        count = context.accelerator.num_processes
        text = f"{count} × {torch.cuda.get_device_name(device)}, {text}"
    return text


def _artefacts(context: Context) -> list[tuple[str, str]]:
    """(path relative to the run, what it is) of what is there."""
    known = {
        "model/": "the trained model, to ship",
        f"{predict.FOLDER}/": "final masks ID.png, indexed with the VOC palette",
        f"{relabel.FOLDER}/": "masks of the training images, made with their tags",
        f"{seed.FOLDER}/": "seed maps; 255 = left open",
        f"{predict.WITHOUT_CRF}/": "the masks before the CRF",
        "metrics.json": "all scores",
        "data.csv": "images, tags, splits",
        "config.yaml": "settings and versions: give it to --config to run the same again",
    }
    return [(path, text) for path, text in known.items() if (context.run.path / path).exists()]


# Pictures


class Pictures:
    """The pictures of the page, each stored once. `uris[i]` is the one of the CSS class `p{i}`."""

    def __init__(self) -> None:
        self.uris: list[str] = []
        self._known: dict[str, dict[str, Any]] = {}

    def add(self, image_id: str, image: np.ndarray) -> dict[str, Any]:
        """Its `id`, `index`, `width` and `height` on the page."""
        if image_id not in self._known:
            small = _shrunk(Image.fromarray(image), THUMB)
            self._known[image_id] = {
                "id": image_id,
                "index": len(self.uris),
                "width": small.width,
                "height": small.height,
            }
            self.uris.append(_data_uri(small, "JPEG", quality=85, optimize=True))
        return self._known[image_id]


def _galleries(context: Context, pictures: Pictures) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """Rows of pictures: of the predicted images and, if those are others, of the training images."""
    predicted = context.predict_table
    scored = predicted.with_masks()
    own_seeds = context.config.train.labels == "seeds" and context.config.seeds.folder is None
    classifier = load_classifier(context) if own_seeds else None
    galleries: list[dict[str, Any] | None] = []
    for table, number, most in (
        (scored if len(scored) else predicted, SHOWN, SHOWN_MOST),
        (context.train_table if TRAIN not in context.predict_splits else None, TRAINING_SHOWN, SHOWN),
    ):
        if table is None or not len(table):
            galleries.append(None)
            continue
        rows = [_row(context, table, row, classifier, pictures) for row in choose(context, table, number, most)]
        galleries.append({"rows": rows, "total": len(table)})
    for gallery in galleries:  # pictures of one size in both
        if gallery is not None:
            gallery["columns"] = max(len(row["tiles"]) for part in galleries if part for row in part["rows"])
    return galleries[0], galleries[1]


def choose(context: Context, table: Table, number: int, most: int) -> list[int]:
    """Rows that show every class, if `most` rows can: by what is in the images, not by how well it was found.

    In turn, the class that was shown least gets its next image; images are taken from all over the table.
    """
    spread = list(
        dict.fromkeys(np.linspace(0, len(table) - 1, min(len(table), CANDIDATES)).round().astype(int).tolist())
    )
    shows = {row: shown_classes(context, table, row) for row in spread}
    missing = {class_id for classes in shows.values() for class_id in classes}
    chosen: list[int] = []
    count: Counter[int] = Counter()
    while len(chosen) < min(len(spread), number if not missing else most):
        wanted = sorted(missing or {c for row in spread if row not in chosen for c in shows[row]})
        target = min(wanted, key=lambda class_id: count[class_id], default=None)
        open_rows = [row for row in spread if row not in chosen]
        row = next((row for row in open_rows if target in shows[row]), open_rows[0])
        chosen.append(row)
        count.update(shows[row])
        missing -= shows[row]
    return chosen


def shown_classes(context: Context, table: Table, row: int) -> set[int]:
    """The classes of an image: its tags or, where they are not known, those of its predicted mask."""
    if table.tagged[row]:
        return set(table.tags(row).tolist())
    mask = _read(context.run.mask(predict.FOLDER, table.ids[row]))
    return set() if mask is None else set(np.unique(mask).tolist()) - {0, IGNORE}


def _row(context: Context, table: Table, row: int, classifier: Any, pictures: Pictures) -> dict[str, Any]:
    """One image and what the stages made of it."""
    config, image_id = context.config, table.ids[row]
    image = read_image(table.images[row])
    picture = pictures.add(image_id, image)
    size = (picture["width"], picture["height"])
    truth_file = table.masks[row]
    truth = None if truth_file is None else read_mask(truth_file)
    tiles: list[dict[str, Any]] = [{"name": "picture", "layer": None, "iou": None, "about": "the picture"}]

    def add(name: str, about: str, layer: Layer | None, iou: float | None = None) -> None:
        if layer is not None:
            tiles.append({"name": name, "about": about, "layer": layer, "iou": iou})

    def add_mask(name: str, about: str, folder: str) -> None:
        mask = _read(context.run.mask(folder, image_id))
        if mask is not None:
            add(name, about, mask_layer(mask, size), None if truth is None else _iou(mask, truth, table.num_classes))

    if classifier is not None and len(table.tags(row)):
        maps = class_activation_maps(classifier, image, table.tags(row), config.seeds.scales, config.seeds.mirror)
        names = {"CAM": "class activation map of its tags", "spread CAM": "the map spread over what looks alike"}
        for (name, about), values in zip(names.items(), maps, strict=True):
            add(name, about, heat_layer(_resized(values.max(0), size, 4)))
    if config.train.labels == "seeds":
        seeds = _read(context.run.mask(seed.FOLDER, image_id))
        if seeds is not None:
            add("seeds", "seeds", mask_layer(seeds, size, seeds=True))
    if table.splits[row] == TRAIN and config.retrain.enabled:
        add_mask("relabelled", "relabelled mask", relabel.FOLDER)
    if table.splits[row] in context.predict_splits:
        if config.predict.crf.iterations:
            add_mask("without CRF", "predicted mask without CRF", predict.WITHOUT_CRF)
        add_mask("final", "final predicted mask", predict.FOLDER)
    if truth is not None:
        add("truth", "true mask", mask_layer(truth, size))
    classes = sorted(shown_classes(context, table, row))
    return {
        **picture,
        "tiles": tiles,
        "classes": [{"name": table.class_names[i], "colour": colour(i)} for i in classes],
        "tagged": bool(table.tagged[row]),
        "split": table.splits[row],
    }


def _read(file: Path) -> np.ndarray | None:
    return read_mask(file) if file.exists() else None


def _iou(mask: np.ndarray, truth: np.ndarray, num_classes: int) -> float | None:
    """mIoU of one image."""
    if mask.shape != truth.shape:  # the truth may be larger
        mask = np.asarray(Image.fromarray(mask).resize(truth.shape[::-1], Image.Resampling.NEAREST))
    confusion = Confusion(num_classes)
    confusion.add(mask, truth)
    return confusion.scores().as_dict(tuple(map(str, range(num_classes))))["miou"]


# Affinity


def _affinity(context: Context, pictures: Pictures) -> dict[str, Any] | None:
    """Where cells of an image look in itself and in two others that share a class."""
    table = context.predict_table
    spread = np.linspace(0, len(table) - 1, min(len(table), CANDIDATES // 2)).round().astype(int).tolist()
    holders: dict[int, list[int]] = {}
    for row in dict.fromkeys(spread):
        for class_id in shown_classes(context, table, row):
            holders.setdefault(class_id, []).append(row)
    shared = [class_id for class_id in sorted(holders) if len(holders[class_id]) > 1]
    if not shared:
        return None
    network = load_network(context, context.final_network)
    picked = [shared[i] for i in np.linspace(0, len(shared) - 1, min(len(shared), LOOKS)).round().astype(int)]
    used: set[int] = set()
    examples = []
    for class_id in dict.fromkeys(picked):
        query, references = _group(context, table, class_id, holders[class_id], used)
        used.add(query)
        examples.append(_look(context, network, table, class_id, query, references, pictures))
    looks = [look for example in examples for look in example["looks"]]
    across = [
        share for example in examples for look in example["looks"][1:] if (share := look["of_object"]) is not None
    ]
    return {
        "examples": examples,
        "on": float(np.mean([on for on, _ in across])) if across else None,
        "area": float(np.mean([area for _, area in across])) if across else None,
        "truth": any(mask is not None for mask in table.masks),
        "spread": float(np.mean([look["spread"] for look in looks])),
        "cells": round(np.mean([look["cells"][0] * look["cells"][1] for look in looks])),
    }


def _object(context: Context, table: Table, row: int, class_id: int) -> np.ndarray | None:
    """(H, W) bool: where an image shows a class, as predicted, else in truth."""
    files = [context.run.mask(predict.FOLDER, table.ids[row]), table.masks[row]]
    for mask in (_read(file) for file in files if file is not None):
        if mask is not None and (mask == class_id).any():
            return mask == class_id
    return None


def _group(context: Context, table: Table, class_id: int, rows: Sequence[int], used: set[int]) -> tuple[int, list[int]]:
    """A query image and up to two references: the first that show a fair share of the class and were not shown yet."""

    def fit(row: int) -> tuple[bool, bool]:
        shown = _object(context, table, row, class_id)
        share = 0.0 if shown is None else float(shown.mean())
        return row in used, not 0.04 <= share <= 0.6

    first, *others = sorted(rows[:40], key=fit)  # a stable sort: otherwise in the order of the table
    return first, others[:2]


def _look(
    context: Context,
    network: CIAN,
    table: Table,
    class_id: int,
    query: int,
    references: list[int],
    pictures: Pictures,
) -> dict[str, Any]:
    """One example: the affinity of a grid of query cells, in the image itself and in the references."""
    assert network.affinity is not None
    backbone = network.backbone
    rows = [query, *references]
    images = [read_image(table.images[row]) for row in rows]
    with torch.no_grad():
        inputs = [_look_input(image, backbone, context.accelerator.device) for image in images]
        features = [backbone(x) for x in inputs]  # (1, C, h, w) each
        height, width = features[0].shape[2:]
        keys = max(int(np.prod(_key_grid(network, x.shape[2:]))) for x in features)
        step = max(1, int(np.ceil(np.sqrt(height * width * keys / LOOK_BYTES))))
        some = features[0][:, :, ::step, ::step]
        maps = [network.affinity.look(some, x)[0].float().cpu().numpy() for x in features]  # (qh, qw, kh, kw) each
    y, x = _query_cell(context, table, class_id, query, (height, width), step)
    start = 0.5 if backbone.grid == "corner" else backbone.stride / 2  # centre of the first cell, in pixels
    cell = backbone.stride * _pool_stride(network)  # of the keys, in pixels
    size = inputs[0].shape[2:]
    first = (100 * start / size[1], 100 * start / size[0])  # x and y in per cent of the picture, as all places below
    gap = (100 * step * backbone.stride / size[1], 100 * step * backbone.stride / size[0])
    columns, lines = (first[i] + gap[i] * np.arange(maps[0].shape[1 - i]) for i in (0, 1))
    own = _mask_of(context, table, query)
    on = np.zeros(maps[0].shape[:2], bool) if own is None else _sample(own, lines, columns) == class_id  # (qh, qw)
    looks = []
    for row, image, batch, affinity in zip(rows, images, inputs, maps, strict=True):
        key_height, key_width = affinity.shape[2:]
        box = {
            "left": 100 * (start - cell / 2) / batch.shape[3],
            "top": 100 * (start - cell / 2) / batch.shape[2],
            "width": 100 * cell * key_width / batch.shape[3],
            "height": 100 * cell * key_height / batch.shape[2],
        }
        shares = _shares(_mask_of(context, table, row), class_id, affinity, box)
        entropy = -(affinity * np.log(np.maximum(affinity, 1e-12))).sum((2, 3))  # (qh, qw)
        levels = _levels(affinity)  # (qh, qw, kh, kw) uint8
        looks.append(
            {
                "picture": pictures.add(table.ids[row], image),
                "heat": heat_layer(levels[y, x]),
                "atlas": _paletted(levels.transpose(0, 2, 1, 3).reshape(-1, levels.shape[1] * key_width)),
                "cells": (key_width, key_height),
                "box": box,
                "share": None if shares is None else {"on": float(shares[0][y, x]), "area": shares[1]},
                "shares": None if shares is None else _base64(shares[0].round().astype(np.uint8).tobytes()),
                "of_object": (float(shares[0][on].mean()), shares[1]) if shares is not None and on.any() else None,
                "spread": float(np.exp(entropy).mean()),
            }
        )
    return {
        "name": table.class_names[class_id],
        "colour": colour(class_id),
        "picture": looks[0]["picture"],
        "looks": looks,
        "queries": (len(columns), len(lines)),
        "at": (x, y),
        "first": first,
        "step": gap,
    }


def _look_input(image: np.ndarray, backbone: Backbone, device: torch.device) -> torch.Tensor:
    return scaled(as_input(image, backbone, device), min(1.0, LOOK_SIDE / max(image.shape[:2])), backbone)


def _pool_stride(network: CIAN) -> int:
    assert network.affinity is not None
    return 2 if isinstance(network.affinity.pool, torch.nn.MaxPool2d) else 1


def _key_grid(network: CIAN, size: Sequence[int]) -> tuple[int, int]:
    """Cells of the keys for (h, w) cells of the features."""
    stride = _pool_stride(network)
    return -(-size[0] // stride), -(-size[1] // stride)


def _query_cell(
    context: Context, table: Table, class_id: int, row: int, grid: tuple[int, int], step: int
) -> tuple[int, int]:
    """The innermost cell of the object, away from its seeds if it is larger than they are; else the middle."""
    shown = _object(context, table, row, class_id)
    if shown is None:
        return (grid[0] // 2) // step, (grid[1] // 2) // step
    depth = _depth(shown)
    seeds = _read(context.run.mask(seed.FOLDER, table.ids[row])) if context.config.train.labels == "seeds" else None
    if seeds is not None and seeds.shape == shown.shape:
        beside = _depth(shown & (seeds != class_id))
        if beside.max() > 0.35 * depth.max():
            depth = beside
    y, x = np.unravel_index(depth.argmax(), depth.shape)

    def snapped(pixel: int, pixels: int, cells: int) -> int:
        cell = pixel / max(pixels - 1, 1) * (cells - 1)
        return min(round(cell / step), (cells - 1) // step)

    return snapped(int(y), shown.shape[0], grid[0]), snapped(int(x), shown.shape[1], grid[1])


def _depth(region: np.ndarray) -> np.ndarray:
    """Distance to the outside of a region; the picture's edge is outside."""
    return distance_transform_edt(np.pad(region, 1))[1:-1, 1:-1]


def _mask_of(context: Context, table: Table, row: int) -> np.ndarray | None:
    """True mask of an image, else the predicted one."""
    truth = table.masks[row]
    return read_mask(truth) if truth is not None else _read(context.run.mask(predict.FOLDER, table.ids[row]))


def _shares(
    mask: np.ndarray | None, class_id: int, affinity: np.ndarray, box: dict[str, float]
) -> tuple[np.ndarray, float] | None:
    """Per cent of each query's affinity that falls on a class, (qh, qw), and per cent of the key cells that show it."""
    if mask is None:
        return None
    kh, kw = affinity.shape[2:]
    y = box["top"] + box["height"] * (np.arange(kh) + 0.5) / kh
    x = box["left"] + box["width"] * (np.arange(kw) + 0.5) / kw
    cells = _sample(mask, y, x) == class_id
    return 100 * (affinity * cells).sum((2, 3)), float(100 * cells.mean())


def _sample(mask: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The mask at a grid of places, y and x in per cent of its height and width; (len(y), len(x))."""
    rows, columns = (
        (places / 100 * side).astype(int).clip(0, side - 1) for places, side in zip((y, x), mask.shape, strict=True)
    )
    return mask[rows][:, columns]


def _levels(affinity: np.ndarray) -> np.ndarray:
    """Each query's affinity between its least and its greatest, 0 … 255."""
    low, high = affinity.min((2, 3), keepdims=True), affinity.max((2, 3), keepdims=True)
    return ((affinity - low) / np.maximum(high - low, 1e-12) * 255).round().astype(np.uint8)


# Layers


def mask_layer(mask: np.ndarray, size: tuple[int, int], *, seeds: bool = False) -> Layer:
    """A mask in the colours of its classes, with firm contours, transparent where there is no class.

    Args:
        mask: (H, W) uint8.
        size: (width, height) of the layer.
        seeds: background is darkened, and what is left open (255) stays clear; otherwise background stays clear, and
            what is ignored (255) is pale.
    """
    small = np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST))
    classes = [int(i) for i in np.unique(small) if i not in (0, IGNORE)]
    if not classes and not (small == (0 if seeds else IGNORE)).any():
        return _paletted(np.zeros((1, 1), np.uint8), [(0, 0, 0, 0)])
    edge = maximum_filter(small, 3) != minimum_filter(small, 3)
    plain = (14, 17, 24, 170) if seeds else (255, 255, 255, 150)
    colours = [(0, 0, 0, 0), plain]
    layer = (small == (0 if seeds else IGNORE)).astype(np.uint8)
    for class_id in classes[:126]:
        layer[small == class_id] = len(colours)
        layer[(small == class_id) & edge] = len(colours) + 1
        red, green, blue = (int(value) for value in palette()[class_id])
        colours += [(red, green, blue, 150), (red, green, blue, 255)]
    return _paletted(layer, colours)


def heat_layer(values: np.ndarray) -> Layer:
    """A heat map, (h, w): float in [0, 1] or uint8 levels."""
    if values.dtype != np.uint8:
        values = (values.clip(0, 1) * 255).round().astype(np.uint8)
    return _paletted(values)


def _paletted(indices: np.ndarray, colours: Sequence[tuple[int, ...]] | None = None) -> Layer:
    """An indexed PNG; without colours, of heat: dark and half clear where it is cold, bright where it is hot."""
    if colours is None:
        ramp = matplotlib.colormaps["inferno"](np.linspace(0, 1, 256))
        ramp[:, 3] = np.linspace(0.5, 0.82, 256)
        colours = [tuple(int(v) for v in entry) for entry in (ramp * 255).round()]
    image = Image.fromarray(np.ascontiguousarray(indices)).convert("L")
    image.putpalette([value for entry in colours for value in entry[:3]])
    return _data_uri(image, "PNG", optimize=True, transparency=bytes(entry[3] for entry in colours))


def _resized(values: np.ndarray, size: tuple[int, int], factor: int) -> np.ndarray:
    """A smooth (H, W) float map at 1 / factor of a (width, height)."""
    target = (max(1, size[0] // factor), max(1, size[1] // factor))
    return np.asarray(Image.fromarray(values.astype(np.float32)).resize(target, Image.Resampling.BILINEAR))


def _shrunk(image: Image.Image, side: int) -> Image.Image:
    scale = min(1.0, side / max(image.size))
    return image.resize(
        (max(1, round(image.width * scale)), max(1, round(image.height * scale))), Image.Resampling.LANCZOS
    )


def _data_uri(image: Image.Image, kind: str, **options: Any) -> str:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return f"data:image/{kind.lower()};base64,{_base64(buffer.getvalue())}"


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
