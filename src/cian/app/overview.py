"""What the page shows of every image at once: its size, the classes in its mask, its score.

Masks are read in the background, as there may be 10,000. What was found is kept, so that the next start knows it.
"""

from __future__ import annotations

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cian.app.project import Project
from cian.data.masks import count_ids, read_mask
from cian.errors import CianError
from cian.evaluation.folders import object_iou
from cian.files import read_json, write_json
from cian.parallel import cores, map_ahead


@dataclass
class Seen:
    """What was found about an image.

    Attributes:
        stamp: changes with the files that it was found in.
        found: ids of the classes in its predicted mask, without background.
        score: in percent, see `object_iou`.
    """

    stamp: str = ""
    height: int = 0
    width: int = 0
    found: list[int] = field(default_factory=list)
    score: float | None = None


class Overview:
    def __init__(self, project: Project):
        self.project = project
        self.file = project.own("overview.json")
        self.pending = len(project.table)
        self._stop = threading.Event()
        try:
            earlier: dict[str, Seen] = read_json(self.file, dict[str, Seen])
        except CianError:  # nothing but time depends on it
            earlier = {}
        self.seen = [earlier.get(image_id, Seen()) for image_id in project.table.ids]
        self._thread: threading.Thread | None = None

    def update(self) -> None:
        """Looks at all images again, in the background."""
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._scan, daemon=True)
            self._thread.start()

    def close(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _scan(self) -> None:
        count, changed = len(self.seen), False
        with ThreadPoolExecutor(max(1, cores() - 1)) as pool:
            for i, seen in enumerate(map_ahead(pool, self._look, range(count))):
                if self._stop.is_set():
                    break
                changed |= seen is not self.seen[i]
                self.seen[i] = seen
                self.pending = count - i - 1
        if changed:
            with contextlib.suppress(OSError):
                write_json(
                    self.file, {key: vars(seen) for key, seen in zip(self.project.table.ids, self.seen, strict=True)}
                )

    def _look(self, i: int) -> Seen:
        project, before = self.project, self.seen[i]
        try:
            files = [project.mask_file(kind, i) for kind in ("prediction", "truth")]
            stamp = " ".join(map(_stamp, (project.table.images[i], *files)))
            if stamp == before.stamp or self._stop.is_set():
                return before
            seen = Seen(stamp, *project.size(i))
            predicted, truth = files
            if predicted is not None:
                mask = read_mask(predicted)
                seen.found = [int(c) for c in np.flatnonzero(count_ids(mask)) if 0 < c < project.table.num_classes]
                if truth is not None:
                    seen.score = object_iou(mask, read_mask(truth, project.table.mask_ids))
            return seen
        except (CianError, OSError):  # said when the image is opened
            return before

    def rows(self) -> list[dict[str, Any]]:
        """One row an image, as JSON."""
        table = self.project.table
        return [
            {
                "i": i,
                "id": table.ids[i],
                "width": seen.width,
                "height": seen.height,
                "tags": table.tags(i).tolist(),
                "found": seen.found,
                "score": None if seen.score is None else round(seen.score, 2),
                "doubt": None,
                "rank": None,
                "state": "none",
                "split": table.splits[i],
            }
            for i, seen in enumerate(self.seen)
        ]


def _stamp(file: Path | None) -> str:
    if file is None:
        return "-"
    status = file.stat()
    return f"{status.st_size}:{status.st_mtime_ns}"
