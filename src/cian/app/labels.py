"""What people label: strokes to go on from, and the label maps that the next run learns from.

    RUN/labels/ID.png        the label map: what the strokes say, or the whole mask once it is approved; 255 elsewhere
    RUN/app/strokes/ID.json  the strokes, the state and the version

Every change has a version. Who changes an older one than the stored one is refused, so two windows cannot undo each
other's work.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import io
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from PIL import Image

from cian.app.project import LABELS, Project
from cian.app.refusal import Refusal
from cian.data.masks import proportional, resize_mask, write_mask
from cian.data.table import IGNORE
from cian.errors import CianError
from cian.files import files_in, read_json, write_json

MOST_MASK = 32 * 2**20  # bytes of a mask that a client sends
STATES = ("strokes", "approved")


@dataclass
class Label:
    """
    Attributes:
        version: grows with each change; 0 as long as there is nothing.
        state: "none", "strokes" or "approved".
        strokes: as the page sent them.
    """

    version: int = 0
    state: str = "none"
    strokes: list[dict[str, Any]] = field(default_factory=list)


class LabelStore:
    """The labels of a run. Several windows, and several servers, can write to it."""

    def __init__(self, project: Project):
        self.project = project
        self._mine = threading.Lock()
        self._states: dict[int, str] = {}
        places = {image_id: i for i, image_id in enumerate(project.table.ids)}
        for folder, suffix in ((LABELS, ".png"), ("app/strokes", ".json")):
            root = project.run.path / folder
            for name in files_in(root) if root.is_dir() else ():
                i = places.get(name.removesuffix(suffix))
                if i is not None and name.endswith(suffix):
                    with contextlib.suppress(CianError):  # said when the image is opened
                        self._states[i] = self.get(i).state

    def states(self) -> dict[int, str]:
        """The state of each image that has labels."""
        return dict(self._states)

    def counts(self) -> dict[str, int]:
        counts = Counter(self._states.values())
        return {state: counts[state] for state in STATES}

    def get(self, i: int) -> Label:
        """The label of an image. If its file is damaged, the label map counts, without strokes to go on from."""
        file, label_map = self._file(i), self._label_map(i)
        try:
            label: Label = read_json(file, Label)
            if label.state in STATES and label.version > 0:
                return label
        except CianError:
            pass
        newest = max((int(each.stat().st_mtime * 1000) for each in (file, label_map) if each.is_file()), default=0)
        return Label(newest, "approved" if label_map.is_file() else "none")

    def put(self, i: int, version: int, state: str, strokes: list[dict[str, Any]], label_map: np.ndarray) -> Label:
        """Stores a label. It is on disk when this returns.

        Args:
            version: what the client has seen last.
            label_map: (H, W) uint8 class ids, 255 = unlabelled.

        Raises:
            Refusal: another window has changed it since.
        """
        with self._changing(i, version) as before:
            label = Label(max(before.version + 1, int(time.time() * 1000)), state, strokes)
            write_mask(self._label_map(i), self.project.as_in_files(label_map))
            write_json(self._file(i), vars(label))
            self._states[i] = state
        return label

    def delete(self, i: int, version: int) -> None:
        """
        Raises:
            Refusal: another window has changed it since.
        """
        with self._changing(i, version):
            self._label_map(i).unlink(missing_ok=True)
            self._file(i).unlink(missing_ok=True)
            self._states.pop(i, None)

    @contextlib.contextmanager
    def _changing(self, i: int, version: int) -> Iterator[Label]:
        own = self.project.own("labels.lock")
        own.parent.mkdir(parents=True, exist_ok=True)
        try:
            with self._mine, FileLock(own, timeout=10):
                before = self.get(i)
                if before.version != version:
                    error = "Another window has changed this image. Its labels are loaded again."
                    raise Refusal(409, error, vars(before))
                yield before
        except Timeout:
            raise Refusal(409, "Another server writes the labels of this run. Try again.") from None

    def _file(self, i: int) -> Path:
        return self.project.own("strokes", f"{self.project.table.ids[i]}.json")

    def _label_map(self, i: int) -> Path:
        return self.project.inside(self.project.run.mask(LABELS, self.project.table.ids[i]))


def parse_mask(value: object, num_classes: int, size: tuple[int, int]) -> np.ndarray:
    """A whole mask that a client sends: a grey PNG of class ids, in base64.

    Args:
        size: (height, width) of the image. The mask is brought to it.

    Raises:
        Refusal: it is not such a mask.
    """
    if not isinstance(value, str) or len(value) > MOST_MASK:
        raise Refusal(400, "mask is not a PNG file in base64. Reload the page.")
    try:
        data = base64.b64decode(value.encode("ascii"), validate=True)
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            shape = (image.height, image.width)
            larger = max(shape) > max(4096, *size)
            if larger or image.mode not in ("L", "P") or not proportional(shape, size):
                raise Refusal(400, "mask does not fit its image. Reload the page.")
            mask = np.array(image)
    except (ValueError, OSError, SyntaxError, binascii.Error, Image.DecompressionBombError, MemoryError):
        raise Refusal(400, "mask is not a PNG file in base64. Reload the page.") from None
    if mask.dtype != np.uint8 or ((mask >= num_classes) & (mask != IGNORE)).any():
        raise Refusal(400, "mask holds ids that are no class of this run. Reload the page.")
    return resize_mask(mask, size)
