"""What people label: strokes to go on from, and the label maps that the next run learns from.

    RUN/labels/ID.png        the label map: what the strokes say, or the whole mask once it is approved; 255 elsewhere
    RUN/app/strokes/ID.json  the strokes, the state, and which label map they belong to

The version of a label is a fingerprint of both files. Whoever changes another version than the stored one is refused,
so two windows cannot undo each other's work. If another program changes a label map, its strokes no longer count.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import io
import threading
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
from cian.data.known_files import fingerprint_of
from cian.data.masks import indexed, proportional, resize_mask
from cian.data.table import IGNORE
from cian.errors import CianError
from cian.files import files_in, read_json, write_bytes, write_json

MOST_MASK = 32 * 2**20  # bytes of a mask that a client sends
STATES = ("strokes", "approved")


@dataclass
class Label:
    """
    Attributes:
        version: another one after each change; 0 as long as there is nothing.
        state: "none", "strokes" or "approved".
        strokes: as the page sent them.
    """

    version: int = 0
    state: str = "none"
    strokes: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class _Stored:
    """The file of the strokes.

    Attributes:
        label_maps: fingerprints of their label map and of the one before it, which is still there if the server was
            killed between the two files. Empty: not known, as in files of earlier versions.
    """

    state: str
    strokes: list[dict[str, Any]]
    label_maps: list[str] = field(default_factory=list)


class LabelStore:
    """The labels of a run. Several windows, and several servers, can write to it."""

    def __init__(self, project: Project):
        self.project = project
        self._mine = threading.Lock()
        self._states: dict[int, str] = {}
        places = {image_id: i for i, image_id in enumerate(project.table.ids)}
        labelled: set[str] = set()
        for folder, suffix in ((LABELS, ".png"), ("app/strokes", ".json")):
            root = project.run.path / folder
            names = files_in(root) if root.is_dir() else ()
            labelled |= {name.removesuffix(suffix) for name in names if name.endswith(suffix)}
        for i in (places[image_id] for image_id in labelled & places.keys()):
            with contextlib.suppress(CianError):  # said when the image is opened
                self._states[i] = self.get(i).state

    def states(self) -> dict[int, str]:
        """The state of each image that has labels."""
        return dict(self._states)

    def counts(self) -> dict[str, int]:
        counts = Counter(self._states.values())
        return {state: counts[state] for state in STATES}

    def get(self, i: int) -> Label:
        """The label of an image. If the file of its strokes is damaged, or belongs to another label map, the label map
        counts, without strokes to go on from."""
        file = self._file(i)
        content, label_map = _content(file), _fingerprint(_content(self._label_map(i)))
        if content is None and not label_map:
            return Label()
        both = fingerprint_of(f"{_fingerprint(content)} {label_map}".encode())
        version = 1 + int(both[:12], 16)  # 6 bytes, which JavaScript keeps
        with contextlib.suppress(CianError):
            stored: _Stored = read_json(file, _Stored, text=content or b"")
            if stored.state in STATES and (not stored.label_maps or label_map in stored.label_maps):
                return Label(version, stored.state, stored.strokes)
        return Label(version, "approved" if label_map else "none")

    def put(self, i: int, version: int, state: str, strokes: list[dict[str, Any]], label_map: np.ndarray) -> Label:
        """Stores a label. It is on disk when this returns.

        Args:
            version: what the client has seen last.
            label_map: (H, W) uint8 class ids, 255 = unlabelled.

        Raises:
            Refusal: another window has changed it since (412), or another server writes now.
            OSError: it cannot be written.
        """
        content = io.BytesIO()
        indexed(self.project.as_in_files(label_map)).save(content, format="PNG")
        now = fingerprint_of(content.getvalue())
        with self._changing(i, version):
            stored = _Stored(state, strokes, [now, _fingerprint(_content(self._label_map(i)))])
            write_json(self._file(i), vars(stored))
            write_bytes(self._label_map(i), content.getvalue())
            self._states[i] = state
            return self.get(i)

    def delete(self, i: int, version: int) -> None:
        """
        Raises:
            Refusal: another window has changed it since (412), or another server writes now.
            OSError: it cannot be written.
        """
        with self._changing(i, version):
            self._label_map(i).unlink(missing_ok=True)
            self._file(i).unlink(missing_ok=True)
            self._states.pop(i, None)

    @contextlib.contextmanager
    def _changing(self, i: int, version: int) -> Iterator[None]:
        own = self.project.own("labels.lock")
        own.parent.mkdir(parents=True, exist_ok=True)
        try:
            with self._mine, FileLock(own, timeout=10):
                before = self.get(i)
                if before.version != version:
                    error = "Another window has changed this image. Its labels are loaded again."
                    raise Refusal(412, error, vars(before))
                yield
        except Timeout:
            raise Refusal(409, "Another server writes the labels of this run. Try again.") from None

    def _file(self, i: int) -> Path:
        return self.project.own("strokes", f"{self.project.table.ids[i]}.json")

    def _label_map(self, i: int) -> Path:
        return self.project.inside(self.project.run.mask(LABELS, self.project.table.ids[i]))


def _content(file: Path) -> bytes | None:
    """None if the file cannot be read."""
    try:
        return file.read_bytes()
    except OSError:
        return None


def _fingerprint(content: bytes | None) -> str:
    """Empty if there is no file."""
    return "" if content is None else fingerprint_of(content)


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
