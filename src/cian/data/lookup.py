"""Files by the names that users give them."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

from cian.data.images import IMAGE_SUFFIXES, find_files, find_images
from cian.data.problems import ProblemList, file_error, show

MISSING, AMBIGUOUS = -1, -2


class FileIndex:
    """Files under a folder, found by each name that a user may give them."""

    def __init__(self, root: Path, files: list[Path]):
        self.files = files
        below = len(str(root / "_")) - 1  # slicing is ten times faster than `relative_to`
        self.paths = [unicodedata.normalize("NFC", str(file)[below:].replace(os.sep, "/")) for file in files]
        self.ids = [path.rpartition(".")[0] for path in self.paths]
        self._rows: dict[str, int] = {}
        self._name(self.paths)
        self._name(self.ids)
        self._name(path.rpartition("/")[2] for path in self.paths)
        self._name(name.rpartition("/")[2] for name in self.ids)
        roots = (root.absolute().as_posix(), root.as_posix(), root.absolute().name)
        self._roots = tuple(unicodedata.normalize("NFC", name) + "/" for name in roots)

    def __len__(self) -> int:
        return len(self.files)

    def find(self, name: str) -> int:
        """The row of the file that is called so, or MISSING, or AMBIGUOUS."""
        key = unicodedata.normalize("NFC", name)
        row = self._rows.get(key, MISSING)
        if row == MISSING:
            key = key.replace("\\", "/").removeprefix("./")
            row = self._rows.get(key, MISSING)
        if row == MISSING:
            for root in self._roots:
                if key.startswith(root):
                    row = self._rows.get(key.removeprefix(root), MISSING)
                    break
        return row

    def _name(self, keys: Iterable[str]) -> None:
        """One more kind of name; the earlier kinds take precedence."""
        fresh: dict[str, int] = {}
        for row, key in enumerate(keys):
            if key not in self._rows:
                fresh[key] = AMBIGUOUS if key in fresh else row
        self._rows.update(fresh)


def index_images(folder: Path) -> FileIndex:
    """The images of a folder.

    Raises:
        CianError: the folder cannot be read, or there is none in it.
    """
    files = find_images(folder)
    if not files:
        known = ", ".join(sorted(suffix[1:] for suffix in IMAGE_SUFFIXES))
        raise file_error(folder, "no image in this folder", f"Give a folder with images ({known})")
    return FileIndex(folder, files)


def find_image(name: str, images: FileIndex, where: str, problems: ProblemList) -> int | None:
    """The row of the image that is called so at `where`; None, and a problem, unless there is exactly one."""
    row = images.find(name)
    if row >= 0:
        return row
    if row == AMBIGUOUS:
        problems.add(where, f"several images are called {show(name)}", "Write its folder and its suffix too")
    else:
        problems.add(where, f"there is no image {show(name)}", "Correct the name (case matters) or remove the line")
    return None


def find_masks(folder: Path | None, ids: Sequence[str], problems: ProblemList) -> list[Path | None]:
    """The mask of each image: FOLDER/ID.png, else the one that is called as the image in some other folder."""
    masks: list[Path | None] = [None] * len(ids)
    if folder is None:
        return masks
    with problems.collecting():
        index = FileIndex(folder, find_files(folder, (".png",)))
        owner: dict[int, str] = {}
        for i, name in enumerate(ids):
            row = index.find(name)
            if row == MISSING:
                row = index.find(name.rpartition("/")[2])
            if row == AMBIGUOUS:
                problems.add(folder, f"several masks fit image {show(name)}", "Keep the one at ID.png")
            elif row >= 0 and row in owner:
                problems.add(index.files[row], f"fits the images {owner[row]} and {name}", "Store masks as ID.png")
            elif row >= 0:
                owner[row] = name
                masks[i] = index.files[row]
        if not owner and ids:
            problems.add(folder, "no mask fits any image", f"Store masks as ID.png, e.g. {ids[0]}.png")
    return masks
