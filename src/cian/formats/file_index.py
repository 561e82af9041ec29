"""Files by the names that users give them."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from cian.data.images import IMAGE_SUFFIXES, find_files, find_pictures, unread_cure
from cian.data.problems import ProblemList, file_error, quoted

MISSING, AMBIGUOUS = -1, -2
NO_IMAGE = "Correct the name (case matters) or remove the line"


class FileIndex:
    """Files under a folder, found by each name that a user may give them.

    Args:
        unread: pictures that are there too, but of kinds that are not read.
    """

    def __init__(self, root: Path, files: list[Path], unread: list[Path] | None = None):
        self.files = files
        self.unread = FileIndex(root, unread) if unread else None
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
        if row == MISSING:  # a path on the machine of whoever tagged it, which ends in the file's path here
            ends = ((end, self._rows.get(end, MISSING)) for end in _ends(key))
            row = next((row for end, row in ends if row >= 0 and end in (self.paths[row], self.ids[row])), MISSING)
        return row

    def _name(self, keys: Iterable[str]) -> None:
        """One more kind of name; the earlier kinds take precedence."""
        fresh: dict[str, int] = {}
        for row, key in enumerate(keys):
            if key not in self._rows:
                fresh[key] = AMBIGUOUS if key in fresh else row
        self._rows.update(fresh)


def index_images(folder: Path, within: Sequence[str] = (), without: Sequence[Path] = ()) -> FileIndex:
    """The images of a folder, or of some of its sub-folders.

    Args:
        within: the sub-folders, by their path in it.
        without: folders that are left out, such as those of the masks.

    Raises:
        CianError: a folder cannot be read, or there is none in it.
    """
    parts = [find_pictures(folder / part) for part in within or ("",)]
    root = folder.resolve()
    inner = [part.resolve().relative_to(root) for part in without if part.resolve().is_relative_to(root)]
    others = tuple(f"{folder / part}{os.sep}" for part in inner if part != Path())
    files, unread = ([file for part in parts for file in part[i] if not str(file).startswith(others)] for i in (0, 1))
    if unread and not files:
        value, cure = skipped(unread)
        raise file_error(folder, f"no image in this folder, {value}", cure)
    if not files:
        known = ", ".join(sorted(suffix[1:] for suffix in IMAGE_SUFFIXES))
        raise file_error(folder, "no image in this folder", f"Give a folder with images ({known})")
    return FileIndex(folder, files, unread)


def skipped(unread: Sequence[Path]) -> tuple[str, str]:
    """(value, cure) of the problem that pictures are not read."""
    suffixes = sorted({file.suffix.lower() for file in unread})
    count = f"{len(unread)} file{'s' * (len(unread) > 1)}"
    return f"{count} skipped ({', '.join(suffixes)}): not read", unread_cure(suffixes)


def no_image(name: str, images: FileIndex, cure: str) -> tuple[str, str]:
    """(value, cure) of the problem that no image is called so; its file may be there, but not be read."""
    row = MISSING if images.unread is None else images.unread.find(name)
    if images.unread is None or row < 0:
        return f"there is no image {quoted(name)}", cure
    suffix = images.unread.files[row].suffix.lower()
    return f"{quoted(name)} is there, but {suffix} is not read", unread_cure([suffix])


def find_image(name: str, images: FileIndex, where: str, problems: ProblemList) -> int | None:
    """The row of the image that is called so at `where`; None, and a problem, unless there is exactly one."""
    row = images.find(name)
    if row >= 0:
        return row
    if row == AMBIGUOUS:
        problems.add(where, f"several images are called {quoted(name)}", "Write its folder and its suffix too")
    else:
        problems.add(where, *no_image(name, images, NO_IMAGE))
    return None


def find_masks(folders: Sequence[Path], ids: Sequence[str], problems: ProblemList) -> list[Path | None]:
    """The mask of each image, from the first folder that has one."""
    masks: list[Path | None] = [None] * len(ids)
    listed: list[str] = []
    for folder in folders:
        with problems.collecting():
            _add_masks(folder, ids, masks, problems)
            listed.append(str(folder))
    if listed and ids and not any(masks):
        problems.add(" and ".join(listed), "no mask fits any image", f"Store masks as ID.png, e.g. {ids[0]}.png")
    return masks


def _add_masks(folder: Path, ids: Sequence[str], masks: list[Path | None], problems: ProblemList) -> None:
    """For images without: FOLDER/ID.png; else a mask of no other image, where one path ends in the other."""
    index = FileIndex(folder, find_files(folder, (".png",)) or find_files(folder, (".mat",)))
    whole: dict[str, int] = {}
    for row, mask_id in enumerate(index.ids):
        whole[mask_id] = AMBIGUOUS if mask_id in whole else row
    owner: dict[int, str] = {}
    for i, name in enumerate(ids):
        row = whole.get(name, MISSING)
        if row >= 0:
            owner[row] = name
            masks[i] = masks[i] or index.files[row]
    if all(masks) or len(owner) == len(index):
        return
    left = {mask_id: row for mask_id, row in whole.items() if row not in owner}
    ends: dict[str, int] = {}
    for row, mask_id in enumerate(index.ids):
        if row not in owner:
            for end in _ends(mask_id):
                ends[end] = AMBIGUOUS if end in ends else row
    for i, name in enumerate(ids):
        if masks[i] is not None:
            continue
        row = ends.get(name, MISSING)
        if row == MISSING:
            row = next((left[end] for end in _ends(name) if end in left), MISSING)
        if row == AMBIGUOUS:
            problems.add(folder, f"several masks fit image {quoted(name)}", "Keep the one at ID.png")
        elif row >= 0 and row in owner:
            problems.add(index.files[row], f"fits the images {owner[row]} and {name}", "Store masks as ID.png")
        elif row >= 0:
            owner[row] = name
            masks[i] = index.files[row]


def _ends(path: str) -> Iterator[str]:
    """The path, and what follows each of its slashes."""
    yield path
    while "/" in path:
        path = path.partition("/")[2]
        yield path
