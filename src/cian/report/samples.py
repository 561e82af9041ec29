"""Some images of a table, to show or to look at."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cian.data.masks import read_mask
from cian.data.table import IGNORE, Table

if TYPE_CHECKING:
    from cian.pipeline.context import Context

CANDIDATES = 400  # images to choose from, spread over the table


def choose(context: Context, table: Table, number: int, most: int) -> list[int]:
    """Rows that together show every class, if `most` rows can. The scores of the images do not count.

    The class that was shown least gets the next image. The images come from all parts of the table.
    """
    candidates = evenly_spread(len(table), CANDIDATES)
    shows = {row: shown_classes(context, table, row) for row in candidates}
    missing = {class_id for classes in shows.values() for class_id in classes}
    chosen: list[int] = []
    count: Counter[int] = Counter()
    while len(chosen) < min(len(candidates), number if not missing else most):
        wanted = sorted(missing or {c for row in candidates if row not in chosen for c in shows[row]})
        target = min(wanted, key=lambda class_id: count[class_id], default=None)
        open_rows = [row for row in candidates if row not in chosen]
        row = next((row for row in open_rows if target in shows[row]), open_rows[0])
        chosen.append(row)
        count.update(shows[row])
        missing -= shows[row]
    return chosen


def evenly_spread(count: int, most: int) -> list[int]:
    """At most `most` of the numbers below `count`, evenly spread."""
    return np.linspace(0, count - 1, min(count, most)).round().astype(int).tolist()


def shown_classes(context: Context, table: Table, row: int) -> set[int]:
    """The classes of an image: its tags or, if they are unknown, the classes in its predicted mask."""
    if table.tagged[row]:
        return set(table.tags(row).tolist())
    mask = mask_if_there(context.find_mask("final", table.ids[row]))
    return set() if mask is None else set(np.unique(mask).tolist()) - {0, IGNORE}


def mask_if_there(file: Path | None) -> np.ndarray | None:
    return read_mask(file) if file is not None and file.exists() else None
