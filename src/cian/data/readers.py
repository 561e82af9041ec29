"""Reads a user's data set into a `Table`: tags from CSV, JSON or folders; splits; masks.

All problems are collected, so that a user can cure them in one go. Every step is a loop over rows with look-ups in
dictionaries: linear in the number of images.
"""

from __future__ import annotations

import csv
import difflib
import functools
import json
import os
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cian.config import DataConfig
from cian.data.images import (
    IMAGE_SUFFIXES,
    FileError,
    file_error,
    find_files,
    find_images,
    printable,
    reason,
    shows,
)
from cian.data.table import BACKGROUND, MAX_CLASSES, TRAIN, Table
from cian.errors import DataError, Problem

IMAGE_HEADERS = ("image", "file", "filename", "path", "id")
ONE_ROW_PER_IMAGE = ("tags", "labels", "classes")
ONE_ROW_PER_TAG = ("tag", "label", "class")
YES = frozenset({"1", "1.0", "true", "yes", "x"})
NO = frozenset({"0", "0.0", "false", "no", ""})
VAL = "val"
MISSING, AMBIGUOUS = -1, -2
_EXAMPLE = "Start it with the line `image,tags`, followed by lines like `photo.jpg,dog;cat`"
_PEEK = 100  # rows that are looked at to tell the layout of a CSV


def read_dataset(config: DataConfig, seed: int) -> tuple[Table | None, list[Problem]]:
    """The table of a data set, and all that is wrong with it; image and mask files are found but not opened.

    Rows name images by file name, by path under `config.images`, or by either without suffix. Names are compared in
    Unicode normal form C. Images without a row are left out, unless a list file of a split other than `train` names
    them: these are kept with `tagged=False`. Images in no list file are left out.

    Returns:
        The table (None if nothing usable is left) and the problems. A table that comes with a fatal problem is good
        to be looked at, not to be trained on.
    """
    problems = ProblemList()
    table = None
    with problems.collecting():
        table = _read(config, seed, problems)
    return table, problems.all()


def class_names(path: Path) -> list[str]:
    """Reads a file with one class name a line, in order of the class ids; a first line `background` is left out.

    Raises:
        CianError: the file cannot be read, or a name is empty, doubled or reserved; all of them at once.
    """
    problems = ProblemList()
    names: dict[str, None] = {}
    lines = [clean(line) for line in read_lines(path)]
    while lines and not lines[-1]:
        lines.pop()
    for number, name in enumerate(lines, start=1):
        where = f"{path}, line {number}"
        if number == 1 and _reserved(name):
            continue
        if not name:
            problems.add(where, "an empty line, but each line is a class id", "Remove the line or write a name")
        elif name in names:
            problems.add(where, f"class {show(name)} occurs twice", "Remove one of them")
        elif not _check_name(name, where, problems):
            continue
        names[name] = None
    if not names:
        problems.add(path, "holds no class name", "Write one class name a line")
    if problems.all():
        raise DataError(problems.all())
    return list(names)


class ProblemList:
    """Collects problems: of each kind (those with the same cure) the first thousand, and the number of the others."""

    MOST = 1000

    def __init__(self) -> None:
        self._kinds: dict[tuple[str, bool], list[Problem]] = {}
        self._counts: Counter[tuple[str, bool]] = Counter()

    def add(self, file: Path | str, value: str, cure: str, fatal: bool = True) -> None:
        self.append(Problem(str(file), value, cure, fatal))

    def append(self, problem: Problem) -> None:
        kind = (problem.cure, problem.fatal)
        self._counts[kind] += 1
        if self._counts[kind] <= self.MOST:
            self._kinds.setdefault(kind, []).append(
                Problem(printable(problem.file), printable(problem.value), problem.cure, problem.fatal)
            )

    def all(self) -> list[Problem]:
        """The problems, kind by kind, fatal ones first."""
        result: list[Problem] = []
        for kind, problems in sorted(self._kinds.items(), key=lambda item: not item[0][1]):
            result += problems
            more = self._counts[kind] - len(problems)
            if more:
                result.append(Problem(problems[-1].file, f"… and {more} more problems of this kind", *kind))
        return result

    @contextmanager
    def collecting(self) -> Iterator[None]:
        """Ends the block at the first file that cannot be used at all, and collects why."""
        try:
            yield
        except FileError as error:
            self.append(error.problem)
        except DataError as error:
            for problem in error.problems:
                self.append(problem)


# ---------------------------------------------------------------------------------------------------- the whole


@dataclass
class _Rows:
    """What the rows say, by image."""

    tags: list[tuple[str, ...] | None]  # None: no row
    splits: list[str | None]  # None: not in the table


def _read(config: DataConfig, seed: int, problems: ProblemList) -> Table | None:
    images, given = None, None
    with problems.collecting():
        _check_settings(config)
    with problems.collecting():
        images = _Index.of_images(config.images)
    with problems.collecting():
        given = class_names(config.classes) if config.classes else None
    if images is None:
        _check_readable(config, problems)
        return None

    source, rows = None, _Rows([None] * len(images), [None] * len(images))
    with problems.collecting():
        opened = _open_tags(config, images, problems)
        _collect(opened, images, rows, problems)
        source = opened
    if config.splits:
        _read_lists(config.splits, images, rows, problems)
    if source is None:
        return None
    _check_rows(config, source, images, rows, problems)
    _check_ids(images, rows, problems)

    kept = [i for i, split in enumerate(rows.splits) if split is not None]
    tags = [rows.tags[i] for i in kept]
    splits = [rows.splits[i] or "" for i in kept]
    if not kept:
        problems.add(source.path, "names no image that exists", "Check data.images, data.tags and data.splits")
        return None
    classes = _classes(config, source, given, tags, problems)
    if not classes:
        return None
    numbers = {name: i for i, name in enumerate(classes, start=1)}
    numbered = [None if row is None else [numbers[name] for name in row if name in numbers] for row in tags]
    if config.val_fraction and not config.splits and not config.split_column:
        _draw_val(numbered, splits, len(classes), config, seed, problems)
    _check_counts(numbered, splits, classes, config, source, problems)
    ids = [images.ids[i] for i in kept]
    masks = _find_masks(config.masks, ids, problems)
    return Table.build(classes, ids, [images.files[i] for i in kept], numbered, splits, masks)


def _check_settings(config: DataConfig) -> None:
    problems = ProblemList()
    if config.images is None:
        problems.add("settings", "data.images is not given", "Give a folder of images")
    ways = {
        "data.splits": bool(config.splits),
        "data.split_column": config.split_column is not None,
        "data.val_fraction": config.val_fraction > 0,
    }
    used = [name for name, is_used in ways.items() if is_used]
    if len(used) > 1:
        problems.add("settings", " and ".join(used) + " are given", "Give one of them: each says what is held out")
    if config.split_column is not None and config.tags is None:
        problems.add("settings", "data.split_column is given without data.tags", "Give the CSV that has this column")
    if problems.all():
        raise DataError(problems.all())


def _check_readable(config: DataConfig, problems: ProblemList) -> None:
    """Without images nothing can be matched; says at least which other files cannot be read."""
    for path in (config.tags, *config.splits.values()):
        if path is not None:
            with problems.collecting():
                text_encoding(path)


def _check_rows(config: DataConfig, source: _Source, images: _Index, rows: _Rows, problems: ProblemList) -> None:
    """Images without a row, and rows without a tag."""
    without: list[str] = []
    held_out = bool(config.splits) or config.split_column is not None
    for i, (tags, split) in enumerate(zip(rows.tags, rows.splits, strict=True)):
        if split is None and tags is None and not config.splits:
            without.append(images.paths[i])
        elif split == TRAIN and tags is None:
            problems.add(images.files[i], "listed for training, but has no tags", f"Add it to {source.path}")
        elif split is not None and tags == () and config.untagged == "error":
            if held_out and split != TRAIN:
                rows.tags[i] = None
            else:
                problems.add(
                    images.files[i],
                    f"has no tag in {source.path}",
                    "Tag it, remove it, or set data.untagged=negative if it shows none of the classes",
                )
    if without:
        count = f"{len(without)} image{'s' * (len(without) > 1)}"
        names = ", ".join(without[:3]) + ", …" * (len(without) > 3)
        if config.tags is None:
            problems.add(source.path, f"{count} in no class folder ({names})", "Move them to the folder of their class")
        else:
            problems.add(
                source.path, f"no row for {count} ({names})", "Add rows, or ignore this: not used", fatal=False
            )


def _check_ids(images: _Index, rows: _Rows, problems: ProblemList) -> None:
    """Two images of one id would overwrite each other's masks; the second is left out."""
    first: dict[str, int] = {}
    for i, name in enumerate(images.ids):
        if rows.splits[i] is None:
            continue
        if not _writable(name):
            problems.add(images.files[i], "the file name is not valid text", "Rename it")
        elif (other := first.setdefault(name, i)) != i:
            pair = f"differs from {images.paths[other]} only in its suffix"
            problems.add(images.files[i], pair, "Rename or remove one of them: both masks would be called alike")
        else:
            continue
        rows.splits[i] = None


def _classes(
    config: DataConfig,
    source: _Source,
    given: list[str] | None,
    tags: Iterable[tuple[str, ...] | None],
    problems: ProblemList,
) -> list[str]:
    """Class names in the order of their ids; empty if there are none or too many."""
    used = dict.fromkeys(name for row in tags for name in row or ())
    sound = [name for name in used if _check_name(name, source.where(name), problems)]
    if given is None:
        classes = sorted(sound)
        _warn_of_lookalikes(classes, config.separator, source, problems)
    else:
        classes = given
        known = set(given)
        unknown = [name for name in sound if name not in known]
        for number, name in enumerate(unknown):
            value = f"tag {show(name)} is not in {config.classes}"
            if number < 100:  # each suggestion compares the tag with all classes
                value += _suggestion(name, given)
            problems.add(source.where(name), value, "Correct the tag, or add it to the classes")
    if not used:
        problems.add(source.path, "gives no tag to any image", "Tag the images: cian learns from tags")
    if len(classes) > MAX_CLASSES:
        problems.add(
            config.classes or source.path,
            f"{len(classes)} classes, but masks hold at most {MAX_CLASSES}",
            "Merge or drop classes; check data.separator if these are not your classes",
        )
        return []
    return classes


def _check_counts(
    tags: Sequence[list[int] | None],
    splits: Sequence[str],
    classes: Sequence[str],
    config: DataConfig,
    source: _Source,
    problems: ProblemList,
) -> None:
    counts = [0] * (len(classes) + 1)
    for row, split in zip(tags, splits, strict=True):
        if split == TRAIN:
            for tag in row or ():
                counts[tag] += 1
    if TRAIN not in splits:
        present = ", ".join(sorted(set(splits))) or "none"
        problems.add(source.path, f"no image in split {TRAIN} (splits: {present})", f"Call one split {TRAIN}")
        return
    for name, count in zip(classes, counts[1:], strict=True):
        if count < config.min_images:
            problems.add(
                source.where(name),
                f"class {show(name)} has {count} training image{'s' * (count != 1)}, fewer than {config.min_images}",
                "Add images, drop the class, or lower data.min_images",
            )


def _draw_val(
    tags: Sequence[list[int] | None],
    splits: list[str],
    num_classes: int,
    config: DataConfig,
    seed: int,
    problems: ProblemList,
) -> None:
    """Moves a fraction of the images to `val`, as long as each of their classes keeps enough for training."""
    left = [0] * (num_classes + 1)
    for row in tags:
        for tag in row or ():
            left[tag] += 1
    wanted = max(1, round(config.val_fraction * len(splits)))
    drawn = 0
    for i in np.random.default_rng(seed).permutation(len(splits)).tolist():
        if drawn == wanted:
            break
        row = tags[i] or []
        if all(left[tag] > config.min_images for tag in row) and drawn < len(splits) - 1:
            for tag in row:
                left[tag] -= 1
            splits[i] = VAL
            drawn += 1
    if drawn < wanted:
        value = f"data.val_fraction={config.val_fraction} asks for {wanted} images, {drawn} could be held out"
        problems.add("settings", value, "Add images of the rare classes, or lower data.val_fraction", fatal=False)


# ------------------------------------------------------------------------------------------------ names and files


class _Index:
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

    @classmethod
    def of_images(cls, root: Path | None) -> _Index | None:
        """Raises CianError if there is no image."""
        if root is None:
            return None
        files = find_images(root)
        if not files:
            known = ", ".join(sorted(suffix[1:] for suffix in IMAGE_SUFFIXES))
            raise file_error(root, "no image in this folder", f"Give a folder with images ({known})")
        return cls(root, files)

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


def _look_up(name: str, index: _Index, where: str, problems: ProblemList) -> int | None:
    """The row of an image; if there is none, a problem."""
    row = index.find(name)
    if row >= 0:
        return row
    if row == AMBIGUOUS:
        problems.add(where, f"several images are called {show(name)}", "Write its folder and its suffix too")
    else:
        problems.add(where, f"there is no image {show(name)}", "Correct the name (case matters) or remove the line")
    return None


def _find_masks(folder: Path | None, ids: Sequence[str], problems: ProblemList) -> list[Path | None]:
    """The mask of each image: FOLDER/ID.png, else the one that is called as the image in some other folder."""
    masks: list[Path | None] = [None] * len(ids)
    if folder is None:
        return masks
    index = None
    with problems.collecting():
        index = _Index(folder, find_files(folder, (".png",)))
    if index is None:
        return masks
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


def clean(text: str) -> str:
    """Unicode normal form C, with single spaces."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def show(text: str, most: int = 80) -> str:
    """Quoted for a message, and cut if long."""
    return f"'{printable(text if len(text) <= most else text[: most - 1] + '…')}'"


def _writable(name: str) -> bool:
    """Neither control characters nor what cannot be encoded."""
    return name.isprintable() or all(map(shows, name))


def _reserved(name: str) -> bool:
    return name.casefold() == BACKGROUND


def _check_name(name: str, where: str, problems: ProblemList) -> bool:
    if _reserved(name):
        problems.add(where, f"the name {show(name)} is reserved for class id 0", "Remove or rename this tag")
    elif not _writable(name):
        problems.add(where, f"{show(name)} is not a class name", "Use letters, digits, spaces and signs")
    else:
        return True
    return False


def _warn_of_lookalikes(classes: Sequence[str], separator: str, source: _Source, problems: ProblemList) -> None:
    seen: dict[str, str] = {}
    for name in classes:
        other = seen.setdefault(name.casefold(), name)
        if other != name:
            value = f"classes {show(other)} and {show(name)} differ in case only"
            problems.add(source.where(name), value, "Write them alike if they are one class", fatal=False)
    for sign in ",;|":
        holders = [name for name in classes if sign in name]
        if holders and sign != separator:
            value = f"the tag {show(holders[0])} holds {show(sign)}"
            cure = f"If these are several tags, set data.separator='{sign}'"
            problems.add(source.where(holders[0]), value, cure, fatal=False)


def _suggestion(name: str, names: Sequence[str]) -> str:
    match = difflib.get_close_matches(name, names, n=1) or [other for other in names if other.lower() == name.lower()]
    return f" (did you mean {show(match[0])}?)" if match else ""


# --------------------------------------------------------------------------------------------------- text files


def text_encoding(path: Path) -> str:
    """UTF-8, UTF-16 with a byte order mark (Excel's "Unicode text"), or else Windows-1252.

    Raises:
        CianError: the file cannot be read, or it is not text.
    """
    try:
        if path.exists() and not path.is_file():
            raise file_error(path, "is not a file", "Give a text file")
        with path.open("rb") as file:
            wide = file.read(2) in (b"\xff\xfe", b"\xfe\xff")
        for encoding in ("utf-16",) if wide else ("utf-8-sig", "cp1252"):
            if _decodes(path, encoding):
                return encoding
    except (OSError, ValueError) as error:
        raise file_error(path, f"cannot be read ({reason(error)})", "Give a readable text file") from None
    raise file_error(path, "is not a text file", "Save it as text in UTF-8 (from a spreadsheet: as CSV)")


def _decodes(path: Path, encoding: str) -> bool:
    try:
        with path.open(encoding=encoding, newline="") as file:
            while block := file.read(1 << 20):
                if "\0" in block:
                    return False
    except UnicodeError:
        return False
    return True


def read_lines(path: Path) -> list[str]:
    """The lines of a text file.

    Raises:
        CianError: the file cannot be read, or it is not text.
    """
    with path.open(encoding=text_encoding(path)) as file:
        return file.read().split("\n")


def _read_lists(splits: dict[str, Path], images: _Index, rows: _Rows, problems: ProblemList) -> None:
    """Sets `rows.splits` from list files, one image a line."""
    rows.splits[:] = [None] * len(images)
    for split, path in splits.items():
        with problems.collecting():
            for number, line in enumerate(read_lines(path), start=1):
                if not line.strip():
                    continue
                where = f"{path}, line {number}"
                row = _look_up(line.strip(), images, where, problems)
                if row is None:
                    continue
                other = rows.splits[row]
                if other not in (None, split):
                    problems.add(where, f"{show(line.strip())} is in split {other} too", "Keep it in one split")
                else:
                    rows.splits[row] = split


# ---------------------------------------------------------------------------------------------------------- tags


class _Row(NamedTuple):
    line: int
    image: str
    tags: tuple[str, ...]
    split: str = TRAIN


@dataclass
class _Source:
    """Rows of tags, from wherever they come.

    Attributes:
        path: the file, or the folder.
        rows: the rows, read while they are iterated over; raises FileError where the file is broken.
        merge: the tags of several rows of one image are united (one row per image and tag).
        unit: what a row's number counts, e.g. "line".
        first: where each tag occurs first.
    """

    path: Path
    rows: Iterable[_Row]
    merge: bool = False
    unit: str = "line"
    first: dict[str, int] = field(default_factory=dict)

    def at(self, line: int) -> str:
        return f"{self.path}, {self.unit} {line}" if self.unit else str(self.path)

    def where(self, tag: str) -> str:
        """Where the tag occurs first."""
        return self.at(self.first[tag]) if tag in self.first else str(self.path)


def _open_tags(config: DataConfig, images: _Index, problems: ProblemList) -> _Source:
    if config.tags is None:
        assert config.images is not None
        return _Source(config.images, _folder_rows(images), unit="")
    if config.tags.suffix.lower() == ".json":
        return _Source(config.tags, _json_rows(config.tags, config, problems), unit="entry")
    return _open_csv(config.tags, config, images, problems)


def _collect(source: _Source, images: _Index, rows: _Rows, problems: ProblemList) -> None:
    """Sorts the rows by image into `rows`."""
    number = 0
    for number, row in enumerate(source.rows, start=1):  # noqa: B007
        for tag in row.tags:
            source.first.setdefault(tag, row.line)
        index = _look_up(row.image, images, source.at(row.line), problems)
        if index is None:
            continue
        before = rows.tags[index]
        if before is None:
            rows.tags[index] = row.tags
            rows.splits[index] = row.split
            continue
        if source.merge:
            rows.tags[index] = before + tuple(tag for tag in row.tags if tag not in before)
        elif set(before) != set(row.tags):
            value = (
                f"{show(row.image)} had other tags before ({show(', '.join(before))}, now {show(', '.join(row.tags))})"
            )
            cure = "Keep one row per image, or call the column `tag` if each row is one image and one tag"
            problems.add(source.at(row.line), value, cure)
        if rows.splits[index] != row.split:
            value = f"{show(row.image)} is in split {show(rows.splits[index] or '')} too"
            problems.add(source.at(row.line), value, "Keep it in one split")
    if not number and source.unit:
        problems.add(source.path, "holds no rows", _EXAMPLE)


def _folder_rows(images: _Index) -> Iterator[_Row]:
    """A folder per class: the first folder in an image's path is its tag."""
    for path in images.paths:
        folder, slash, _ = path.partition("/")
        if slash:
            yield _Row(0, path, (clean(folder),))


@functools.lru_cache(1 << 16)  # most images share their tags with others
def split_tags(cell: str, separator: str) -> tuple[str, ...]:
    """The tags in a cell, each once, in their order."""
    return _distinct(cell.split(separator))


def _distinct(names: Iterable[str]) -> tuple[str, ...]:
    cleaned = map(clean, names)
    return tuple(dict.fromkeys(sys.intern(name) for name in cleaned if name))


@dataclass(frozen=True)
class _Layout:
    """Which columns of a CSV hold what."""

    header: bool
    width: int
    image: int
    tags: int | None  # None: one column per class
    flags: tuple[tuple[int, str], ...]  # (column, class)
    split: int | None
    merge: bool


def _open_csv(path: Path, config: DataConfig, images: _Index, problems: ProblemList) -> _Source:
    encoding = text_encoding(path)
    if encoding == "cp1252":
        problems.add(path, "is not UTF-8, read as Windows-1252", "Save it as UTF-8 if names look wrong", fatal=False)
    with path.open(encoding=encoding, newline="") as file:
        first = next((line for line in file if line.strip('\t,;" \r\n')), "")
        delimiter = _delimiter(path, first)
        file.seek(0)
        head = [cells for _, cells in islice(_cells(path, csv.reader(file, delimiter=delimiter)), _PEEK)]
    layout = _layout(path, head, config, images)
    rows = _csv_rows(path, encoding, delimiter, layout, config.separator, problems)
    return _Source(path, rows, layout.merge)


def _delimiter(path: Path, line: str) -> str:
    """Tab, comma or semicolon: the one that cuts out a known header, else the first that occurs outside quotes."""
    cut = {
        sign: [cell for _, cells in _cells(path, csv.reader([line], delimiter=sign)) for cell in cells]
        for sign in "\t,;"
    }
    for sign, cells in cut.items():
        if len(cells) > 1 and any(clean(cell).casefold() in IMAGE_HEADERS for cell in cells):
            return sign
    return next((sign for sign, cells in cut.items() if len(cells) > 1), ",")


def _cells(path: Path, reader: Any) -> Iterator[tuple[int, list[str]]]:
    """(line number, cells) of each row that is not blank."""
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield reader.line_num, cells
    except (csv.Error, UnicodeError, OSError) as error:
        where = f"{path}, line {reader.line_num}"
        raise file_error(where, f"is not CSV ({reason(error)})", "Look for a quote that is not closed") from None


def _layout(path: Path, head: Sequence[Sequence[str]], config: DataConfig, images: _Index) -> _Layout:
    """Tells the layout from the header, and where it says nothing from the first rows."""
    if not head:
        raise file_error(path, "is empty", _EXAMPLE)
    names = [clean(cell) for cell in head[0]]
    keys = [name.casefold() for name in names]
    width = len(names)
    if width < 2:
        raise file_error(path, f"its first line {show(names[0])} has one column only", _EXAMPLE)

    is_file = images.find(names[0]) != MISSING or Path(names[0]).suffix.lower() in IMAGE_SUFFIXES
    if is_file and not set(keys) & set(IMAGE_HEADERS):
        if config.split_column is not None:
            raise file_error(path, f"has no header, so no column {show(config.split_column)}", "Add a header line")
        return _Layout(False, width, 0, 1, (), None, _one_tag_each(head, 1, config.separator))

    image = next((keys.index(key) for key in IMAGE_HEADERS if key in keys), 0)
    split = _split_column(path, names, config.split_column)
    others = [i for i in range(width) if i not in (image, split) and names[i]]
    tags = next((i for key in ONE_ROW_PER_IMAGE + ONE_ROW_PER_TAG for i in others if keys[i] == key), None)
    if tags is not None:
        return _Layout(True, width, image, tags, (), split, keys[tags] in ONE_ROW_PER_TAG)
    if not others:
        raise file_error(path, f"its header {show(', '.join(names))} has no column of tags", _EXAMPLE)
    if len(others) == 1 and not _all_flags(head[1:], others[0]):
        return _Layout(True, width, image, others[0], (), split, _one_tag_each(head[1:], others[0], config.separator))
    doubled = [name for name, count in Counter(names[i] for i in others).items() if count > 1]
    if doubled:
        raise file_error(path, f"column {show(doubled[0])} occurs twice", "Remove one of them")
    return _Layout(True, width, image, None, tuple((i, names[i]) for i in others), split, False)


def _split_column(path: Path, names: Sequence[str], wanted: str | None) -> int | None:
    if wanted is None:
        return None
    keys = [name.casefold() for name in names]
    key = clean(wanted).casefold()
    if key not in keys:
        value = f"has no column {show(wanted)} (its columns: {show(', '.join(names))})"
        raise file_error(path, value, "Correct data.split_column")
    return keys.index(key)


def _all_flags(rows: Sequence[Sequence[str]], column: int) -> bool:
    cells = [row[column].strip().casefold() for row in rows if column < len(row)]
    return any(cells) and all(cell in YES or cell in NO for cell in cells)


def _one_tag_each(rows: Sequence[Sequence[str]], column: int, separator: str) -> bool:
    return all(len(split_tags(row[column], separator)) <= 1 for row in rows if column < len(row))


def _csv_rows(
    path: Path, encoding: str, delimiter: str, layout: _Layout, separator: str, problems: ProblemList
) -> Iterator[_Row]:
    unclear: set[int] = set()  # columns with a value that is neither yes nor no
    with path.open(encoding=encoding, newline="") as file:
        lines = _cells(path, csv.reader(file, delimiter=delimiter))
        for line, cells in islice(lines, int(layout.header), None):
            where = f"{path}, line {line}"
            if not _fit(cells, layout, delimiter, separator):
                value = f"has {len(cells)} cells, but the first line {layout.width}"
                problems.add(where, value, f"Separate tags by {separator!r}, and quote cells that hold {delimiter!r}")
                continue
            image = cells[layout.image].strip()
            split = TRAIN if layout.split is None else clean(cells[layout.split])
            if not image:
                problems.add(where, "names no image", "Add its name or remove the line")
            elif not split:
                problems.add(where, f"{show(image)} has no split", "Write the name of its split")
            elif layout.tags is not None:
                yield _Row(line, image, split_tags(cells[layout.tags], separator), split)
            else:
                yield _Row(line, image, _flagged(cells, layout, where, unclear, problems), split)


def _fit(cells: list[str], layout: _Layout, delimiter: str, separator: str) -> bool:
    """Makes a row as wide as the first line, where it is clear how."""
    while len(cells) > layout.width and not cells[-1].strip():
        cells.pop()
    if layout.tags is not None:
        cells += [""] * (layout.width - len(cells))
        if delimiter == separator and layout.tags == layout.width - 1:  # a.jpg;dog;cat
            cells[layout.tags :] = [separator.join(cells[layout.tags :])]
    return len(cells) == layout.width


def _flagged(
    cells: Sequence[str], layout: _Layout, where: str, unclear: set[int], problems: ProblemList
) -> tuple[str, ...]:
    """The classes whose cell says yes. A column that says neither yes nor no is reported once."""
    tags = []
    for column, name in layout.flags:
        cell = cells[column].strip().casefold()
        if cell in YES:
            tags.append(name)
        elif cell not in NO and column not in unclear:
            unclear.add(column)
            value = f"column {show(name)} holds {show(cells[column])}, neither 0 nor 1"
            cure = "Write 0 or 1 where each column is a class; else name the columns image,tags (and data.split_column)"
            problems.add(where, value, cure)
    return tuple(tags)


class _Object(list):
    """A JSON object as its (key, value) pairs: doubled keys are not lost."""


def _json_rows(path: Path, config: DataConfig, problems: ProblemList) -> Iterator[_Row]:
    """`{"a.jpg": ["dog"], ...}`, `{"a.jpg": "dog;cat"}` or `[{"image": "a.jpg", "tags": [...]}, ...]`."""
    cure = 'Write {"photo.jpg": ["dog", "cat"]} or [{"image": "photo.jpg", "tags": ["dog", "cat"]}]'
    try:
        content = json.loads(path.read_text(encoding=text_encoding(path)), object_pairs_hook=_Object)
    except (ValueError, RecursionError) as error:
        raise file_error(path, f"is not JSON ({reason(error)})", cure) from None
    if not isinstance(content, list):
        raise file_error(path, f"holds {type(content).__name__}, neither a map nor a list", cure)
    if isinstance(content, _Object) and config.split_column is not None:
        raise file_error(
            path, f"is a map, so it has no {show(config.split_column)}", "Write a list, or give list files"
        )
    for number, entry in enumerate(content, start=1):
        image, value, split = (*entry, TRAIN) if isinstance(content, _Object) else _json_entry(entry, config)
        tags = _json_tags(value, config.separator)
        where = f"{path}, entry {number}"
        if not isinstance(image, str) or not image.strip():
            problems.add(where, f"names no image ({show(str(image))})", cure)
        elif tags is None:
            problems.add(where, f"the tags of {show(image)} are {show(str(value))}", cure)
        elif not isinstance(split, str) or not clean(split):
            problems.add(where, f"{show(image)} has no {show(str(config.split_column))}", "Write the name of its split")
        else:
            yield _Row(number, image.strip(), tags, clean(split))


def _json_entry(entry: Any, config: DataConfig) -> tuple[Any, Any, Any]:
    """(image, tags, split) of an entry of a list; None where it lacks one."""
    if not isinstance(entry, _Object):
        return None, None, TRAIN
    values = {clean(key).casefold(): value for key, value in entry}
    image = next((values[key] for key in IMAGE_HEADERS if key in values), None)
    tags = next((values[key] for key in ONE_ROW_PER_IMAGE + ONE_ROW_PER_TAG if key in values), None)
    return image, tags, TRAIN if config.split_column is None else values.get(clean(config.split_column).casefold())


def _json_tags(value: Any, separator: str) -> tuple[str, ...] | None:
    """The tags of an entry; None if they are neither text nor a list of texts."""
    if isinstance(value, str):
        return split_tags(value, separator)
    if value is None:
        return ()
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        return _distinct(value)
    return None
