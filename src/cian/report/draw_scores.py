"""Draws scores for the page: bars and marks of the classes, and the matrix of confusions."""

from __future__ import annotations

from itertools import cycle
from typing import Any

import numpy as np

from cian.report.scores import ClassScores, Confusions

MATRIX_CLASSES = 24  # a larger matrix becomes a list of its largest entries
PAIRS = 15

# Marks in the chart of classes: labels, then pairs of a network's masks without and with CRF.
_LABEL_COLOURS = ("#a9a9a0", "#8d6cab")
_NETWORK_COLOURS = ("#f2cc8f", "#e09f3e", "#9ccbe8", "#5fa8d3", "#1b4965")


def draw_class_scores(scores: ClassScores | None) -> dict[str, Any] | None:
    """The final masks as bars, other masks as marks on them."""
    if scores is None:
        return None
    colours = {**dict(zip(scores.labels, cycle(_LABEL_COLOURS))), **dict(zip(scores.networks, cycle(_NETWORK_COLOURS)))}
    rows = [
        {
            "class_id": row.class_id,
            "name": row.name,
            "final": row.final if row.pixels else None,
            "marks": [
                {"stage": title, "value": value, "colour": colours[title]}
                for title, value in row.others.items()
                if value is not None and row.pixels
            ],
            "all": [value if row.pixels else None for value in (*row.others.values(), row.final)],
        }
        for row in scores.rows
    ]
    return {
        "split": scores.split,
        "final": scores.final,
        "rows": rows,
        "absent": [row.name for row in scores.rows if not row.pixels],
        "stages": [*colours, scores.final],
        "legend": list(colours.items()),
    }


def draw_confusions(confusions: Confusions | None) -> dict[str, Any] | None:
    """A matrix, if it is not too large, and the most frequent confusions."""
    if confusions is None:
        return None
    names, shares = confusions.names, confusions.shares
    wrong = shares[:, : len(names)].copy()
    np.fill_diagonal(wrong, 0)
    places = np.argsort(-wrong, axis=None, kind="stable")[:PAIRS]
    pairs = [(wrong.flat[place], names[place // len(names)], names[place % len(names)]) for place in places.tolist()]
    matrix = [
        {"class_id": class_id, "name": name, "cells": cells, "any": known}
        for class_id, (name, cells, known) in enumerate(
            zip(names, shares.tolist(), confusions.known.tolist(), strict=True)
        )
    ]
    return {
        "split": confusions.split,
        "final": confusions.final,
        "columns": confusions.columns,
        "matrix": matrix if len(names) <= MATRIX_CLASSES else None,
        "pairs": [pair for pair in pairs if pair[0]],
    }
