"""The card of a model, README.md beside it, made from the runs that it comes from."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path
from typing import Any

import numpy as np
import timm
import yaml
from PIL import Image

from cian._version import __version__
from cian.backbone.pretrained import PACKAGED
from cian.config import Config, load_run_config
from cian.data.images import read_image
from cian.data.masks import read_mask, resize_mask
from cian.data.overlay import overlay
from cian.data.table import TRAIN, Table
from cian.errors import CianError
from cian.evaluation.folders import object_iou
from cian.files import atomic, read_csv, read_json, remove, write_text
from cian.inference.segmenter import Segmenter
from cian.reading.read import read_dataset
from cian.report.samples import evenly_spread
from cian.runs.directory import Run

CARD, FAILURES = "README.md", "failures"
_CANDIDATES, _SIDE = 400, 320  # images to choose failures from; pixels of each view
_WEAK = 25  # percent; an IoU below it is named among the limits


def write_card(segmenter: Segmenter, folder: Path, runs: Sequence[Path] = (), failures: int = 0) -> None:
    """Writes FOLDER/README.md, and the images that it shows, FOLDER/failures/. An earlier card is replaced.

    Args:
        runs: the run that the model comes from, and others that differ from it by their random seed alone.
        failures: how many images of the first run to show, those with the worst masks.

    Raises:
        CianError: a run is not finished, or has other classes.
    """
    opened = [Run(run) for run in runs]
    for run in opened:
        if not run.metrics_file.is_file():
            raise CianError(f"{run.path}: is no finished run. Let it finish: cian run --out {run.path}")
        if [row["class"] for row in read_csv(run.statistics_file)] != list(segmenter.class_names):
            raise CianError(f"{run.path}: has other classes than the model. Give runs that differ by their seed alone.")
    remove(folder / FAILURES)
    parts = [_head(segmenter), _use(segmenter)]
    if opened:
        config = load_run_config(None, {}, opened[0].config_file)
        metrics = [read_json(run.metrics_file) for run in opened]
        rows = read_csv(opened[0].statistics_file)
        table, _ = read_dataset(config.data, config.seed)
        parts += [_data(config, rows, metrics[0], table), _scores(metrics, table)]
        if failures and table is not None:
            parts.append(_failures(opened[0], table, folder, failures))
    else:
        config, metrics = segmenter.config, []
    parts += [_limits(segmenter, metrics), _licences(config, known=bool(opened))]
    write_text(folder / CARD, "\n\n".join(part for part in parts if part) + "\n")


def _head(segmenter: Segmenter) -> str:
    front = {
        "library_name": "cian",
        "pipeline_tag": "image-segmentation",
        "tags": ["semantic-segmentation", "weakly-supervised"],
    }
    names = ", ".join(segmenter.class_names[1:])
    return (
        f"---\n{yaml.safe_dump(front, sort_keys=False)}---\n\n# Semantic segmentation: {_short(names)}\n\n"
        f"A model made with cian {__version__}. It gives each pixel of an image one of {len(segmenter.class_names)} "
        f"classes: background, {names}."
    )


def _short(names: str, most: int = 60) -> str:
    return names if len(names) <= most else names[:most].rpartition(",")[0] + ", …"


def _use(segmenter: Segmenter) -> str:
    return (
        "## Use\n\n```python\nimport cian\n\n"
        'segmenter = cian.load("OWNER/NAME")  # this repository, or a folder with its files\n'
        'result = segmenter.predict("photo.jpg")\nresult.save("photo-mask.png")\n```\n\n'
        f"Images are reduced to {segmenter.config.max_side} px a side while they are worked on. Masks have the "
        "full size."
    )


def _data(config: Config, rows: Sequence[dict[str, str]], metrics: dict[str, Any], table: Table | None) -> str:
    counts = ""
    if table is not None:
        train = table.split(TRAIN)
        labelled = sum(label is not None for label in train.labels)
        held_out = len(table) - len(train)
        counts = f"{len(train)} training images, {labelled} of them with label maps; {held_out} held-out images. "
    learned = "The network learned from tags, which say what an image shows but not where"
    learned += "." if config.data.labels is None else ", and from the label maps."
    lines = ["| class | training images | images labelled with it | IoU % |", "|---|---|---|---|"]
    for row in rows:
        iou = metrics["iou"].get(row["class"])
        name = row["class"].replace("|", "\\|")
        lines.append(
            f"| {name} | {row['images']} | {row['labelled_images']} | {'–' if iou is None else f'{iou:.1f}'} |"
        )
    return f"## Data\n\n{counts}{learned}\n\n" + "\n".join(lines)


def _scores(metrics: Sequence[dict[str, Any]], table: Table | None) -> str:
    split = metrics[0]["split"]
    found = [each["miou"] for each in metrics if each["miou"] is not None and each["split"] == split]
    if metrics[0]["miou"] is None:
        return "## Scores\n\nNo image has a true mask, so nothing is scored."
    images = "" if table is None else f"the {len(table.split(split).with_masks())} images with masks of "
    text = f"{found[0]:.1f} %"
    if len(found) > 1:
        text = (
            f"{statistics.mean(found):.1f} ± {statistics.stdev(found):.1f} % over {len(found)} runs with other random "
        )
        text += f"seeds; this model: {found[0]:.1f} %"
    return (
        f"## Scores\n\nmIoU on {images}`{split}`: {text}. mIoU is the mean overlap with the true masks, over classes."
    )


def _failures(run: Run, table: Table, folder: Path, number: int) -> str:
    """The images whose objects have the lowest IoU: image, true mask and predicted mask side by side."""
    scored = table.with_masks()
    rows = [row for row in range(len(scored)) if run.mask("predictions", scored.ids[row]).is_file()]
    scores: dict[int, float] = {}
    for place in evenly_spread(len(rows), _CANDIDATES) if rows else []:
        row = rows[place]
        truth, mask = _masks(run, scored, row)
        score = object_iou(mask, truth)
        if score is not None:
            scores[row] = score
    lines = []
    for place, row in enumerate(sorted(scores, key=lambda row: scores[row])[:number], start=1):
        image = Image.fromarray(read_image(scored.images[row], _SIDE))
        pixels = np.asarray(image)
        views = [pixels] + [overlay(pixels, resize_mask(mask, pixels.shape[:2])) for mask in _masks(run, scored, row)]
        file = folder / FAILURES / f"{place}.jpg"
        with atomic(file) as temporary:
            Image.fromarray(np.concatenate(views, axis=1)).save(temporary, quality=90)
        lines.append(f"![IoU of the objects {scores[row]:.0f} %]({FAILURES}/{file.name})")
    if not lines:
        return ""
    return "## Typical failures\n\nThe image, its true mask, and the predicted mask:\n\n" + "\n\n".join(lines)


def _masks(run: Run, table: Table, row: int) -> tuple[np.ndarray, np.ndarray]:
    """The true and the predicted mask of an image, of one size."""
    file = table.masks[row]
    assert file is not None
    truth = read_mask(file, table.mask_ids)
    return truth, resize_mask(read_mask(run.mask("predictions", table.ids[row])), truth.shape)


def _limits(segmenter: Segmenter, metrics: Sequence[dict[str, Any]]) -> str:
    lines = [
        "Things that always occur together in the training images are hard to tell apart.",
        f"Cells of the network are {segmenter.network.backbone.grid.stride} px wide: thin parts are lost.",
        "Images of other kinds than the training images were not tried.",
    ]
    if metrics:
        weak = [f"{name} ({iou:.0f} %)" for name, iou in metrics[0]["iou"].items() if iou is not None and iou < _WEAK]
        if weak:
            lines.insert(0, f"Poor classes, with an IoU below {_WEAK} %: {', '.join(weak)}.")
    return "## Limits\n\n" + "\n".join(f"* {line}" for line in lines)


def _licences(config: Config, known: bool) -> str:
    name, weights = config.backbone.name, config.backbone.weights
    if not known:
        text = f"The backbone is timm's `{name}`. The weights that it started from are not known here."
    elif weights == "random":
        text = f"The backbone, timm's `{name}`, started from random weights."
    elif weights != "imagenet":
        text = (
            f"The backbone, timm's `{name}`, started from the file `{Path(weights).name}`. Its licence is that file's."
        )
    else:
        text = f"The backbone, timm's `{name}`, started from weights trained on ImageNet: {_source(name)}"
    return f"## Weights and licences\n\n{text} The licence of the training images is not known here."


def _source(backbone: str) -> str:
    """Where the ImageNet weights come from, and their licence."""
    package = PACKAGED.get(backbone)
    if package is not None:
        try:
            about = metadata(package).json
            licence = about.get("license_expression") or about.get("license") or ""
            stated = "not stated there" if str(licence).upper() in ("", "UNKNOWN") else licence
            return f"those of the package `{about['name']}` {about['version']}, licence {stated}."
        except PackageNotFoundError:
            pass
    cfg = timm.get_pretrained_cfg(backbone)
    licence = getattr(cfg, "license", None) or "not stated by timm"
    place = getattr(cfg, "hf_hub_id", None) or getattr(cfg, "url", None) or "timm"
    return f"those of {place}, licence {licence}."
