"""Atomic writes, locks, and records that are checked when they are read.

Every file is written under a temporary name and then renamed. So a file that exists is whole, unless it was damaged
later.
"""

from __future__ import annotations

import contextlib
import csv
import functools
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from pydantic import TypeAdapter, ValidationError

from cian.errors import CianError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

TEMPORARY = ".cian-tmp-"
_MISSING = "Run the stage that writes it first"
_UMASK = os.umask(0o22)
os.umask(_UMASK)  # reading it means setting it, which is not safe in threads: so it is done here


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary file beside `path`. It is renamed to `path` if the block succeeds, and removed if it fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=TEMPORARY, suffix=path.suffix, dir=path.parent)
    _claim(handle)
    if fcntl is None:  # Windows renames no file that is open
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
    finally:
        if fcntl is not None:
            os.close(handle)


def copy_file(source: Path, target: Path) -> None:
    """Copies the content of a file. The copy is whole or not there."""
    with atomic(target) as temporary:
        shutil.copyfile(source, temporary)


def _claim(handle: int) -> bool:
    """Locks a temporary file until its process closes it, or ends. False if another process has it."""
    if fcntl is not None:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:  # a file system without locks
            pass
    return True


def write_bytes(path: Path, data: bytes | memoryview) -> None:
    with atomic(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    write_bytes(path, text.encode())


_FORMULA = re.compile(r"'*[=+\-@\t\r\n]")  # what a spreadsheet takes for a formula, and that with apostrophes before it


def write_csv(path: Path, rows: Iterable[Iterable[object]]) -> None:
    """Writes a table. A cell that a spreadsheet would run as a formula gets an apostrophe in front; None is empty."""
    with (
        atomic(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        csv.writer(file).writerows(map(_as_text, row) for row in rows)


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of a table that `write_csv` wrote, as texts by column."""
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        return [{column: without_apostrophe(cell) for column, cell in row.items()} for row in csv.DictReader(file)]


def without_apostrophe(cell: str) -> str:
    """A cell as it was before `write_csv` put an apostrophe in front."""
    return cell[1:] if cell[:1] == "'" and _FORMULA.match(cell) else cell


def _as_text(cell: object) -> object:
    text = "" if cell is None else str(cell)
    return f"'{text}" if _FORMULA.match(text) else text


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(
    path: Path,
    kind: Any = Any,
    cure: str = "Remove it and run the same command again",
    missing: str = _MISSING,
    text: str | bytes | None = None,
) -> Any:
    """Reads a JSON file and checks its shape. All records are read with this function.

    Args:
        kind: the type that the content must have, e.g. `dict[str, Record]`. Dataclasses are made of objects.
        cure: what to do if the file is damaged.
        missing: what to do if there is no such file.
        text: the JSON, if it is only a part of the file, or has been read already.

    Raises:
        CianError: there is no such file, it is not JSON, or its content is of another type.
    """
    try:
        return _adapter(kind).validate_json(path.read_bytes() if text is None else text, strict=True)
    except FileNotFoundError:
        raise CianError(f"{path}: no such file. {missing}.") from None
    except OSError as error:
        raise CianError(f"{path}: cannot be read ({error.strerror}). {cure}.") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = "".join(f"{part}: " for part in first["loc"])
        raise CianError(f"{path}: damaged ({where}{first['msg']}). {cure}.") from None


@functools.cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def write_sealed(path: Path, kind: str, body: bytes | memoryview) -> None:
    """Writes a file whose first line holds its kind and a checksum of the rest. `read_sealed` reads it."""
    with atomic(path) as temporary, temporary.open("wb") as file:
        file.write(_seal(kind, body))
        file.write(body)


def read_sealed(path: Path, kind: str) -> memoryview | None:
    """What `write_sealed` wrote. None if the file is missing, damaged or of another kind."""
    try:
        data = memoryview(path.read_bytes())
    except OSError:
        return None
    start = len(_seal(kind, b""))
    return data[start:] if data[:start] == _seal(kind, data[start:]) else None


def _seal(kind: str, body: bytes | memoryview) -> bytes:
    return f"cian {kind} {hashlib.blake2b(body, digest_size=16).hexdigest()}\n".encode()


def lock(folder: Path, doing: str) -> AbstractContextManager[object]:
    """Locks a folder for this process, and removes what a killed one has left half-written in it, but not in its
    sub-folders. The lock ends with the process, however that ends.

    Args:
        doing: what a process that has the lock does, for the error of others.

    Raises:
        CianError: another process has the lock.
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        held = FileLock(folder / ".lock").acquire(timeout=0)
    except Timeout:
        raise CianError(f"{folder}: another process {doing}. Wait for it, or give another --out.") from None
    remove_temporaries(folder, deep=False)
    return held


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


def remove(path: Path) -> None:
    """Removes a file, or a folder with all that is in it. A folder that is a link, to a larger disk for instance, is
    emptied."""
    if path.is_symlink() and path.is_dir():
        for inner in list(path.iterdir()):
            inner.unlink() if inner.is_symlink() else remove(inner)
    elif path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def remove_temporaries(folder: Path, deep: bool = True) -> None:
    """Removes the files that a killed process left half-written. Those that a process is writing now are kept.

    Args:
        deep: also in sub-folders.
    """
    if not folder.is_dir():
        return
    names = files_in(folder) if deep else (entry.name for entry in os.scandir(folder) if entry.is_file())
    for name in [name for name in names if name.rpartition("/")[2].startswith(TEMPORARY)]:
        with contextlib.suppress(FileNotFoundError), (folder / name).open("rb") as file:
            if _claim(file.fileno()):
                (folder / name).unlink()


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
