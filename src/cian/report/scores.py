"""The tables and charts of scores."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import cycle
from typing import Any

import numpy as np

from cian.data.table import TRAIN
from cian.pipeline.context import Context
from cian.pipeline.stage import MaskFolder
from cian.report.pictures import colour

MATRIX_CLASSES = 24  # a larger matrix becomes a list of its largest entries
PAIRS = 15

# Marks in the chart of classes: labels, then pairs of a network's masks without and with CRF.
_LABEL_COLOURS = ("#a9a9a0", "#8d6cab")
_NETWORK_COLOURS = ("#f2cc8f", "#e09f3e", "#9ccbe8", "#5fa8d3", "#1b4965")


def score_rows(context: Context, scores: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of the table of scores: labels for the training first, then predictions, the final ones last."""
    final = final_title(context, scores, scores["split"])
    folders, rows = _scored(context, scores), []
    places = {folder.title: place for place, folder in enumerate(folders)}
    for folder in folders:
        for split in folder.table.split_names:
            values = scores["stages"][folder.title].get(split)
            if values is None:
                continue
            rows.append(
                {
                    "place": places[folder.title],
                    "name": folder.title,
                    "about": folder.about,
                    "split": split,
                    "tags": folder.tags or ("yes" if split == TRAIN else "no"),
                    "images": len(folder.table.split(split).with_masks()),
                    "miou": values["miou"],
                    "labelled": values["miou_labelled"] if folder.role == "seeds" else None,
                    "accuracy": values["accuracy"],
                    "coverage": values["coverage"],
                    "precision": _mean(values["precision"].values()),
                    "recall": _mean(values["recall"].values()),
                    "headline": split == scores["split"] and folder.title == final,
                }
            )
    return rows


def number_scored(context: Context, scores: dict[str, Any]) -> int:
    """The number of images that the headline is about."""
    return sum(row["images"] for row in score_rows(context, scores) if row["headline"])


def final_title(context: Context, scores: dict[str, Any], split: str | None) -> str | None:
    """The title of the last predictions that were scored on a split. None if there are none."""
    titles = [
        folder.title
        for folder in _scored(context, scores)
        if folder.role in ("without CRF", "final") and split in scores["stages"][folder.title]
    ]
    return titles[-1] if titles else None


def _scored(context: Context, scores: dict[str, Any]) -> list[MaskFolder]:
    """The folders of masks that have scores, labels first, the final masks last."""
    return [folder for folder in context.mask_folders if folder.title in scores["stages"]]


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def seed_tables(context: Context, scores: dict[str, Any]) -> list[dict[str, Any]]:
    """For each split and class: precision, recall and coverage of the seeds."""
    tables = []
    titles = dict.fromkeys(folder.title for folder in _scored(context, scores) if folder.role == "seeds")
    for split, values in ((split, values) for title in titles for split, values in scores["stages"][title].items()):
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


def per_class(context: Context, scores: dict[str, Any]) -> dict[str, Any] | None:
    """IoU of each class on the split of the headline: the final masks as bars, other masks as marks."""
    split = scores["split"]
    final = final_title(context, scores, split)
    if final is None:
        return None
    values = {name: by_split[split]["iou"] for name, by_split in scores["stages"].items() if split in by_split}
    colours = _mark_colours(context, scores)
    others = [name for name in colours if name in values and name != final]
    rows = [
        {
            "name": name,
            "colour": colour(i),
            "final": values[final][name],
            "marks": [
                {"stage": other, "value": values[other][name], "colour": colours[other]}
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
        "legend": [(name, colours[name]) for name in others],
    }


def _mark_colours(context: Context, scores: dict[str, Any]) -> dict[str, str]:
    """The colours of the marks, by title."""
    folders = _scored(context, scores)
    labels = dict.fromkeys(str(folder.title) for folder in folders if folder.role in ("seeds", "labels"))
    networks = [str(folder.title) for folder in folders if folder.role not in ("seeds", "labels")]
    return {**dict(zip(labels, cycle(_LABEL_COLOURS))), **dict(zip(networks, cycle(_NETWORK_COLOURS)))}


def confusion(context: Context, scores: dict[str, Any]) -> dict[str, Any] | None:
    """Which classes the final masks give to the pixels of each class, in percent of its pixels."""
    split = scores["split"]
    final = final_title(context, scores, split)
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
    columns = [*names, "unlabelled"] if counts[:, -1].any() else list(names)
    matrix = None
    if len(names) <= MATRIX_CLASSES:
        matrix = [
            {"name": name, "colour": colour(i), "cells": shares[i, : len(columns)].tolist(), "any": bool(pixels[i, 0])}
            for i, name in enumerate(names)
        ]
    return {"split": split, "final": final, "columns": columns, "matrix": matrix, "pairs": wrong[:PAIRS]}
