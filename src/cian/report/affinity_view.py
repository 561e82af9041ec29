"""Examples of affinity for the report: classes, each in some images, and where the cells of the first one look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import distance_transform_edt

from cian.data.images import read_image
from cian.data.masks import read_mask, resize_mask
from cian.data.table import Table
from cian.inference.affinity_maps import AffinityMap, Queries, affinity_maps, sample
from cian.network import CIAN
from cian.report.samples import CANDIDATES, evenly_spread, mask_if_there, shown_classes

if TYPE_CHECKING:
    from cian.pipeline.context import Context
    from cian.pipeline.network_stage import NetworkStage

EXAMPLES = 5


@dataclass(frozen=True)
class Example:
    """A class in an image, and where the cells of the image look.

    Attributes:
        rows: rows of the table. The first image has the query cells; the other images also show the class.
        images: (H, W, 3) uint8, for each row.
        maps: for each row.
        shares: for each row, see `AffinityMap.share`. None where there is no mask.
        on: (qh, qw) bool; the query cells that lie on the class.
        marked: (x, y), a query cell well inside the object.
    """

    class_id: int
    rows: list[int]
    images: list[np.ndarray]
    queries: Queries
    maps: list[AffinityMap]
    shares: list[tuple[np.ndarray, float] | None]
    on: np.ndarray
    marked: tuple[int, int]


def affinity_examples(context: Context) -> list[Example]:
    """Some classes, each in an image and up to two others. Empty if no two predicted images share a class."""
    table = context.predict_table
    holders: dict[int, list[int]] = {}
    for row in evenly_spread(len(table), CANDIDATES // 2):
        for class_id in shown_classes(context, table, row):
            holders.setdefault(class_id, []).append(row)
    shared = [class_id for class_id in sorted(holders) if len(holders[class_id]) > 1]
    if not shared:
        return []
    network = context.load_network(_with_affinity(context))
    used: set[int] = set()
    examples = []
    for class_id in (shared[i] for i in evenly_spread(len(shared), EXAMPLES)):
        rows = _group(context, table, class_id, holders[class_id], used)
        used.add(rows[0])
        examples.append(_example(context, network, table, class_id, rows))
    return examples


def _with_affinity(context: Context) -> NetworkStage:
    """The stage of the last network with the module. The network that is shipped may have none."""
    stages = reversed(context.networks)
    return next(stage for stage in stages if stage.network_config(context.config).affinity.mode != "none")


def _example(context: Context, network: CIAN, table: Table, class_id: int, rows: list[int]) -> Example:
    images = [read_image(table.images[row]) for row in rows]
    queries, maps = affinity_maps(network, images)
    masks = [_mask_of(context, table, row) for row in rows]
    shares = [None if mask is None else each.share(mask, class_id) for mask, each in zip(masks, maps, strict=True)]
    shape = maps[0].affinity.shape[:2]  # (qh, qw)
    on = np.zeros(shape, bool)
    if masks[0] is not None:
        lines, columns = (queries.first[i] + queries.step[i] * np.arange(shape[1 - i]) for i in (1, 0))
        on = sample(masks[0], lines, columns) == class_id
    marked = _query_cell(context, table, class_id, rows[0], queries, shape)
    return Example(class_id, rows, images, queries, maps, shares, on, marked)


def _group(context: Context, table: Table, class_id: int, rows: Sequence[int], used: set[int]) -> list[int]:
    """Up to three images: the first that show a fair share of the class and were not the first of a group yet."""

    def fit(row: int) -> tuple[bool, bool]:
        shown = _object(context, table, row, class_id)
        share = 0.0 if shown is None else float(shown.mean())
        return row in used, not 0.04 <= share <= 0.6

    return sorted(rows[:40], key=fit)[:3]  # a stable sort: otherwise in the order of the table


def _object(context: Context, table: Table, row: int, class_id: int) -> np.ndarray | None:
    """(H, W) bool: where an image shows a class, by the true mask or else by the predicted one."""
    mask = _mask_of(context, table, row)
    return None if mask is None or not (mask == class_id).any() else mask == class_id


def _mask_of(context: Context, table: Table, row: int) -> np.ndarray | None:
    """The true mask of an image, or else the predicted one."""
    truth = table.masks[row]
    if truth is not None:
        return read_mask(truth, table.mask_ids)
    return mask_if_there(context.find_mask("final", table.ids[row]))


def _query_cell(
    context: Context, table: Table, class_id: int, row: int, queries: Queries, shape: tuple[int, int]
) -> tuple[int, int]:
    """(x, y): the query cell that lies deepest inside the object, and outside its seeds if the object is larger than
    they are. Without a mask: the cell in the middle.

    Args:
        shape: (qh, qw), of the query cells.
    """
    shown = _object(context, table, row, class_id)
    if shown is None:
        return shape[1] // 2, shape[0] // 2
    depth = _depth(shown)
    seeds = mask_if_there(context.find_mask("seeds", table.ids[row]))
    if seeds is not None:
        beside = _depth(shown & (resize_mask(seeds, shown.shape) != class_id))
        if beside.max() > 0.35 * depth.max():
            depth = beside
    y, x = np.unravel_index(depth.argmax(), depth.shape)
    place = ((x + 0.5) / depth.shape[1], (y + 0.5) / depth.shape[0])
    column, line = (
        min(max(round((place[i] - queries.first[i]) / queries.step[i]), 0), shape[1 - i] - 1) for i in (0, 1)
    )
    return column, line


def _depth(region: np.ndarray) -> np.ndarray:
    """The distance to the outside of a region. Beyond the edge of the image is outside."""
    return distance_transform_edt(np.pad(region, 1))[1:-1, 1:-1]
