"""Atomic writes, locks, and JSON files that are read with a clear error.

Every file is written under a temporary name and then renamed. So a file that exists is whole.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from cian.errors import CianError

TEMPORARY = ".cian-tmp-"
_UMASK = os.umask(0o22)
os.umask(_UMASK)  # reading it means setting it, which is not safe in threads: so it is done here


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary file beside `path`. It is renamed to `path` if the block succeeds, and removed if it fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=TEMPORARY, suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("r+b") as file:
            os.fsync(file.fileno())  # without this, a power failure could leave the new name with no data
        temporary.chmod(0o666 & ~_UMASK)
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename in (None, name):
            error.filename = str(path)  # the name that the user knows
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
        CianError: there is no such file, or it is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CianError(f"{path}: no such file. Run the stage that writes it first.") from None
    except (OSError, ValueError) as error:
        raise CianError(f"{path}: cannot be read ({error}). Remove it and run the same command again.") from None


def lock(folder: Path, doing: str) -> AbstractContextManager[object]:
    """Locks a folder for this process. The lock ends with the process, however that ends.

    Args:
        doing: what a process that has the lock does, for the error of others.

    Raises:
        CianError: another process has the lock.
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        return FileLock(folder / ".lock").acquire(timeout=0)
    except Timeout:
        raise CianError(f"{folder}: another process {doing}. Wait for it, or give another --out.") from None


def files_in(folder: str | Path) -> Iterator[str]:
    """The files in a folder and its sub-folders, in any order, as "/"-separated paths below the folder.

    Links to folders are not followed. `rglob` takes several times as long.
    """
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from (f"{entry.name}/{name}" for name in files_in(entry.path))
            elif entry.is_file():
                yield entry.name


def remove_temporaries(folder: Path) -> None:
    """Removes the files that a killed process left half-written."""
    for name in list(files_in(folder)):
        if name.rpartition("/")[2].startswith(TEMPORARY):
            (folder / name).unlink(missing_ok=True)


def refuse_within(out: Path, images: Path) -> None:
    """
    Raises:
        CianError: `out` is the folder of the images, or a folder in it.
    """
    if out.resolve().is_relative_to(images.resolve()):
        raise CianError(
            f"--out {out}: lies in the folder of the images, {images}. The next run would take its masks for images. "
            "Give a folder outside of it."
        )
