"""CSV of tags, with comma, semicolon or tab: one row for each image, one for each image and tag, or one column a class.

Written by spreadsheets, scripts and labelling tools; RFC 4180, with what Excel adds to it (a first line `sep=;`, UTF-16
as "Unicode text", semicolons where the comma is the decimal sign). The column of the images is the one whose cells name
images that exist. The rest of the layout is told from the header:

    image,tags          image,tag           image,dog,cat           (no header)
    a.jpg,dog;cat       a.jpg,dog           a.jpg,1,1               a.jpg,dog
    b.jpg,dog           a.jpg,cat           b.jpg,1,0               a.jpg,cat
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from cian.data.images import KNOWN_SUFFIXES
from cian.data.problems import ProblemList, file_error, quoted, reason
from cian.data.table import TRAIN
from cian.errors import CianError
from cian.formats.columns import (
    IMAGE_COLUMNS,
    TAG_COLUMNS,
    TAGS_COLUMNS,
    is_missing,
    note_missing,
    note_unused,
    split_tags,
)
from cian.formats.file_index import MISSING, FileIndex
from cian.formats.format import JSON_SUFFIXES, Format, Request, TagRow, TagSource
from cian.formats.json import tags_in
from cian.formats.text import clean, decode_json, text_encoding

YES = frozenset({"1", "1.0", "1,0", "true", "t", "yes", "y", "x"})
NO = frozenset({"0", "0.0", "0,0", "false", "f", "no", "n", ""})
_EXAMPLE = "Start it with the line `image,tags`, followed by lines like `photo.jpg,dog;cat`"
_PEEK = 100  # rows that are looked at to tell the layout
_OTHERS = JSON_SUFFIXES | {".xml"}  # suffixes of files that are no CSV


@dataclass(frozen=True)
class _Layout:
    """Which columns hold what.

    Attributes:
        header: whether the first row is one.
        width: number of columns.
        image, tags, split: columns; tags is None where each class has a column.
        flags: (column, class) where each class has a column.
        merge: whether there is a row for each image and tag.
    """

    header: bool
    width: int
    image: int
    tags: int | None
    flags: tuple[tuple[int, str], ...]
    split: int | None
    merge: bool

    @property
    def words(self) -> str:
        if self.tags is None:
            return f"a column for each of {len(self.flags)} classes"
        return "a row for each image and tag" if self.merge else "a row for each image"


def _recognises(request: Request) -> bool:
    return not request.images_alone and not request.path.is_dir() and request.path.suffix.lower() not in _OTHERS


def _read(request: Request) -> TagSource:
    path, problems = request.path, request.problems
    if path.suffix.lower() in (".yaml", ".yml"):
        raise file_error(path, "is YAML, which names no images", "Give a CSV file, COCO JSON or PASCAL VOC XML")
    encoding = text_encoding(path)
    if encoding == "cp1252":
        problems.add(path, "is not UTF-8, read as Windows-1252", "Save it as UTF-8 if names look wrong", fatal=False)
    with path.open(encoding=encoding, newline="") as file:
        first = next((line for line in file if line.strip('\t,;" \r\n') and not _is_excel(line)), "")
        delimiter = _delimiter(path, first)
        file.seek(0)
        head = [cells for _, cells in islice(_cells(path, csv.reader(file, delimiter=delimiter)), _PEEK)]
    layout = _layout(request, delimiter, head)
    if layout.header and layout.tags is not None:
        used = (layout.image, layout.tags, layout.split)
        note_unused(path, [name for i, name in enumerate(map(clean, head[0])) if name and i not in used], problems)
    rows = _rows(path, encoding, delimiter, layout, request.config.separator, problems)
    return TagSource(path, f"CSV, {layout.words}", rows, layout.merge, unit="line", if_empty=_EXAMPLE)


def _delimiter(path: Path, line: str) -> str:
    """Tab, comma, semicolon or bar: the one that cuts out a known header, else the first that occurs outside quotes."""
    cut = {
        sign: [cell for _, cells in _cells(path, csv.reader([line], delimiter=sign)) for cell in cells]
        for sign in "\t,;|"
    }
    for sign, cells in cut.items():
        if len(cells) > 1 and any(clean(cell).casefold() in IMAGE_COLUMNS for cell in cells):
            return sign
    return next((sign for sign, cells in cut.items() if len(cells) > 1), ",")


def _cells(path: Path, reader: Any) -> Iterator[tuple[int, list[str]]]:
    """(line number, cells) of each row that is not blank."""
    try:
        for cells in reader:
            if "".join(cells).strip() and not (reader.line_num == 1 and _is_excel(cells[0])):
                yield reader.line_num, cells
    except (csv.Error, UnicodeError, OSError) as error:
        where = f"{path}, line {reader.line_num}"
        raise file_error(where, f"is not CSV ({reason(error)})", "Look for a quote that is not closed") from None


def _is_excel(line: str) -> bool:
    """Whether it is Excel's first line `sep=;`, which says what separates cells."""
    return line.lstrip('"').casefold().startswith("sep=")


def _layout(request: Request, delimiter: str, head: Sequence[Sequence[str]]) -> _Layout:
    """The layout, told from the header, and where the header says nothing from the first rows."""
    path, config = request.path, request.config
    if not head:
        raise file_error(path, "is empty", _EXAMPLE)
    names = [clean(cell) for cell in head[0]]
    keys = [name.casefold() for name in names]
    width = len(names)
    if width < 2:
        raise file_error(path, f"its first line {quoted(names[0])} has only one column", _EXAMPLE)

    rows = head[1:]
    wanted = None if config.split_column is None else clean(config.split_column).casefold()
    split = keys.index(wanted) if wanted in keys else None
    image, rivals = _image_column(request.images, keys, rows or head, split)
    if _is_image(names[image], request.images) and not set(keys) & set(IMAGE_COLUMNS):
        if config.split_column is not None:
            raise file_error(path, f"has no header, so no column {quoted(config.split_column)}", "Add a header line")
        if delimiter == config.separator and image == 0:  # a.jpg;dog;cat
            head, width = [[row[0], delimiter.join(row[1:])] for row in head], 2
        words = _tag_column(path, head, image)
        return _Layout(False, width, image, words, (), None, _one_tag_each(head, words, config.separator))

    if config.split_column is not None and split is None:
        value = f"has no column {quoted(config.split_column)} (its columns: {quoted(', '.join(names))})"
        raise file_error(path, value, "Correct data.split_column")
    _note_image_column(path, names, rows, image, rivals, request)
    others = [i for i in range(width) if i not in (image, split) and names[i]]
    others = [i for i in others if keys[i] not in IMAGE_COLUMNS or _all_flags(rows, i)]
    tags = next((i for key in TAGS_COLUMNS + TAG_COLUMNS for i in others if keys[i] == key), None)
    if tags is not None:
        return _Layout(True, width, image, tags, (), split, keys[tags] in TAG_COLUMNS)
    if not others:
        raise file_error(path, f"its header {quoted(', '.join(names))} has no column of tags", _EXAMPLE)
    if len(others) == 1 and not _all_flags(rows, others[0]):
        return _Layout(True, width, image, others[0], (), split, _one_tag_each(rows, others[0], config.separator))
    doubled = [name for name, count in Counter(names[i] for i in others).items() if count > 1]
    if doubled:
        raise file_error(path, f"column {quoted(doubled[0])} occurs twice", "Remove one of them")
    return _Layout(True, width, image, None, tuple((i, names[i]) for i in others), split, False)


def _image_column(
    images: FileIndex, keys: Sequence[str], rows: Sequence[Sequence[str]], split: int | None
) -> tuple[int, list[int]]:
    """The column that names the images, and other columns that might.

    It is the column whose cells name images that exist, whatever its header and its place. Row numbers and flags can
    name images that are numbered. So a column called `image` comes first, then names with a suffix, then a known
    header, then the column that names more images.
    """
    known = {key: rank for rank, key in enumerate(reversed(IMAGE_COLUMNS), start=1)}
    named = {}  # by column: the images that it names
    suffixed = {}  # by column: the cells with the suffix of an image
    for column in range(len(keys)):
        if column != split and keys[column] not in TAGS_COLUMNS + TAG_COLUMNS:
            cells = [row[column].strip() for row in rows if column < len(row)]
            cells = [cell for cell in cells if cell]
            suffixed[column] = sum(Path(cell).suffix.lower() in KNOWN_SUFFIXES for cell in cells)
            found = [cell for cell in cells if images.find(cell) != MISSING]
            if 2 * len(found) > len(cells):
                named[column] = len(set(found))
    best = sorted(
        named,
        key=lambda i: (keys[i] == IMAGE_COLUMNS[0], suffixed[i] > 0, known.get(keys[i], 0), named[i], -i),
        reverse=True,
    )
    if best:
        return best[0], [i for i in best[1:] if 2 * named[i] > named[best[0]] and not _all_flags(rows, i)]
    if set(keys) & set(IMAGE_COLUMNS):
        return next(keys.index(key) for key in IMAGE_COLUMNS if key in keys), []
    return max(suffixed, key=lambda i: suffixed[i], default=0), []


def _is_image(cell: str, images: FileIndex) -> bool:
    return images.find(cell) != MISSING or Path(cell).suffix.lower() in KNOWN_SUFFIXES


def _note_image_column(
    path: Path, names: Sequence[str], rows: Sequence[Sequence[str]], image: int, rivals: Sequence[int], request: Request
) -> None:
    """Says which column is read as the names of the images, where that is not certain."""
    columns = [quoted(name) if name else str(i) for i, name in enumerate(names, start=1)]
    cells = [row[image].strip() for row in rows if image < len(row)]
    unknown = bool(cells) and not any(_is_image(cell, request.images) for cell in cells)
    if rivals:
        both = " and ".join(columns[i] for i in sorted([image, *rivals]))
        value = f"the cells of the columns {both} are names of images; column {columns[image]} is used"
        request.problems.add(path, value, "If it is the wrong one, call the right column `image`", fatal=False)
    elif unknown and names[image].casefold() not in IMAGE_COLUMNS:
        value = f"no column names images that exist; column {columns[image]} is read as the images"
        request.problems.add(path, value, "Call the column of the images `image`", fatal=False)


def _tag_column(path: Path, rows: Sequence[Sequence[str]], image: int) -> int:
    """The column of tags where there is no header: the only one besides the images, or the only one with words.

    Raises:
        FileError: there are several.
    """
    others = [i for i in range(len(rows[0])) if i != image]
    words = [i for i in others if any(i < len(row) and not _is_number(row[i]) for row in rows)]
    found = words if len(others) > 1 else others
    if len(found) != 1:
        value = f"has no header, and its first line {quoted(', '.join(rows[0]))} has {len(rows[0])} columns"
        raise file_error(path, value, "Add a header line that calls the columns of images and tags `image` and `tags`")
    return found[0]


def _is_number(cell: str) -> bool:
    try:
        float(cell.strip() or 0)
    except ValueError:
        return False
    return True


def _all_flags(rows: Sequence[Sequence[str]], column: int) -> bool:
    cells = [row[column].strip().casefold() for row in rows if column < len(row)]
    return any(cells) and all(cell in YES or cell in NO for cell in cells)


def _one_tag_each(rows: Sequence[Sequence[str]], column: int, separator: str) -> bool:
    return all(len(split_tags(row[column], separator)) <= 1 for row in rows if column < len(row))


def _rows(
    path: Path, encoding: str, delimiter: str, layout: _Layout, separator: str, problems: ProblemList
) -> Iterator[TagRow]:
    unclear: set[int] = set()  # columns with a value that is neither yes nor no
    missing: set[str] = set()  # words that are read as no tag
    name = str(path)
    with path.open(encoding=encoding, newline="") as file:
        lines = _cells(path, csv.reader(file, delimiter=delimiter))
        for line, cells in islice(lines, int(layout.header), None):
            where = f"{name}, line {line}"
            if not _fit(cells, layout, delimiter, separator):
                value = f"has {len(cells)} cells, but the first line has {layout.width}"
                problems.add(where, value, f"Separate tags by {separator!r}, and quote cells that hold {delimiter!r}")
                continue
            image = cells[layout.image].strip()
            split = TRAIN if layout.split is None else clean(cells[layout.split])
            if not image:
                problems.add(where, "names no image", "Add its name or remove the line")
            elif not split:
                problems.add(where, f"{quoted(image)} has no split", "Write the name of its split")
            elif layout.tags is not None:
                cell = cells[layout.tags]
                tags = _cell_tags(cell, separator)
                if not tags and cell not in missing and is_missing(cell):
                    missing.add(cell)
                    note_missing(where, cell, problems)
                yield TagRow(line, image, tags, split)
            else:
                yield TagRow(line, image, _flagged(cells, layout, where, unclear, problems), split)


def _cell_tags(cell: str, separator: str) -> tuple[str, ...]:
    """The tags in a cell, also if it holds objects as JSON (Label Studio)."""
    if "{" in cell[:2] and '"' in cell:
        with suppress(CianError):
            return tags_in(decode_json(cell.encode(), "", ""), separator) or split_tags(cell, separator)
    return split_tags(cell, separator)


def _fit(cells: list[str], layout: _Layout, delimiter: str, separator: str) -> bool:
    """Makes a row as wide as the first line, in place, where it is clear how; returns whether it is now."""
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
    """The classes whose cell says yes. A column with a cell that says neither yes nor no is reported once."""
    tags = []
    for column, name in layout.flags:
        cell = cells[column].strip().casefold()
        if cell in YES:
            tags.append(name)
        elif cell not in NO and column not in unclear:
            unclear.add(column)
            value = f"column {quoted(name)} holds {quoted(cells[column])}, neither 0 nor 1"
            cure = "If each column is a class, write 0 or 1. Otherwise call the columns `image` and `tags`"
            problems.add(where, value, cure)
    return tuple(tags)


FORMAT = Format("a CSV file with the columns image and tags", _recognises, _read)
