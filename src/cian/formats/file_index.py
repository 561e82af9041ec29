"""Files by the names that users give them."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from urllib.parse import parse_qsl, unquote

from cian.data.images import KNOWN_SUFFIXES, READ, find_all_images, unread_cure
from cian.data.problems import ProblemList, file_error, quoted
from cian.formats.text import visible

MISSING, AMBIGUOUS = -1, -2
NO_IMAGE = "Correct the name or remove the line"
_UPLOAD = re.compile(r"[0-9a-f]{8}-(?=.)")  # Label Studio puts it before the name of an uploaded file


class FileIndex:
    """Files under a folder, found by each name that a user may give them.

    Args:
        unread: further images, of kinds that cian does not read.

    Attributes:
        guesses: names that files were found by although they differ, and the rows of these files. `find_image` fills
            it.
    """

    def __init__(self, root: Path, files: list[Path], unread: list[Path] | None = None):
        self.root, self.files = root, files
        self.unread = FileIndex(root, unread) if unread else None
        self.guesses: dict[str, int] = {}
        below = len(str(root / "_")) - 1  # slicing is ten times faster than `relative_to`
        self.paths = [unicodedata.normalize("NFC", str(file)[below:].replace(os.sep, "/")) for file in files]
        self.ids = [_without_suffix(path) for path in self.paths]
        self._rows: dict[str, int] = {}
        self._guessing = False
        names = (path.rpartition("/")[2] for path in self.paths)
        for kind in (self.paths, self.ids, names, (name.rpartition("/")[2] for name in self.ids)):
            _add_kind(self._rows, kind)
        roots = (root.absolute().as_posix(), root.as_posix(), root.absolute().name)
        self._roots = tuple(unicodedata.normalize("NFC", name) + "/" for name in roots)

    def __len__(self) -> int:
        return len(self.files)

    def find(self, name: str) -> int:
        """The row of the file with this name, or MISSING, or AMBIGUOUS.

        A name may differ from that of the file as systems and programs change names, if it then fits one file alone: in
        case, suffix or leading zeros, encoded for the web, or with what an upload puts before it.
        """
        row = self._find(name)
        if row != MISSING or (self.unread is not None and self.unread._find(name) != MISSING):
            return row
        for spelling in spellings(name):
            row = self._find_alike(spelling)
            if row == MISSING:
                last = spelling.rpartition("/")[2]
                if _UPLOAD.match(last):  # prefixes of both would make one file of two uploads
                    row = self._find_alike(_UPLOAD.sub("", last))
                elif self._uploads:
                    row = self._uploads.get(_alike(last), MISSING)
            if row != MISSING:
                self._guessing = True
                return row
        return MISSING

    def is_guess(self, name: str) -> bool:
        """Whether a name that `find` found differs from that of the file."""
        return self._guessing and self._find(name) == MISSING

    def nearest(self, name: str) -> str | None:
        """The path of the one file whose name has the same letters and digits."""
        letters = _letters(name)
        row = self._by_letters.get(letters, MISSING) if letters else MISSING
        return self.paths[row] if row >= 0 else None

    def _find(self, name: str) -> int:
        key = unicodedata.normalize("NFC", name)
        row = self._rows.get(key, MISSING)
        if row == MISSING:
            key = visible(key).replace("\\", "/").removeprefix("./")
            row = self._rows.get(key, MISSING)
        if row == MISSING and key.rpartition("/")[2] not in self._rows:
            return MISSING  # no path that ends so, either
        if row == MISSING:
            for root in self._roots:
                if key.startswith(root):
                    row = self._rows.get(key.removeprefix(root), MISSING)
                    break
        if row == MISSING:  # a path on the machine where the images were tagged, which ends in the file's path here
            ends = ((end, self._rows.get(end, MISSING)) for end in path_ends(key))
            row = next((row for end, row in ends if row >= 0 and end in (self.paths[row], self.ids[row])), MISSING)
        return row

    def _find_alike(self, name: str) -> int:
        row = self._find(name)
        if row == MISSING:
            key = _alike(name)
            if key.rpartition("/")[2] not in self._rows_alike:
                return MISSING
            row = self._rows_alike.get(key, MISSING)
            ends = ((end, self._rows_alike.get(end, MISSING)) for end in path_ends(key) if row == MISSING)
            row = next((found for end, found in ends if found >= 0 and end == _alike(self.paths[found])), row)
        return row

    # These are made only if a name is not found.
    @cached_property
    def _rows_alike(self) -> dict[str, int]:
        """The rows of files by `_alike` of their paths and names, and by what uploads make of their names."""
        keys = [_alike(path) for path in self.paths]
        names = [key.rpartition("/")[2] for key in keys]
        rows: dict[str, int] = {}
        for kind in (keys, names, map(_uploaded, names)):
            _add_kind(rows, kind)
        return rows

    @cached_property
    def _uploads(self) -> dict[str, int]:
        """The rows of uploaded files by `_alike` of their names without what the upload put before them."""
        rows: dict[str, int] = {}
        for row, path in enumerate(self.paths):
            name = _alike(path).rpartition("/")[2]
            if _UPLOAD.match(name):
                plain = _UPLOAD.sub("", name)
                rows[plain] = AMBIGUOUS if plain in rows else row
        return rows

    @cached_property
    def _by_letters(self) -> dict[str, int]:
        rows: dict[str, int] = {}
        _add_kind(rows, map(_letters, self.paths))
        return rows


def _add_kind(rows: dict[str, int], keys: Iterable[str]) -> None:
    """Adds one more kind of name. Earlier kinds take precedence."""
    fresh: dict[str, int] = {}
    for row, key in enumerate(keys):
        if key not in rows:
            fresh[key] = AMBIGUOUS if key in fresh else row
    rows.update(fresh)


def spellings(name: str) -> Iterator[str]:
    """What a name may stand for: itself, a name encoded for the web, or the file of a web address."""
    plain = visible(name).replace("\\", "/")
    path, _, query = plain.partition("?")
    values = [value for _, value in parse_qsl(query)] if query else ()  # /data/local-files/?d=photos/a.jpg
    for spelling in dict.fromkeys((name, unquote(plain), unquote(path), *values)):
        yield spelling
        if "://" in spelling:
            yield spelling.rpartition("/")[2]


def _alike(path: str) -> str:
    """The same text for names that differ in case, in the suffix of an image, or in zeros before a number."""
    path = unquote(path).replace("\\", "/").casefold()
    path = path if path.isascii() else unicodedata.normalize("NFC", path)
    stem, dot, suffix = path.rpartition(".")
    path = stem if f"{dot}{suffix}" in KNOWN_SUFFIXES else path
    folder, slash, name = path.rpartition("/")
    number = re.fullmatch(r"0*([0-9]+)(?:\.0)?", name)  # spreadsheets make 1 or 1.0 of 0001
    return f"{folder}{slash}{number[1]}" if number else path


def _uploaded(name: str) -> str:
    """The name that an uploaded file gets (as Django's `get_valid_filename` makes it)."""
    return re.sub(r"[^-\w.]", "", name.strip().replace(" ", "_"))


def _letters(path: str) -> str:
    return re.sub(r"[\W_]+", "", _alike(path).rpartition("/")[2])


def _without_suffix(path: str) -> str:
    start, dot, end = path.rpartition(".")
    return start if dot and "/" not in end else path


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
        raise file_error(folder, "no image in this folder", f"Give a folder with images ({READ})")
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
        near = images.nearest(name)
        return f"there is no image {quoted(name)}" + (f", but {quoted(near)} exists" if near else ""), cure
    suffix = images.unread.files[row].suffix.lower()
    return f"{quoted(name)} exists, but cian does not read {suffix}", unread_cure([suffix])


def find_image(name: str, images: FileIndex, where: str, problems: ProblemList) -> int | None:
    """The row of the image with this name; None, and a problem at `where`, unless there is exactly one."""
    row = images.find(name)
    if row < 0:
        report_missing(name, row, images, where, problems)
        return None
    if images.is_guess(name):
        images.guesses[name] = row
    return row


def report_missing(name: str, row: int, images: FileIndex, where: str, problems: ProblemList) -> None:
    """Adds the problem that no image, or more than one, has this name. `row` is MISSING or AMBIGUOUS."""
    if row == AMBIGUOUS:
        problems.add(where, f"several images are called {quoted(name)}", "Write its folder and its suffix")
    else:
        problems.add(where, *no_image(name, images, NO_IMAGE))


def note_guesses(images: FileIndex, problems: ProblemList) -> None:
    """Notes that names of images differ from those of the files."""
    if images.guesses:
        shown = [f"{quoted(name)} is {quoted(images.paths[row])}" for name, row in islice(images.guesses.items(), 3)]
        count = len(images.guesses)
        value = f"{count} name{'s differ' if count > 1 else ' differs'} from that of the file: {', '.join(shown)}"
        problems.add(images.root, value + ", …" * (count > 3), "Correct the names if this is wrong", fatal=False)


def path_ends(path: str) -> Iterator[str]:
    """The path, and what follows each of its slashes: a/b/c, b/c, c."""
    yield path
    while "/" in path:
        path = path.partition("/")[2]
        yield path
