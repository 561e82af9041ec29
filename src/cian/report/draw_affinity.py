"""Draws examples of affinity for the page: heat maps, and where they lie, in percent of the image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cian.data.table import Table
from cian.report.affinity_view import Example
from cian.report.page_images import PageImages, base64_text, draw_heat


def draw_affinity(examples: Sequence[Example], table: Table, images: PageImages) -> dict[str, Any] | None:
    """What the section on affinity shows. None if there are no examples."""
    if not examples:
        return None
    known = [table.masks[row] is not None for row in dict.fromkeys(row for each in examples for row in each.rows)]
    maps = [each for example in examples for each in example.maps]
    across = [
        (float(share[0][example.on].mean()), share[1])
        for example in examples
        for share in example.shares[1:]
        if share is not None and example.on.any()
    ]
    return {
        "examples": [_draw(example, table, images) for example in examples],
        "on": 100 * float(np.mean([on for on, _ in across])) if across else None,
        "area": 100 * float(np.mean([area for _, area in across])) if across else None,
        "masks": "true" if all(known) else "true or predicted" if any(known) else "predicted",
        "spread": float(np.mean([each.spread.mean() for each in maps])),
        "cells": round(np.mean([each.affinity.shape[2] * each.affinity.shape[3] for each in maps])),
    }


def _draw(example: Example, table: Table, images: PageImages) -> dict[str, Any]:
    x, y = example.marked
    looks = []
    for row, image, each, share in zip(example.rows, example.images, example.maps, example.shares, strict=True):
        levels = _levels(each.affinity)  # (qh, qw, kh, kw) uint8
        key_height, key_width = levels.shape[2:]
        looks.append(
            {
                "image": images.add(table.ids[row], image),
                "heat": draw_heat(levels[y, x]),
                "atlas": draw_heat(levels.transpose(0, 2, 1, 3).reshape(-1, levels.shape[1] * key_width)),
                "cells": (key_width, key_height),
                "box": {
                    "left": 100 * each.origin[0],
                    "top": 100 * each.origin[1],
                    "width": 100 * each.size[0],
                    "height": 100 * each.size[1],
                },
                "share": None if share is None else {"on": 100 * float(share[0][y, x]), "area": 100 * share[1]},
                "shares": None if share is None else base64_text((100 * share[0]).round().astype(np.uint8).tobytes()),
            }
        )
    rows, columns = example.maps[0].affinity.shape[:2]
    return {
        "name": table.class_names[example.class_id],
        "class_id": example.class_id,
        "image": looks[0]["image"],
        "looks": looks,
        "queries": (columns, rows),
        "at": example.marked,
        "first": tuple(100 * place for place in example.queries.first),
        "step": tuple(100 * place for place in example.queries.step),
    }


def _levels(affinity: np.ndarray) -> np.ndarray:
    """The affinity of each query cell, scaled from its least to its greatest value to 0 … 255."""
    low, high = affinity.min((2, 3), keepdims=True), affinity.max((2, 3), keepdims=True)
    return ((affinity - low) / np.maximum(high - low, 1e-12) * 255).round().astype(np.uint8)
