"""The tables and charts of scores."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from cian.config import Config
from cian.data.table import TRAIN
from cian.pipeline.context import Context
from cian.pipeline.stages import evaluate
from cian.report.pictures import colour

MATRIX_CLASSES = 24  # a larger matrix becomes a list of its largest entries
PAIRS = 15

_STAGE_COLOURS = {
    evaluate.SEEDS: "#a9a9a0",
    evaluate.WITHOUT_AFFINITY: "#f2cc8f",
    evaluate.WITHOUT_AFFINITY_CRF: "#e09f3e",
    evaluate.AFFINITY: "#9ccbe8",
    evaluate.AFFINITY_CRF: "#5fa8d3",
    evaluate.RELABEL: "#8d6cab",
    evaluate.RETRAINED: "#1b4965",
}


def score_rows(context: Context, scores: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of the table of scores: labels for the training first, then predictions in the order of the pipeline."""
    order = (
        evaluate.SEEDS,
        evaluate.RELABEL,
        evaluate.WITHOUT_AFFINITY,
        evaluate.WITHOUT_AFFINITY_CRF,
        evaluate.AFFINITY,
        evaluate.AFFINITY_CRF,
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
                    "images": number_scored(context, name, split),
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
        evaluate.WITHOUT_AFFINITY_CRF: "Its masks, refined by the CRF.",
        evaluate.AFFINITY: f"The network ({module}), trained on {labels}. No CRF.",
        evaluate.AFFINITY_CRF: "Its masks, refined by the CRF.",
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


def number_scored(context: Context, name: str, split: str | None) -> int:
    """Images of a split that a row of the table of scores is about; of no split 0."""
    if name in (evaluate.SEEDS, evaluate.RELABEL):
        table = context.train_table if split == TRAIN else context.held_out_seed_table
    else:
        table = context.predict_table
    return sum(s == split and mask is not None for s, mask in zip(table.splits, table.masks, strict=True))


def _final(scores: dict[str, Any], split: str | None) -> str | None:
    """The last predictions that were scored on a split; None if there are none."""
    names = (evaluate.FINAL, evaluate.RETRAINED, evaluate.AFFINITY)
    return next((name for name in names if split in scores["stages"].get(name, {})), None)


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def seed_tables(context: Context, scores: dict[str, Any]) -> list[dict[str, Any]]:
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


def per_class(context: Context, scores: dict[str, Any]) -> dict[str, Any] | None:
    """IoU of each class on the split of the headline: the final masks as bars, other stages as marks."""
    split = scores["split"]
    final = _final(scores, split)
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


def confusion(context: Context, scores: dict[str, Any]) -> dict[str, Any] | None:
    """Where the pixels of each class went in the final masks, in per cent of its pixels."""
    split = scores["split"]
    final = _final(scores, split)
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
