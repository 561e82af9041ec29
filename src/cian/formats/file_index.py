"""Files by the names that users give them."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from cian.data.images import IMAGE_SUFFIXES, find_all_images, unread_cure
from cian.data.problems import ProblemList, file_error, quoted
from cian.formats.text import visible

MISSING, AMBIGUOUS = -1, -2
NO_IMAGE = "Correct the name (case matters) or remove the line"


class FileIndex:
    """Files under a folder, found by each name that a user may give them.

    Args:
        unread: further images, of kinds that cian does not read.
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
        """The row of the file with this name, or MISSING, or AMBIGUOUS."""
        key = unicodedata.normalize("NFC", name)
        row = self._rows.get(key, MISSING)
        if row == MISSING:
            key = visible(key).replace("\\", "/").removeprefix("./")
            row = self._rows.get(key, MISSING)
        if row == MISSING:
            for root in self._roots:
                if key.startswith(root):
                    row = self._rows.get(key.removeprefix(root), MISSING)
                    break
        if row == MISSING:  # a path on the machine where the images were tagged, which ends in the file's path here
            ends = ((end, self._rows.get(end, MISSING)) for end in path_ends(key))
            row = next((row for end, row in ends if row >= 0 and end in (self.paths[row], self.ids[row])), MISSING)
        return row

    def _name(self, keys: Iterable[str]) -> None:
        """Adds one more kind of name. Earlier kinds take precedence."""
        fresh: dict[str, int] = {}
        for row, key in enumerate(keys):
            if key not in self._rows:
                fresh[key] = AMBIGUOUS if key in fresh else row
        self._rows.update(fresh)


def index_images(folder: Path, within: Sequence[str] = (), without: Sequence[Path] = ()) -> FileIndex:
    """The images of a folder, or of some of its sub-folders.

    Args:
        within: the sub-folders, by their paths in the folder; empty = all.
        without: folders to leave out, such as those of the masks.

    Raises:
        FileError: a folder cannot be read, or holds no images.
    """
    parts = [find_all_images(folder / part) for part in within or ("",)]
    root = folder.resolve()
    inner = [part.resolve().relative_to(root) for part in without if part.resolve().is_relative_to(root)]
    others = tuple(f"{folder / part}{os.sep}" for part in inner if part != Path())
    files, unread = ([file for part in parts for file in part[i] if not str(file).startswith(others)] for i in (0, 1))
    if unread and not files:
        value, cure = skipped(unread)
        raise file_error(folder, f"no image in this folder; {value}", cure)
    if not files:
        known = ", ".join(sorted(suffix[1:] for suffix in IMAGE_SUFFIXES))
        raise file_error(folder, "no image in this folder", f"Give a folder with images ({known})")
    return FileIndex(folder, files, unread)


def skipped(unread: Sequence[Path]) -> tuple[str, str]:
    """(value, cure) of the problem that images of some kinds are not read."""
    suffixes = sorted({file.suffix.lower() for file in unread})
    count = f"{len(unread)} file{'s' * (len(unread) > 1)}"
    return f"{count} skipped, because cian does not read {', '.join(suffixes)}", unread_cure(suffixes)


def no_image(name: str, images: FileIndex, cure: str) -> tuple[str, str]:
    """(value, cure) of the problem that no image has this name, or that its image is of a kind that is not read."""
    row = MISSING if images.unread is None else images.unread.find(name)
    if images.unread is None or row < 0:
        return f"there is no image {quoted(name)}", cure
    suffix = images.unread.files[row].suffix.lower()
    return f"{quoted(name)} exists, but cian does not read {suffix}", unread_cure([suffix])


def find_image(name: str, images: FileIndex, where: str, problems: ProblemList) -> int | None:
    """The row of the image with this name; None, and a problem at `where`, unless there is exactly one."""
    row = images.find(name)
    if row < 0:
        report_missing(name, row, images, where, problems)
        return None
    return row


def report_missing(name: str, row: int, images: FileIndex, where: str, problems: ProblemList) -> None:
    """Adds the problem that no image, or more than one, has this name. `row` is MISSING or AMBIGUOUS."""
    if row == AMBIGUOUS:
        problems.add(where, f"several images are called {quoted(name)}", "Write its folder and its suffix")
    else:
        problems.add(where, *no_image(name, images, NO_IMAGE))


def path_ends(path: str) -> Iterator[str]:
    """The path, and what follows each of its slashes: a/b/c, b/c, c."""
    yield path
    while "/" in path:
        path = path.partition("/")[2]
        yield path
