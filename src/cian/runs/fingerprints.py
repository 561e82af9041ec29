"""Fingerprints of files, tables and settings: by these a run knows what has changed."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any

from cian.data.table import Table
from cian.parallel import cores, map_ahead


def digest(value: Any) -> str:
    """A short fingerprint of plain data."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]


def table_digest(table: Table) -> str:
    """Changes when an image, its tags or its split do; masks do not count, nor the order of the classes."""
    rows = enumerate(zip(table.ids, table.splits, _contents(table.images), strict=True))
    names = table.class_names
    return _rows_digest(
        (image_id, split, bool(table.tagged[i]), sorted(names[tag] for tag in table.tags(i)), found)
        for i, (image_id, split, found) in rows
    )


def masks_digest(table: Table) -> str:
    """Changes when a mask does, or which images have one, or what the ids in masks stand for."""
    return _paths_digest(table, table.masks)


def labels_digest(table: Table) -> str:
    """Changes when a label map does, or which images have one, or what the ids in label maps stand for."""
    return _paths_digest(table, table.labels)


def _paths_digest(table: Table, files: Sequence[Path | None]) -> str:
    """Changes when a file does, or which images have one."""
    rows = [(image_id, split) for image_id, split, file in zip(table.ids, table.splits, files, strict=True) if file]
    found = _contents(file for file in files if file)
    changes = [] if table.mask_classes is None else [table.mask_classes]
    return _rows_digest(chain(changes, ((*row, content) for row, content in zip(rows, found, strict=True))))


def files_digest(path: Path) -> str:
    """Changes when a file, or one in a folder, does."""
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    names = (file.relative_to(path).as_posix() for file in files)
    return _rows_digest(zip(names, _contents(files), strict=True))


def _rows_digest(rows: Iterable[tuple[Any, ...]]) -> str:
    hashed = hashlib.sha256()
    for row in rows:
        hashed.update(repr(row).encode())
    return hashed.hexdigest()[:16]


def _contents(files: Iterable[Path]) -> Iterator[str]:
    with ThreadPoolExecutor(min(8, cores())) as pool:
        yield from map_ahead(pool, fingerprint, files)


def fingerprint(file: Path) -> str:
    """A short fingerprint of what is in a file, whatever its name and times: a copied data set is the same one."""
    status = file.stat()
    return _content(file, status.st_size, status.st_mtime_ns)


@functools.cache  # every stage asks again
def _content(file: Path, size: int, time_ns: int) -> str:
    return hashlib.blake2b(file.read_bytes(), digest_size=8).hexdigest()
