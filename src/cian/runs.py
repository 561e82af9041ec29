"""The run directory: the names of its artefacts, atomic writes, and the record of what ran.

Every artefact is written under a temporary name and renamed, so that a file that exists is whole.
"""

from __future__ import annotations

import contextlib
import csv
import functools
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from cian.cores import ahead, cores
from cian.data.table import Table
from cian.errors import CianError

TEMPORARY = ".cian-tmp-"
_UMASK = os.umask(0o22)
os.umask(_UMASK)  # it can only be read by being set, which threads must not do beside each other


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary file beside `path`; it is renamed to `path` if the block succeeds and removed if it does not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=TEMPORARY, suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("r+b") as file:
            os.fsync(file.fileno())  # a rename must not overtake the data when the machine loses power
        temporary.chmod(0o666 & ~_UMASK)
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename in (None, name):
            error.filename = str(path)  # what the user knows it as
        raise


def write_bytes(path: Path, data: bytes | memoryview) -> None:
    with atomic(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """
    Raises:
        CianError: the file is not there or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CianError(f"{path}: no such file. Is this a run directory of a finished stage?") from None
    except (OSError, ValueError) as error:
        raise CianError(f"{path}: cannot be read ({error}). Remove it and run the same command again.") from None


@dataclass
class Record:
    """What a stage was made with, and whether it is complete."""

    inputs: dict[str, Any]
    done: bool = False
    seconds: float = 0.0


class Run:
    """A run directory.

    Args:
        path: made if it does not exist.

    Raises:
        CianError: `path` is a file, or a folder that holds something else.
    """

    def __init__(self, path: Path):
        self.path = Path(path)
        if self.path.exists() and not self.path.is_dir():
            raise CianError(f"{self.path}: is a file. Give a folder to --out.")
        own = (TEMPORARY, ".lock")  # all that there is when the first moments of a run were its last
        if (
            self.path.is_dir()
            and not self.stages_file.exists()
            and any(not file.name.startswith(own) for file in self.path.iterdir())
        ):
            raise CianError(f"{self.path}: holds files, but is no run of cian. Give an empty or a new folder to --out.")

    # Names of the artefacts.

    @property
    def config_file(self) -> Path:
        return self.path / "config.yaml"

    @property
    def stages_file(self) -> Path:
        return self.path / "stages.json"

    @property
    def metrics_file(self) -> Path:
        return self.path / "metrics.json"

    @property
    def report_file(self) -> Path:
        return self.path / "report.html"

    @property
    def model(self) -> Path:
        return self.path / "model"

    def folder(self, name: str) -> Path:
        """`seeds`, `relabel`, `predictions`, `train`, …"""
        return self.path / name

    def mask(self, folder: str, image_id: str) -> Path:
        """FOLDER/ID.png"""
        return self.path / folder / f"{image_id}.png"

    # Start, and the record of what ran.

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the run for this process; the lock goes with the process, however it ends.

        Raises:
            CianError: another process works on this run, or the folder cannot be written.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        if not self.stages_file.exists():
            write_json(self.stages_file, {})
        with hold(self.path, "works on this run"):
            yield

    def records(self) -> dict[str, Record]:
        if not self.stages_file.exists():
            return {}
        return {
            name: Record(record["inputs"], record["done"], record["seconds"])
            for name, record in read_json(self.stages_file).items()
        }

    def record(self, name: str, record: Record | None) -> None:
        """Writes (None: removes) what is known of a stage."""
        records = self.records()
        records.pop(name, None)
        if record is not None:
            records[name] = record
        write_json(self.stages_file, {key: value.__dict__ for key, value in records.items()})

    def take_over(self, source: Run, stages: Mapping[str, tuple[str, ...]]) -> None:
        """Copies finished stages of another run, with their records; what is here already stays as it is.

        Args:
            stages: by name, the folders that are a stage's own.

        Raises:
            CianError: another process works on this run, or its files cannot be copied.
        """
        with self.locked():
            for name, record in source.records().items():
                here = self.records().get(name)
                if name not in stages or not record.done or (here and here.done and here.inputs == record.inputs):
                    continue
                for folder in stages[name]:
                    self._copy(source, folder)
                self.record(name, record)

    def _copy(self, other: Run, name: str) -> None:
        """A folder of another run, in place of its own."""
        source, target = other.folder(name), self.folder(name)
        temporary = target.with_name(f"{TEMPORARY}{target.name}")
        shutil.rmtree(temporary, ignore_errors=True)
        self.clear((name,))
        if not source.exists():  # there is none where no held-out image has seeds
            return
        try:
            shutil.copytree(source, temporary)
        except shutil.Error as error:  # of all files, each with its reason
            _, _, why = error.args[0][0]
            cure = "The same command goes on from here when that is cured"
            raise CianError(f"{target}: cannot be copied from {source} ({why}). {cure}.") from None
        temporary.rename(target)

    def clear(self, names: tuple[str, ...]) -> None:
        """Removes artefacts, files and folders."""
        for name in names:
            path = self.path / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def write_config(self, tree: dict[str, Any], versions: dict[str, str]) -> None:
        write_text(
            self.config_file,
            yaml.safe_dump({**tree, "versions": versions}, sort_keys=False, allow_unicode=True),
        )

    def write_table(self, table: Table) -> None:
        """data.csv: id, image, tags, split, mask."""
        with (
            atomic(self.path / "data.csv") as temporary,
            temporary.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
        ):
            writer = csv.writer(file)
            writer.writerow(["id", "image", "tags", "split", "mask"])
            for i, image_id in enumerate(table.ids):
                names = ";".join(table.class_names[tag] for tag in table.tags(i))
                writer.writerow([image_id, table.images[i], names, table.splits[i], table.masks[i] or ""])


def hold(folder: Path, doing: str) -> AbstractContextManager[object]:
    """Locks a folder for this process; the lock goes with the process, however it ends.

    Args:
        doing: what another process does that has it, for the error.

    Raises:
        CianError: another process has it, or the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        return FileLock(folder / ".lock").acquire(timeout=0)
    except Timeout:
        raise CianError(f"{folder}: another process {doing}. Wait for it, or give another --out.") from None


def remove_temporaries(folder: Path) -> None:
    """Removes what a killed process left half-written."""
    for path in folder.rglob(f"{TEMPORARY}*"):
        path.unlink(missing_ok=True)


def refuse_within(out: Path, images: Path) -> None:
    """
    Raises:
        CianError: `out` is the folder of the images, or lies in it.
    """
    if out.resolve().is_relative_to(images.resolve()):
        raise CianError(
            f"--out {out}: lies in the folder of the images, {images}, where masks would be taken for images the next "
            "time. Give a folder outside of it."
        )


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
    """Changes when a mask does, or which images have one."""
    rows = [
        (image_id, split) for image_id, split, mask in zip(table.ids, table.splits, table.masks, strict=True) if mask
    ]
    found = _contents(mask for mask in table.masks if mask)
    return _rows_digest((*row, mask) for row, mask in zip(rows, found, strict=True))


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
        yield from ahead(pool, content, files)


def content(file: Path) -> str:
    """A short fingerprint of what is in a file, whatever its name and times: a copied data set is the same one."""
    status = file.stat()
    return _content(file, status.st_size, status.st_mtime_ns)


@functools.cache  # every stage asks again
def _content(file: Path, size: int, time_ns: int) -> str:
    return hashlib.blake2b(file.read_bytes(), digest_size=8).hexdigest()


class Stopwatch:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self.start = time.monotonic()

    @property
    def seconds(self) -> float:
        return round(time.monotonic() - self.start, 2)
