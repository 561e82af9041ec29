"""Where cells of an image look, in itself and in other images: the affinity, drawn over pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt

from cian.backbone.grid import Grid
from cian.data.images import read_image
from cian.data.masks import read_mask, resize_mask
from cian.data.table import Table
from cian.network import CIAN
from cian.pipeline.context import Context
from cian.report.gallery import CANDIDATES, mask_if_there, shown_classes, spread
from cian.report.pictures import Pictures, base64_text, colour, heat_layer

LOOKS = 5  # examples of affinity
LOOK_SIDE = 352  # longest side of the images that affinity is shown on
LOOK_BYTES = 160_000  # of one affinity atlas


def affinity_looks(context: Context, pictures: Pictures) -> dict[str, Any] | None:
    """Where cells of an image look in itself and in two others that share a class."""
    table = context.predict_table
    holders: dict[int, list[int]] = {}
    for row in spread(len(table), CANDIDATES // 2):
        for class_id in shown_classes(context, table, row):
            holders.setdefault(class_id, []).append(row)
    shared = [class_id for class_id in sorted(holders) if len(holders[class_id]) > 1]
    if not shared:
        return None
    network = context.load_network(context.final_network)
    used: set[int] = set()
    shown: set[int] = set()
    examples = []
    for class_id in (shared[i] for i in spread(len(shared), LOOKS)):
        query, references = _group(context, table, class_id, holders[class_id], used)
        used.add(query)
        shown.update((query, *references))
        examples.append(_look(context, network, table, class_id, query, references, pictures))
    known = [table.masks[row] is not None for row in shown]
    looks = [look for example in examples for look in example["looks"]]
    across = [
        share for example in examples for look in example["looks"][1:] if (share := look["of_object"]) is not None
    ]
    return {
        "examples": examples,
        "on": float(np.mean([on for on, _ in across])) if across else None,
        "area": float(np.mean([area for _, area in across])) if across else None,
        "masks": "true" if all(known) else "true or predicted" if any(known) else "predicted",
        "spread": float(np.mean([look["spread"] for look in looks])),
        "cells": round(np.mean([look["cells"][0] * look["cells"][1] for look in looks])),
    }


def _object(context: Context, table: Table, row: int, class_id: int) -> np.ndarray | None:
    """(H, W) bool: where an image shows a class, as predicted, else in truth."""
    truth = table.masks[row]
    predicted = mask_if_there(context.find_mask("final", table.ids[row]))
    for mask in (predicted, None if truth is None else read_mask(truth, table.mask_ids)):
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
    grid = network.backbone.grid
    rows = [query, *references]
    images = [read_image(table.images[row]) for row in rows]
    with torch.no_grad():
        inputs = [_look_input(image, grid, context.accelerator.device) for image in images]
        features = [network.backbone(x) for x in inputs]  # (1, C, h, w) each
        height, width = features[0].shape[2:]
        keys = max(int(np.prod(_key_grid(network, x.shape[2:]))) for x in features)
        step = max(1, int(np.ceil(np.sqrt(height * width * keys / LOOK_BYTES))))
        some = features[0][:, :, ::step, ::step]
        maps = [network.affinity.look(some, x)[0].float().cpu().numpy() for x in features]  # (qh, qw, kh, kw) each
    y, x = _query_cell(context, table, class_id, query, (height, width), step)
    start = 0.5 if grid.corner else grid.stride / 2  # centre of the first cell, in pixels
    cell = grid.stride * _pool_stride(network)  # of the keys, in pixels
    size = inputs[0].shape[2:]
    first = (100 * start / size[1], 100 * start / size[0])  # x and y in per cent of the picture, as all places below
    gap = (100 * step * grid.stride / size[1], 100 * step * grid.stride / size[0])
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
                "atlas": heat_layer(levels.transpose(0, 2, 1, 3).reshape(-1, levels.shape[1] * key_width)),
                "cells": (key_width, key_height),
                "box": box,
                "share": None if shares is None else {"on": float(shares[0][y, x]), "area": shares[1]},
                "shares": None if shares is None else base64_text(shares[0].round().astype(np.uint8).tobytes()),
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


def _look_input(image: np.ndarray, grid: Grid, device: torch.device) -> torch.Tensor:
    return grid.scaled(grid.as_input(image, device), min(1.0, LOOK_SIDE / max(image.shape[:2])))


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
    seeds = mask_if_there(context.find_mask("seeds", table.ids[row]))
    if seeds is not None:
        beside = _depth(shown & (resize_mask(seeds, shown.shape) != class_id))
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
    if truth is not None:
        return read_mask(truth, table.mask_ids)
    return mask_if_there(context.find_mask("final", table.ids[row]))


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
