"""Counts of a data set: images per class and split, and which classes occur together."""

from __future__ import annotations

from typing import Any

import numpy as np
import rich.table
from rich.console import Group, RenderableType
from rich.text import Text
from scipy.sparse import csr_matrix

from cian.data.table import Table

_MATRIX_CLASSES = 20
_PAIRS = 20


def summary_data(table: Table) -> dict[str, Any]:
    """Counts of a table, as plain Python values.

    Returns:
        `classes`: names without background. By split, numbers of images: `images`, `empty` (known to show no class),
        `untagged` (classes unknown) and `masks`; and `counts`, the images of each class. `co_occurrence`: C lists of C
        numbers of images that show both classes, over all splits (on the diagonal, those that show the class).
    """
    codes = {name: code for code, name in enumerate(table.split_names)}
    split = np.fromiter((codes[name] for name in table.splits), np.int64, len(table))  # (N,)
    masked = np.fromiter((mask is not None for mask in table.masks), bool, len(table))  # (N,)
    num_tags, num_splits = len(table.classes), len(codes)
    tags = table.tag_ids.astype(np.int64) - 1  # (T,)
    split_of_tag = np.repeat(split, np.diff(table.tag_offsets))  # (T,)
    counts = np.bincount(split_of_tag * num_tags + tags, minlength=num_splits * num_tags)
    hot = csr_matrix((np.ones(len(tags), np.int64), tags, table.tag_offsets), (len(table), num_tags))

    def by_split(rows: np.ndarray) -> dict[str, int]:
        return dict(zip(codes, np.bincount(rows, minlength=num_splits).tolist(), strict=True))

    return {
        "classes": list(table.classes),
        "images": by_split(split),
        "empty": by_split(split[table.tagged & (np.diff(table.tag_offsets) == 0)]),
        "untagged": by_split(split[~table.tagged]),
        "masks": by_split(split[masked]),
        "counts": dict(zip(codes, counts.reshape(num_splits, num_tags).tolist(), strict=True)),
        "co_occurrence": (hot.T @ hot).toarray().tolist(),
    }


def often_together(table: Table) -> np.ndarray:
    """Which classes are tagged together more often than apart: in more images both are tags than only one of them.

    Shape:
        Returns (C, C) bool. A class is together with itself, unless no image has it.
    """
    together = np.array(summary_data(table)["co_occurrence"]).reshape(len(table.classes), -1)  # (C, C)
    counts = together.diagonal()
    return together > counts[:, None] + counts - 2 * together


def frequent_pairs(data: dict[str, Any], most: int) -> list[tuple[int, str, str]]:
    """(images, class, class) of the classes that occur together most often; `data` from `summary_data`."""
    names, matrix = data["classes"], np.array(data["co_occurrence"])
    first, second = np.triu_indices(len(names), k=1)
    together = matrix[first, second]
    best = np.argsort(-together, kind="stable")[:most]
    return [(int(together[i]), names[first[i]], names[second[i]]) for i in best if together[i]]


def summary(table: Table) -> RenderableType:
    """For the terminal: what a table was read from, images per class and split, and which classes occur together."""
    data = summary_data(table)
    counts = rich.table.Table()
    counts.add_column("id", justify="right")
    counts.add_column("class")
    for split in data["images"]:
        counts.add_column(Text(split), justify="right")
    for i, name in enumerate(data["classes"]):
        counts.add_row(str(i + 1), Text(name), *(str(row[i]) for row in data["counts"].values()))
    counts.add_section()
    for title, key in (("images", "images"), ("no class", "empty"), ("untagged", "untagged"), ("masks", "masks")):
        counts.add_row("", title, *map(str, data[key].values()))
    source = [Text(f"Tags: {table.source}")] if table.source else []
    return Group(*source, _title("Images per class"), counts, *_co_occurrence(data))


def _title(text: str) -> Text:
    """A line above a table. The table's own title would be broken at the table's width."""
    return Text(text, "table.title")


def _co_occurrence(data: dict[str, Any]) -> tuple[Text, rich.table.Table]:
    """A title, and below it a matrix, or the most frequent pairs if a matrix would be too wide."""
    names = data["classes"]
    if len(names) <= _MATRIX_CLASSES:
        title = _title("Images that show both classes, by id")  # names would not fit beside twenty columns
        grid = rich.table.Table(box=None, padding=(0, 1, 0, 0))
        for header in ("id", *range(1, len(names) + 1)):
            grid.add_column(str(header), justify="right", no_wrap=True)
        for i, row in enumerate(data["co_occurrence"], start=1):
            grid.add_row(str(i), *("·" if count == 0 else str(count) for count in row))
        return title, grid
    pairs = rich.table.Table()
    pairs.add_column("pair")
    pairs.add_column("images", justify="right")
    for count, first, second in frequent_pairs(data, _PAIRS):
        pairs.add_row(Text(f"{first} + {second}"), str(count))
    return _title(f"The {_PAIRS} most frequent pairs of classes"), pairs
