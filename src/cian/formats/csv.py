"""CSV of tags, with comma, semicolon or tab: one row for each image, one for each image and tag, or one column a class.

Written by spreadsheets, scripts and labelling tools; RFC 4180, with what Excel adds to it (a first line `sep=;`, UTF-16
as "Unicode text", semicolons where the comma is the decimal sign). The column of the images is the one whose cells name
images that exist. The rest of the layout is told from the header:

    image,tags        image,tag       image,tag1,tag2     image,dog,cat       (no header)
    a.jpg,dog;cat     a.jpg,dog       a.jpg,dog,cat       a.jpg,1,1           a.jpg,dog
    b.jpg,dog         a.jpg,cat       b.jpg,dog,          b.jpg,1,0           a.jpg,cat

Rows above the header, such as a title, are left out. In a column `confidence` (Open Images), 0 says that the image does
not show the class. Where a column for each class holds -1 and 1, -1 is no.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from cian.data.images import KNOWN_SUFFIXES
from cian.data.problems import ProblemList, counted, file_error, quoted, reason
from cian.data.table import TRAIN
from cian.errors import CianError
from cian.files import without_apostrophe
from cian.formats.columns import (
    CONFIDENCES,
    IMAGE_COLUMNS,
    SPLIT_COLUMNS,
    TAG_COLUMNS,
    TAGS_COLUMNS,
    column_key,
    is_missing,
    is_tag_column,
    note_missing,
    note_unused,
    split_tags,
)
from cian.formats.file_index import MISSING, FileIndex
from cian.formats.format import Format, Request, TagRow, TagSource
from cian.formats.json import tags_in
from cian.formats.split_names import SPLIT_NAMES
from cian.formats.text import clean, decode_json, text_encoding

YES = frozenset({"1", "1.0", "1,0", "true", "t", "yes", "y", "x", "✓", "✔"})
NO = frozenset({"0", "0.0", "0,0", "false", "f", "no", "n", ""})
_NEVER = frozenset({"-1", "-1.0"})  # no, if the other cells are not 0
_EXAMPLE = "Start it with the line `image,tags`, followed by lines like `photo.jpg,dog;cat`"
_PEEK = 100  # rows that are looked at to tell the layout
_TITLES = 10  # rows that may stand above the header


@dataclass(frozen=True)
class _Layout:
    """Which columns hold what.

    Attributes:
        header: the rows that come before the data.
        width: number of columns.
        image, split: columns.
        tags: columns; none where each class has a column.
        flags: (column, class) where each class has a column.
        merge: whether there is a row for each image and tag.
        confidence: the column that says whether the image shows the tag.
        least: the cells that a row needs at least.
    """

    header: int
    width: int
    image: int
    tags: tuple[int, ...]
    flags: tuple[tuple[int, str], ...] = ()
    split: int | None = None
    merge: bool = False
    confidence: int | None = None
    least: int = 0

    @property
    def words(self) -> str:
        if not self.tags:
            return f"a column for each of {len(self.flags)} classes"
        if len(self.tags) > 1:
            return f"{len(self.tags)} columns of tags"
        return "a row for each image and tag" if self.merge else "a row for each image"


def _recognises(request: Request) -> bool:
    is_file = not request.images_alone and not request.path.is_dir()
    return is_file and not request.is_json and request.path.suffix.lower() != ".xml"


def _read(request: Request) -> TagSource:
    path, problems = request.path, request.problems
    if path.suffix.lower() in (".yaml", ".yml"):
        raise file_error(path, "is YAML, which names no images", "Give a CSV file, COCO JSON or PASCAL VOC XML")
    encoding = text_encoding(path)
    if encoding == "cp1252":
        problems.add(path, "is not UTF-8, read as Windows-1252", "Save it as UTF-8 if names look wrong", fatal=False)
    with path.open(encoding=encoding, newline="") as file:
        lines = (line for line in file if line.strip('\t,;" \r\n') and not _is_excel(line))
        delimiter = _delimiter(path, list(islice(lines, _TITLES)))
        file.seek(0)
        head = [cells for _, cells in islice(_cells(path, file, delimiter), _PEEK)]
    layout = _layout(request, delimiter, head)
    if layout.header and layout.tags:
        used = (layout.image, *layout.tags, layout.split, layout.confidence)
        names = map(clean, head[layout.header - 1])
        note_unused(path, [name for i, name in enumerate(names) if name and i not in used], problems)
    rows = _rows(path, encoding, delimiter, layout, request.config.separator, problems)
    return TagSource(path, f"CSV, {layout.words}", rows, layout.merge, unit="line", if_empty=_EXAMPLE)


def _delimiter(path: Path, lines: Sequence[str]) -> str:
    """Tab, comma, semicolon or bar: the one that cuts out a known header, else the first that occurs outside quotes."""
    first = ","
    for line in lines:
        cut = {sign: [cell for _, cells in _cells(path, [line], sign) for cell in cells] for sign in "\t,;|"}
        for sign, cells in cut.items():
            if len(cells) > 1 and any(column_key(cell) in IMAGE_COLUMNS for cell in cells):
                return sign
        if line is lines[0]:
            first = next((sign for sign, cells in cut.items() if len(cells) > 1), ",")
    return first


def _header(head: Sequence[Sequence[str]], images: FileIndex) -> int:
    """The row that is the header, or may be: the first one, unless rows of titles stand above a known header."""
    for row, cells in enumerate(head[:_TITLES]):
        if len(cells) > 1 and any(column_key(cell) in IMAGE_COLUMNS for cell in cells):
            return row
        if any(_is_image(cell, images) for cell in cells):
            break
    return 0


def _cells(path: Path, lines: Iterable[str], delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """(line number, cells) of each row that is not blank."""
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True)
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
    start = _header(head, request.images)
    if start:
        value = f"{counted(start, 'row')} above the header {'is' if start == 1 else 'are'} left out"
        value += f" ({quoted(', '.join(filter(None, head[0])))})"
        request.problems.add(path, value, "Write the header as the first line if this is wrong", fatal=False)
    names = [clean(cell) for cell in head[start]]
    keys = list(map(column_key, names))
    width = len(names)
    if width < 2:
        raise file_error(path, f"its first line {quoted(names[0])} has only one column", _EXAMPLE)

    rows = head[start + 1 :]
    wanted = None if config.split_column is None else clean(config.split_column).casefold()
    split = keys.index(wanted) if wanted in keys else None
    image, rivals = _image_column(request.images, keys, rows or head, split)
    if _is_image(names[image], request.images) and not set(keys) & set(IMAGE_COLUMNS):
        if config.split_column is not None:
            raise file_error(path, f"has no header, so no column {quoted(config.split_column)}", "Add a header line")
        if delimiter == config.separator and image == 0:  # a.jpg;dog;cat
            head, width = [[row[0], delimiter.join(row[1:])] for row in head], 2
        words = _tag_column(path, head, image)
        return _Layout(0, width, image, (words,), merge=_one_tag_each(head, words, config.separator))

    if config.split_column is not None and split is None:
        value = f"has no column {quoted(config.split_column)} (its columns: {quoted(', '.join(names))})"
        raise file_error(path, value, "Correct data.split_column")
    _note_image_column(path, names, rows, image, rivals, request)
    others = [i for i in range(width) if i not in (image, split) and names[i]]
    others = [i for i in others if keys[i] not in IMAGE_COLUMNS or _all_flags(rows, i)]
    confidence = next((i for i in others if keys[i] in CONFIDENCES), None)
    tags = _tag_columns(keys, rows, others)
    if tags:
        return _Layout(start + 1, width, image, tags, (), split, keys[tags[0]] in TAG_COLUMNS, confidence)
    if not others:
        raise file_error(path, f"its header {quoted(', '.join(names))} has no column of tags", _EXAMPLE)
    if len(others) == 1 and not _all_flags(rows, others[0]):
        merge = _one_tag_each(rows, others[0], config.separator)
        return _Layout(start + 1, width, image, (others[0],), (), split, merge)
    doubled = [name for name, count in Counter(names[i] for i in others).items() if count > 1]
    if doubled:
        raise file_error(path, f"column {quoted(doubled[0])} occurs twice", "Remove one of them")
    for i in others:
        if keys[i] in SPLIT_COLUMNS and all(clean(row[i]).casefold() in SPLIT_NAMES for row in rows if i < len(row)):
            value = f"column {quoted(names[i])} says which images are held out"
            raise file_error(path, value, f"Set data.split_column={names[i]}, or remove the column")
    flags = tuple((i, names[i]) for i in others)
    return _Layout(start + 1, width, image, (), flags, split, least=1 + max(image, split or 0, *others))


def _tag_columns(keys: Sequence[str], rows: Sequence[Sequence[str]], others: Sequence[int]) -> tuple[int, ...]:
    """The columns of tags: one, or several that are numbered or called alike; none if each class has a column."""
    known = [i for key in TAGS_COLUMNS + TAG_COLUMNS for i in others if keys[i] == key]
    if known:
        first = next((i for i in known if _has_words(rows, i)), known[0])  # not the numbers of the classes
        return tuple(i for i in known if keys[i] == keys[first])
    several = tuple(i for i in others if is_tag_column(keys[i]))
    return several if any(_has_words(rows, i) for i in several) else ()


def _has_words(rows: Sequence[Sequence[str]], column: int) -> bool:
    cells = [row[column].strip() for row in rows if column < len(row)]
    return any(not _is_number(cell) and cell.casefold() not in YES | NO for cell in cells)


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
    seen = _Seen()
    name = str(path)
    with path.open(encoding=encoding, newline="") as file:
        lines = _cells(path, file, delimiter)
        for line, cells in islice(lines, layout.header, None):
            where = f"{name}, line {line}"
            if not _fit(cells, layout, delimiter, separator):
                value = f"has {len(cells)} cells, but the first line has {layout.width}"
                problems.add(where, value, f"Separate tags by {separator!r}, and quote cells that hold {delimiter!r}")
                continue
            image = without_apostrophe(cells[layout.image].strip())
            split = TRAIN if layout.split is None else clean(cells[layout.split])
            if not image:
                problems.add(where, "names no image", "Add its name or remove the line")
            elif not split:
                problems.add(where, f"{quoted(image)} has no split", "Write the name of its split")
            elif not layout.tags:
                yield TagRow(line, image, _flagged(cells, layout, where, seen, problems), split)
            else:
                parts = [without_apostrophe(cells[column]) for column in layout.tags]
                for cell in parts:
                    if cell not in seen.missing and is_missing(cell):
                        seen.missing.add(cell)
                        note_missing(where, cell, problems)
                tags = tuple(dict.fromkeys(tag for cell in parts for tag in _cell_tags(cell, separator)))
                shown = layout.confidence is None or _is_shown(cells[layout.confidence], where, seen, problems)
                yield TagRow(line, image, tags if shown else (), split)
    if seen.zero and seen.minus:
        value = "the columns of classes hold 0 and -1, so it is not clear what -1 means"
        problems.add(seen.minus, value, "Write 1 for yes and 0 for no")


@dataclass
class _Seen:
    """What is said once, where it occurs first.

    Attributes:
        unclear: columns with a value that is neither yes nor no.
        missing: words that are read as no tag.
        zero, minus: the lines of 0 and of -1 in columns of classes.
    """

    unclear: set[int] = field(default_factory=set)
    missing: set[str] = field(default_factory=set)
    zero: str = ""
    minus: str = ""


def _is_shown(cell: str, where: str, seen: _Seen, problems: ProblemList) -> bool:
    """Whether a confidence says that the image shows the tag. One between 0 and 1 is reported once."""
    try:
        confidence = float(cell.strip().replace(",", ".") or 1)
    except ValueError:
        return True
    if 0 < confidence < 1 and -1 not in seen.unclear:
        seen.unclear.add(-1)
        value = f"the column of confidences holds {quoted(cell)}, which is neither 0 nor 1"
        problems.add(where, value, "Keep the rows that are right, and remove the column")
    return confidence != 0


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
    if layout.tags or len(cells) >= layout.least:
        cells += [""] * (layout.width - len(cells))
    if delimiter == separator and layout.tags == (layout.width - 1,):  # a.jpg;dog;cat
        cells[layout.width - 1 :] = [separator.join(cells[layout.width - 1 :])]
    return len(cells) == layout.width


def _flagged(
    cells: Sequence[str],
    layout: _Layout,
    where: str,
    seen: _Seen,
    problems: ProblemList,
) -> tuple[str, ...]:
    """The classes whose cell says yes. A column with a cell that says neither yes nor no is reported once."""
    tags = []
    for column, name in layout.flags:
        cell = cells[column].strip().casefold()
        if cell in YES:
            tags.append(name)
        elif cell in _NEVER:
            seen.minus = seen.minus or where
        elif cell in NO:
            seen.zero = seen.zero or (where if cell else "")
        elif is_missing(cell):
            if cell not in seen.missing:
                seen.missing.add(cell)
                problems.add(where, f"{quoted(cell)} is read as no", "Write 1 if it means yes", fatal=False)
        elif column not in seen.unclear:
            seen.unclear.add(column)
            value = f"column {quoted(name)} holds {quoted(cells[column])}, neither 0 nor 1"
            cure = "If each column is a class, write 0 or 1. If not, call the columns `image` and `tags`"
            problems.add(where, value, cure)
    return tuple(tags)


FORMAT = Format("a CSV file with the columns image and tags", _recognises, _read)
