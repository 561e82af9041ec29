"""What the stages have made, and whether it is still as it was written.

Files are compared by their contents. There may be a million masks, so a fingerprint of their names, sizes and times is
compared first, and contents are read only if it differs. These fingerprints are in fingerprints/last.json. If it is
lost, all masks are read; nothing but the time of a start depends on it.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import compress

from PIL import Image
from safetensors import SafetensorError, safe_open

from cian.data.known_files import fingerprint, fingerprint_of
from cian.errors import CianError
from cian.files import read_json, write_bytes, write_json
from cian.parallel import cores, map_ahead
from cian.runs.directory import Record, Run

_PNG_END = b"IEND\xaeB`\x82"


@dataclass(frozen=True)
class Results:
    """What a stage makes.

    Attributes:
        files: paths in the run directory.
        masks: for each folder of masks, the ids of the images that have one.
        dated: whether the files hold times, so that each run makes others. Their fingerprints are kept apart.
    """

    files: Sequence[str]
    masks: Mapping[str, Sequence[str]]
    dated: bool = False


@dataclass
class Losses:
    """What is no longer as a stage has written it. Paths in the run directory.

    Attributes:
        missing: files that are gone.
        damaged: files whose contents have changed.
        unknown: whether something was not recorded as it is now, although nothing is lost: it was made by an earlier
            version, or copied.
    """

    missing: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    unknown: bool = False

    def __bool__(self) -> bool:
        return bool(self.missing or self.damaged)


def remember(run: Run, results: Results, record: Record) -> None:
    """Notes in a record what a stage has just made. The fingerprints of masks go into files of their own.

    Raises:
        OSError: a file is missing.
    """
    files = {name: fingerprint(run.path / name) for name in results.files}
    seen = files if results.dated else {}
    record.made = {} if results.dated else files
    for folder, ids in results.masks.items():
        seen[folder] = _look(run, folder, ids)  # first: what changes from now on is noticed
        text = io.StringIO(newline="")
        csv.writer(text).writerows(zip(ids, _contents(run, folder, ids), strict=True))
        body = text.getvalue().encode(errors="surrogateescape")
        write_bytes(run.fingerprints_file(folder), body)
        record.made[folder] = fingerprint_of(body)
    if seen:
        write_json(run.seen_file, {**_seen(run), **seen})


def losses(run: Run, results: Results, record: Record) -> Losses:
    """Compares what a stage has made with its record.

    If there are no fingerprints, as in runs of earlier versions, what can be read is believed. If the stage is not
    done, nothing is missing yet.
    """
    if not record.done:
        return Losses(damaged=_unreadable(run, results))
    found = Losses(damaged=_unreadable(run, results) if record.made is None else [])
    made, seen = record.made or {}, _seen(run)
    known = seen if results.dated else made
    for name in results.files:
        path = run.path / name
        if not path.is_file():
            found.missing.append(name)
        elif name in found.damaged:
            continue
        elif name not in known:
            found.unknown = True
        elif fingerprint(path) != known[name]:
            found.damaged.append(name)
    for folder, ids in results.masks.items():
        if folder in made and _look(run, folder, ids) == seen.get(folder):
            continue
        found.unknown = True
        masks = _known(run, folder, made.get(folder))
        for image_id, content in zip(ids, _contents(run, folder, ids), strict=True):
            if content is None:
                found.missing.append(f"{folder}/{image_id}.png")
            elif masks is not None and content != masks.get(image_id):
                found.damaged.append(f"{folder}/{image_id}.png")
    return found


def _unreadable(run: Run, results: Results) -> list[str]:
    """The weights and masks that are there, but cannot be read."""

    def is_broken(name: str) -> bool:
        path = run.path / name
        if not path.is_file():
            return False
        try:
            if path.suffix == ".safetensors":
                with safe_open(path, framework="np"):
                    pass
            elif path.suffix == ".png":
                data = path.read_bytes()
                with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
                    image.verify()  # the checksums of all chunks but the last
                return not data.endswith(_PNG_END)
        except (OSError, SyntaxError, SafetensorError):  # Pillow calls a broken PNG file a SyntaxError
            return True
        return False

    masks = (f"{folder}/{image_id}.png" for folder, ids in results.masks.items() for image_id in ids)
    names = [*results.files, *masks]
    with ThreadPoolExecutor(cores()) as pool:
        return list(compress(names, map_ahead(pool, is_broken, names)))


def _seen(run: Run) -> dict[str, str]:
    """The content of fingerprints/last.json; empty if it is missing or damaged."""
    try:
        seen: dict[str, str] = read_json(run.seen_file, dict[str, str])
    except CianError:
        return {}
    return seen


def _known(run: Run, folder: str, digest: str | None) -> dict[str, str] | None:
    """The fingerprints of masks by id. None if they are not known."""
    try:
        body = run.fingerprints_file(folder).read_bytes()
    except OSError:
        return None
    if fingerprint_of(body) != digest:
        return None
    return dict(csv.reader(io.StringIO(body.decode(errors="surrogateescape"), newline="")))


def _look(run: Run, folder: str, ids: Sequence[str]) -> str:
    """Changes when a mask is written, removed or replaced."""
    found = dict(_sizes_and_times(str(run.folder(folder)))) if len(ids) else {}
    lines = [f"{image_id} {found.get(f'{image_id}.png')}" for image_id in ids]
    return fingerprint_of("\n".join(lines).encode(errors="surrogateescape"))


def _sizes_and_times(folder: str, prefix: str = "") -> Iterator[tuple[str, str]]:
    """For each file in a folder and its sub-folders: its path, and its size and time."""
    try:
        entries = os.scandir(folder)
    except OSError:
        return
    with entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _sizes_and_times(entry.path, f"{prefix}{entry.name}/")
            elif entry.is_file():
                status = entry.stat()
                yield prefix + entry.name, f"{status.st_size} {status.st_mtime_ns}"


def _contents(run: Run, folder: str, ids: Sequence[str]) -> Iterator[str | None]:
    """The fingerprint of each mask; None where there is none."""

    def read(image_id: str) -> str | None:
        try:
            return fingerprint(run.mask(folder, image_id))
        except OSError:
            return None

    with ThreadPoolExecutor(min(8, cores())) as pool:
        yield from map_ahead(pool, read, ids)


def described(names: Sequence[str]) -> str:
    """The names of some files for a message."""
    more = len(names) - 3
    return ", ".join(names[:3]) + (f" and {more} more" if more > 0 else "")
