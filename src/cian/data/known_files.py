"""What a run knows about the files of its data set.

A file is recognised by its path, its size and its modification time. A file that is unchanged since an earlier start of
the run is not read again. Nothing but the time of a start depends on this: without the record, or with a damaged one,
every file is read.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import os
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from cian.data.problems import file_error
from cian.files import read_sealed, write_sealed
from cian.memory import uncollected
from cian.parallel import cores, map_ahead

_KIND = "files 1"
_FRESH_NS = 2_000_000_000  # the coarsest clock of a common file system ticks every two seconds
_CHUNK = 2000


class _Facts(NamedTuple):
    size: int  # bytes
    time_ns: int  # of the last modification
    fingerprint: str
    content: str  # what `KnownFiles.learn` was told; empty: nothing


class KnownFiles:
    """Fingerprints of files, and what else was found out about them.

    A file is looked at once. `again` and `require_unchanged` tell whether it has changed since.

    Args:
        record: the file that keeps it from one start to the next. None: it is not kept.
    """

    def __init__(self, record: Path | None = None):
        self._record = record
        self._earlier = _read(record) if record is not None else {}  # by path: of an earlier start
        self._facts: dict[str, _Facts] = {}  # by path: of files that were looked at
        self._fresh: set[str] = set()
        self._saved = True

    def fingerprints(self, files: Sequence[Path]) -> list[str]:
        """A short fingerprint of the content of each file, whatever its name and times: a copied data set is the same.

        Raises:
            OSError: a file cannot be read.
        """
        paths = [str(file) for file in files]
        self._look(paths)
        unread = list(dict.fromkeys(path for path in paths if path not in self._facts))
        if unread:
            with ThreadPoolExecutor(min(8, cores())) as pool:
                for path, facts in zip(unread, map_ahead(pool, _fingerprint, unread), strict=True):
                    self._add(path, facts)
        return [self._facts[path].fingerprint for path in paths]

    def look(self, files: Iterable[Path]) -> None:
        """Finds out which files are unchanged since an earlier start."""
        self._look(map(str, files))

    def content(self, file: Path) -> str:
        """What was learnt about a file. Empty: nothing was, or the file has changed since, or nobody has looked."""
        facts = self._facts.get(str(file))
        return facts.content if facts else ""

    def learn(self, file: Path, content: str) -> None:
        """Keeps a text about a file that has just been read. Takes its fingerprint with it, while the system still has
        the file in memory. A file that has disappeared meanwhile is left out. May be called from several threads."""
        with contextlib.suppress(OSError):
            self._add(str(file), _fingerprint(str(file))._replace(content=content))

    def again(self) -> KnownFiles:
        """For a second look at the same files. Those that are unchanged since the first one are not read."""
        other = KnownFiles()
        other._earlier = {path: facts for path, facts in self._facts.items() if path not in self._fresh}
        return other

    def require_unchanged(self, file: Path) -> None:
        """Looks again at a file that is about to be used.

        Raises:
            FileError: its content is not what it was at the first look.
        """
        facts = self._facts.get(str(file))
        if facts is None or _is_unchanged(str(file), facts):
            return
        with contextlib.suppress(OSError):  # a missing file is an error of the reader
            if fingerprint(file) != facts.fingerprint:
                raise file_error(file, "has changed since the run began", "Run the same command again")

    def save(self, new: bool = True) -> None:
        """Writes the record, if anything has changed.

        Args:
            new: whether to write a record if there was none.
        """
        self._settle()
        if self._record is None or self._saved or not (new or self._record.exists()):
            return
        unseen = self._earlier.keys() - self._facts.keys()
        if len(unseen) > len(self._facts):  # the data has moved
            unseen = set()
        known = {path: self._earlier[path] for path in unseen} | self._facts
        text = io.StringIO(newline="")
        csv.writer(text).writerows((path, *facts) for path, facts in sorted(known.items()) if path not in self._fresh)
        write_sealed(self._record, _KIND, text.getvalue().encode(errors="surrogateescape"))
        self._saved = True

    def __reduce__(self) -> tuple[type[KnownFiles], tuple[()]]:
        return KnownFiles, ()  # other processes of a distributed run get the table, and do not need this

    def _add(self, path: str, facts: _Facts) -> None:
        self._facts[path] = facts
        if _is_fresh(facts):  # a change within the same tick would not be seen
            self._fresh.add(path)
        self._saved = False

    def _settle(self) -> None:
        """Looks again at files that had just been written, for a change within the same tick. Later, none can hide."""
        for path in [path for path in self._fresh if not _is_fresh(self._facts[path])]:
            with contextlib.suppress(OSError):
                if _fingerprint(path) == self._facts[path]._replace(content=""):
                    self._fresh.discard(path)
                    self._saved = False

    def _look(self, paths: Iterable[str]) -> None:
        """Takes over what is known of unchanged files."""
        new = [path for path in paths if path not in self._facts and path in self._earlier]
        if not new:
            return
        chunks = [new[start : start + _CHUNK] for start in range(0, len(new), _CHUNK)]
        with ThreadPoolExecutor(8) as pool:  # a network file system answers each question late
            for chunk, unchanged in zip(chunks, map_ahead(pool, self._unchanged, chunks), strict=True):
                for path, same in zip(chunk, unchanged, strict=True):
                    if same:
                        self._facts[path] = self._earlier[path]

    def _unchanged(self, paths: Sequence[str]) -> list[bool]:
        return [_is_unchanged(path, self._earlier[path]) for path in paths]


def _is_fresh(facts: _Facts) -> bool:
    """Whether a file that is written now could get the same time. A time in the future, of a clock that was wrong, is
    as good as one in the past."""
    return abs(time.time_ns() - facts.time_ns) < _FRESH_NS


def _is_unchanged(path: str, facts: _Facts) -> bool:
    try:
        status = os.stat(path)  # noqa: PTH116 (a million of them)
    except OSError:
        return False
    return status.st_size == facts.size and status.st_mtime_ns == facts.time_ns


def _fingerprint(path: str) -> _Facts:
    with Path(path).open("rb") as file:
        status = os.fstat(file.fileno())
        found = fingerprint_of(file.read())
    return _Facts(status.st_size, status.st_mtime_ns, found, "")


def fingerprint_of(content: bytes) -> str:
    """A short fingerprint of the content of a file."""
    return hashlib.blake2b(content, digest_size=8).hexdigest()


def fingerprint(file: Path) -> str:
    """A short fingerprint of the content of one file."""
    return _fingerprint(str(file)).fingerprint


@uncollected()
def _read(record: Path) -> dict[str, _Facts]:
    """What an earlier start knew; nothing if there is no record, or if it is damaged or of another version."""
    body = read_sealed(record, _KIND)
    if body is None:
        return {}
    rows = csv.reader(io.StringIO(bytes(body).decode(errors="surrogateescape"), newline=""))
    return {path: _Facts(int(size), int(time_ns), *texts) for path, size, time_ns, *texts in rows}
