"""Fingerprints of tables, files and settings, which tell a run what has changed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

from cian.data.known_files import KnownFiles
from cian.data.table import Table
from cian.files import files_in


def digest(value: Any) -> str:
    """A short fingerprint of plain data."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]


def table_digest(table: Table) -> str:
    """Changes when an image, its tags or its split change. Masks and the order of the classes do not count."""
    class_names = table.class_names
    names = [class_names[tag] for tag in table.tag_ids.tolist()]
    offsets = table.tag_offsets.tolist()
    tags = (sorted(names[start:stop]) for start, stop in pairwise(offsets))
    found = table.known.fingerprints(table.images)
    return _rows_digest(zip(table.ids, table.splits, table.tagged.tolist(), tags, found, strict=True))


def masks_digest(table: Table) -> str:
    """Changes when a mask changes, when other images have one, or when the ids in masks stand for other classes."""
    return _paths_digest(table, table.masks)


def labels_digest(table: Table) -> str:
    """Changes when a label map changes, when other images have one, or when its ids stand for other classes."""
    return _paths_digest(table, table.labels)


def _paths_digest(table: Table, files: Sequence[Path | None]) -> str:
    rows = [(image_id, split) for image_id, split, file in zip(table.ids, table.splits, files, strict=True) if file]
    found = table.known.fingerprints([file for file in files if file])
    changes = [] if table.mask_classes is None else [table.mask_classes]
    return _rows_digest(chain(changes, ((*row, content) for row, content in zip(rows, found, strict=True))))


def files_digest(path: Path, known: KnownFiles) -> str:
    """Changes when a file, or a file in a folder, changes."""
    if path.is_file():
        names, files = ["."], [path]
    else:
        names = sorted(files_in(path), key=lambda name: name.split("/"))
        files = [path / name for name in names]
    return _rows_digest(zip(names, known.fingerprints(files), strict=True))


def _rows_digest(rows: Iterable[tuple[Any, ...]]) -> str:
    hashed = hashlib.sha256()
    for row in rows:
        hashed.update(repr(row).encode())
    return hashed.hexdigest()[:16]
