"""Looks at all images in the background, as there may be 10,000, and keeps what it finds for the next start."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Generic, TypeVar

from cian.errors import CianError
from cian.files import read_json, write_json
from cian.parallel import cores, map_ahead

Found = TypeVar("Found")
_OFTEN = 3.0  # seconds between two looks at all images


class Scan(Generic[Found]):
    """What was found of each image. A scan starts with `update`.

    Args:
        ids: of the images.
        empty: what is known of an image that nobody has looked at.
        look: finds what there is now, given what was found before: the same object if nothing has changed.
        file: where it is kept.

    Attributes:
        found: for each image.
        pending: images that the scan that goes on has not looked at.
    """

    def __init__(self, ids: tuple[str, ...], empty: Found, look: Callable[[int, Found], Found], file: Path):
        self._ids, self._look, self._file = ids, look, file
        try:
            known: dict[str, Found] = read_json(file, dict[str, type(empty)])  # type: ignore[misc]
        except CianError:  # nothing but time depends on it
            known = {}
        self.found = [known.get(image_id, empty) for image_id in ids]
        self.pending = len(ids)
        self._thread: threading.Thread | None = None
        self._ended = -_OFTEN

    def update(self) -> None:
        """Looks at all images again, unless that was done just now or goes on."""
        idle = self._thread is None or not self._thread.is_alive()
        if idle and time.monotonic() - self._ended >= _OFTEN:
            self._thread = threading.Thread(target=self._run, name="cian-scan", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        changed = False
        with ThreadPoolExecutor(max(1, cores() - 1)) as pool:
            for i, found in enumerate(map_ahead(pool, self._one, range(len(self._ids)))):
                changed |= found is not self.found[i]
                self.found[i] = found
                self.pending = min(self.pending, len(self._ids) - i - 1)
        if changed:
            with contextlib.suppress(OSError):  # a run that cannot be written can be looked at
                write_json(self._file, {key: vars(found) for key, found in zip(self._ids, self.found, strict=True)})
        self._ended = time.monotonic()

    def _one(self, i: int) -> Found:
        try:
            return self._look(i, self.found[i])
        except (CianError, OSError):  # said when the image is opened
            return self.found[i]


def stamp(*files: Path | None) -> str:
    """Changes with the files."""
    statuses = [file and file.stat() for file in files]
    return " ".join(f"{status.st_size:x}:{status.st_mtime_ns:x}" if status else "-" for status in statuses)
