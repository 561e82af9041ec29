"""Names of splits, as folders and files are called."""

from __future__ import annotations

import re
from collections.abc import Iterable

from cian.data.table import TRAIN
from cian.formats.text import clean

VAL, TEST = "val", "test"
# By the name of a folder or a file, in lower case.
SPLIT_NAMES = {
    **dict.fromkeys((TRAIN, "training"), TRAIN),
    **dict.fromkeys((VAL, "valid", "validation", "minival"), VAL),
    **dict.fromkeys((TEST, "testing"), TEST),
}


def split_name(folder: str) -> str | None:
    """The split that a folder is called after, with or without a year: `train`, `valid`, `val2017`; None if none."""
    match = re.fullmatch(r"([a-z]+)[ _-]?\d*", clean(folder).casefold())
    return SPLIT_NAMES.get(match[1]) if match else None


def folder_splits(paths: Iterable[str]) -> list[str] | None:
    """The split of each file by a folder in its path; None unless all have one at the same depth, and they differ."""
    parts = [path.split("/") for path in paths]
    for depth in range(min(map(len, parts), default=1) - 1):
        splits = [split_name(path[depth]) for path in parts]
        if None not in splits:
            return None if len(set(splits)) == 1 else [split for split in splits if split is not None]
    return None
