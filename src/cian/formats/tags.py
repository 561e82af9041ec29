"""Reads rows of tags: from CSV in any common layout, from JSON, from the annotations of PASCAL VOC and COCO, or from a
folder per class."""

from __future__ import annotations

import csv
import functools
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from cian.config import DataConfig
from cian.data.images import PICTURE_SUFFIXES, find_files
from cian.data.problems import ProblemList, file_error, quoted, reason
from cian.data.table import TRAIN
from cian.formats.coco import CURE as COCO_CURE
from cian.formats.coco import is_coco, read_annotations, without_shapes
from cian.formats.devkits import SPLIT_NAMES, instance_files, split_of
from cian.formats.file_index import AMBIGUOUS, MISSING, FileIndex, no_image
from cian.formats.text import JsonObject, clean, parse_json, text_encoding
from cian.formats.voc import object_tags

IMAGE_HEADERS = ("image", "file", "filename", "path", "id")
ONE_ROW_PER_IMAGE = ("tags", "labels", "classes")
ONE_ROW_PER_TAG = ("tag", "label", "class")
YES = frozenset({"1", "1.0", "true", "yes", "x"})
NO = frozenset({"0", "0.0", "false", "no", ""})
EXAMPLE = "Start it with the line `image,tags`, followed by lines like `photo.jpg,dog;cat`"
JSON_CURE = 'Write {"photo.jpg": ["dog", "cat"]} or [{"image": "photo.jpg", "tags": ["dog", "cat"]}]'
_PEEK = 100  # rows that are looked at to tell the layout of a CSV


class TagRow(NamedTuple):
    line: int
    image: str
    tags: tuple[str, ...]
    split: str = TRAIN


@dataclass
class TagSource:
    """Rows of tags, from wherever they come.

    Attributes:
        path: the file, or the folder.
        rows: the rows, read while they are iterated over; raises FileError where the file is broken.
        merge: the tags of several rows of one image are united (one row per image and tag).
        unit: what a row's number counts, e.g. "line".
        files: what a row's number counts, if it is files.
        splits: the rows say what is held out.
        first: where each tag occurs first.
    """

    path: Path
    rows: Iterable[TagRow]
    merge: bool = False
    unit: str = "line"
    files: Sequence[Path] = ()
    splits: bool = False
    first: dict[str, int] = field(default_factory=dict)

    def at(self, line: int) -> str:
        if self.files:
            return str(self.files[line])
        return f"{self.path}, {self.unit} {line}" if self.unit else str(self.path)

    def where(self, tag: str) -> str:
        """Where the tag occurs first."""
        return self.at(self.first[tag]) if tag in self.first else str(self.path)


def open_tags(
    config: DataConfig, images: FileIndex, listed: Sequence[str | None] | None, problems: ProblemList
) -> TagSource:
    """
    Args:
        listed: the split of each image, if list files say it; the annotations of other images need not be read.
    """
    path = config.tags
    if path is None:
        assert config.images is not None
        return _open_class_folders(config.images, images, config.untagged == "negative", problems)
    if path.is_dir():
        return _open_folder(path, config, images, listed, problems)
    if path.suffix.lower() == ".json":
        content = parse_json(path, JSON_CURE, without_shapes)
        if is_coco(content):
            return TagSource(
                path, _coco_rows([path], [content], [TRAIN], config, images, problems), unit="", files=[path]
            )
        return TagSource(path, _json_rows(path, content, config, problems), unit="entry")
    return _open_csv(path, config, images, problems)


def _open_folder(
    path: Path, config: DataConfig, images: FileIndex, listed: Sequence[str | None] | None, problems: ProblemList
) -> TagSource:
    """COCO's instances_*.json, or an XML file of PASCAL VOC for each image."""
    files = instance_files(path)
    if not files:
        files = find_files(path, (".xml",))
        if not files:
            cure = "Give a CSV or JSON file, a folder of PASCAL VOC XML, or COCO's folder of instances_*.json"
            raise file_error(path, "holds no annotations", cure)
        if config.split_column is not None:
            raise file_error(path, f"is XML, so it has no {quoted(config.split_column)}", "Give list files")
        return TagSource(path, _xml_rows(path, files, images, listed, config.difficult, problems), unit="", files=files)
    contents = (parse_json(file, COCO_CURE, without_shapes) for file in files)
    splits = [split_of(file) for file in files]
    rows = _coco_rows(files, contents, splits, config, images, problems)
    return TagSource(path, rows, unit="", files=files, splits=set(splits) != {TRAIN})


def _xml_rows(
    folder: Path,
    files: Sequence[Path],
    images: FileIndex,
    listed: Sequence[str | None] | None,
    difficult: bool,
    problems: ProblemList,
) -> Iterator[TagRow]:
    """The objects of each image; `<filename>` is not asked, as it tells what an image was called once."""
    owner: dict[int, Path] = {}
    for number, name in enumerate(FileIndex(folder, list(files)).ids):
        file = files[number]
        row = images.find(name)
        if row == MISSING:
            row = images.find(name.rpartition("/")[2])
        if listed is not None and (row < 0 or listed[row] is None):
            continue
        if row == AMBIGUOUS:
            problems.add(file, f"several images are called {quoted(name)}", "Lay it where its image lies")
        elif row == MISSING:
            problems.add(file, *no_image(name, images, "Add its image, or remove it"))
        elif row in owner:
            problems.add(file, f"is of {images.paths[row]}, but so is {owner[row]}", "Keep one of them")
        else:
            owner[row] = file
            with problems.collecting():
                yield TagRow(number, images.paths[row], object_tags(file, difficult))


def _coco_rows(
    files: Sequence[Path],
    contents: Iterable[Any],
    splits: Sequence[str],
    config: DataConfig,
    images: FileIndex,
    problems: ProblemList,
) -> Iterator[TagRow]:
    """The categories of each image: of instances_NAME.json, the one in the folder NAME, if it is there."""
    for number, (file, content, split) in enumerate(zip(files, contents, splits, strict=True)):
        if config.split_column is not None:
            raise file_error(file, f"is COCO's, so it has no {quoted(config.split_column)}", "Give list files")
        labels = read_annotations(file, content, problems)
        for image, tags in labels.tags().items():
            name = labels.images[image]["file_name"].strip()
            inner = f"{file.stem.removeprefix('instances_')}/{name}"
            yield TagRow(number, inner if images.find(inner) >= 0 else name, tags, split)


def _open_class_folders(folder: Path, images: FileIndex, negatives: bool, problems: ProblemList) -> TagSource:
    """A folder per class; or, as ImageFolder's users have it, a folder per split with a folder per class in it.

    Args:
        negatives: pictures in no class folder show none of the classes.
    """
    names = {path.partition("/")[0] if "/" in path else "" for path in images.paths}
    splits = {name: SPLIT_NAMES.get(clean(name).casefold(), "") for name in names}
    if not all(splits.values()):
        _refuse_mixture(folder, images, splits)
        _note_copies(folder, images, problems)
        return TagSource(folder, _folder_rows(images, negatives), unit="")
    loose = [path for path in images.paths if path.count("/") == 1]
    if loose and not negatives:
        value = f"{quoted(loose[0])} lies in no class folder: {', '.join(sorted(names))} look like splits, not classes"
        raise file_error(folder, value, "Make a folder per class in each split, e.g. train/CLASS/, or give --tags FILE")
    return TagSource(folder, _split_rows(images, splits), unit="", splits=set(splits.values()) != {TRAIN})


def _refuse_mixture(folder: Path, images: FileIndex, splits: Mapping[str, str]) -> None:
    """
    Raises:
        FileError: some folders are splits with class folders in them, others are not.
    """
    flat = {path.partition("/")[0] for path in images.paths if path.count("/") < 2}
    halved = [name for name, split in splits.items() if split and name not in flat]
    if halved:
        others = ", ".join(sorted(name or "a picture" for name, split in splits.items() if not split))
        value = (
            f"{quoted(min(halved))} holds folders of classes and looks like a split, but beside it is {quoted(others)}"
        )
        raise file_error(folder, value, "Move that elsewhere, or into a class folder of a split, or give --tags FILE")


def _note_copies(folder: Path, images: FileIndex, problems: ProblemList) -> None:
    """A picture that was copied into the folder of each of its classes would be two, which contradict each other."""
    first: dict[tuple[str, int], str] = {}
    copies = []
    for path, file in zip(images.paths, images.files, strict=True):
        other = first.setdefault((file.name, file.stat().st_size), path)
        if other.rpartition("/")[0] != path.rpartition("/")[0]:
            copies.append(f"{other} and {path}")
    if copies:
        value = f"{len(copies)} picture{'s' * (len(copies) > 1)} twice, in folders of two classes ({quoted(copies[0])})"
        cure = "Keep each once and give --tags FILE, where a picture may have several tags"
        problems.add(folder, value, cure, fatal=False)


def _folder_rows(images: FileIndex, negatives: bool) -> Iterator[TagRow]:
    """The first folder in an image's path is its tag."""
    for path in images.paths:
        folder, slash, _ = path.partition("/")
        if slash or negatives:
            yield TagRow(0, path, (clean(folder),) if slash else ())


def _split_rows(images: FileIndex, splits: Mapping[str, str]) -> Iterator[TagRow]:
    """The first folder in an image's path is its split, the second its tag."""
    for path in images.paths:
        split, *folders, _ = path.split("/", 2)
        yield TagRow(0, path, tuple(clean(folder) for folder in folders), splits[split])


@functools.lru_cache(1 << 16)  # most images share their tags with others
def _split_tags(cell: str, separator: str) -> tuple[str, ...]:
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


def _open_csv(path: Path, config: DataConfig, images: FileIndex, problems: ProblemList) -> TagSource:
    encoding = text_encoding(path)
    if encoding == "cp1252":
        problems.add(path, "is not UTF-8, read as Windows-1252", "Save it as UTF-8 if names look wrong", fatal=False)
    with path.open(encoding=encoding, newline="") as file:
        first = next((line for line in file if line.strip('\t,;" \r\n') and not _excel(line)), "")
        delimiter = _delimiter(path, first)
        file.seek(0)
        head = [cells for _, cells in islice(_cells(path, csv.reader(file, delimiter=delimiter)), _PEEK)]
    layout = _layout(path, head, config, images)
    if layout.header and layout.tags is not None:
        used = (layout.image, layout.tags, layout.split)
        _note_unused(path, [name for i, name in enumerate(map(clean, head[0])) if name and i not in used], problems)
    rows = _csv_rows(path, encoding, delimiter, layout, config.separator, problems)
    return TagSource(path, rows, layout.merge)


def _note_unused(path: Path, names: Sequence[str], problems: ProblemList) -> None:
    if names:
        cure = "Name the one that says what is held out, if there is one, with data.split_column"
        problems.add(path, f"not used: {quoted(', '.join(names))}", cure, fatal=False)


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
            if any(cell.strip() for cell in cells) and not (reader.line_num == 1 and _excel(cells[0])):
                yield reader.line_num, cells
    except (csv.Error, UnicodeError, OSError) as error:
        where = f"{path}, line {reader.line_num}"
        raise file_error(where, f"is not CSV ({reason(error)})", "Look for a quote that is not closed") from None


def _excel(line: str) -> bool:
    """Whether it is Excel's first line `sep=;`, which says what separates cells."""
    return line.lstrip('"').casefold().startswith("sep=")


def _layout(path: Path, head: Sequence[Sequence[str]], config: DataConfig, images: FileIndex) -> _Layout:
    """Tells the layout from the header, and where it says nothing from the first rows."""
    if not head:
        raise file_error(path, "is empty", EXAMPLE)
    names = [clean(cell) for cell in head[0]]
    keys = [name.casefold() for name in names]
    width = len(names)
    if width < 2:
        raise file_error(path, f"its first line {quoted(names[0])} has one column only", EXAMPLE)

    is_file = images.find(names[0]) != MISSING or Path(names[0]).suffix.lower() in PICTURE_SUFFIXES
    if is_file and not set(keys) & set(IMAGE_HEADERS):
        if config.split_column is not None:
            raise file_error(path, f"has no header, so no column {quoted(config.split_column)}", "Add a header line")
        return _Layout(False, width, 0, 1, (), None, _one_tag_each(head, 1, config.separator))

    image = next((keys.index(key) for key in IMAGE_HEADERS if key in keys), 0)
    split = _split_column(path, names, config.split_column)
    others = [i for i in range(width) if i not in (image, split) and names[i]]
    tags = next((i for key in ONE_ROW_PER_IMAGE + ONE_ROW_PER_TAG for i in others if keys[i] == key), None)
    if tags is not None:
        return _Layout(True, width, image, tags, (), split, keys[tags] in ONE_ROW_PER_TAG)
    if not others:
        raise file_error(path, f"its header {quoted(', '.join(names))} has no column of tags", EXAMPLE)
    if len(others) == 1 and not _all_flags(head[1:], others[0]):
        return _Layout(True, width, image, others[0], (), split, _one_tag_each(head[1:], others[0], config.separator))
    doubled = [name for name, count in Counter(names[i] for i in others).items() if count > 1]
    if doubled:
        raise file_error(path, f"column {quoted(doubled[0])} occurs twice", "Remove one of them")
    return _Layout(True, width, image, None, tuple((i, names[i]) for i in others), split, False)


def _split_column(path: Path, names: Sequence[str], wanted: str | None) -> int | None:
    if wanted is None:
        return None
    keys = [name.casefold() for name in names]
    key = clean(wanted).casefold()
    if key not in keys:
        value = f"has no column {quoted(wanted)} (its columns: {quoted(', '.join(names))})"
        raise file_error(path, value, "Correct data.split_column")
    return keys.index(key)


def _all_flags(rows: Sequence[Sequence[str]], column: int) -> bool:
    cells = [row[column].strip().casefold() for row in rows if column < len(row)]
    return any(cells) and all(cell in YES or cell in NO for cell in cells)


def _one_tag_each(rows: Sequence[Sequence[str]], column: int, separator: str) -> bool:
    return all(len(_split_tags(row[column], separator)) <= 1 for row in rows if column < len(row))


def _csv_rows(
    path: Path, encoding: str, delimiter: str, layout: _Layout, separator: str, problems: ProblemList
) -> Iterator[TagRow]:
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
                problems.add(where, f"{quoted(image)} has no split", "Write the name of its split")
            elif layout.tags is not None:
                yield TagRow(line, image, _split_tags(cells[layout.tags], separator), split)
            else:
                yield TagRow(line, image, _flagged(cells, layout, where, unclear, problems), split)


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
            value = f"column {quoted(name)} holds {quoted(cells[column])}, neither 0 nor 1"
            cure = "Write 0 or 1 where each column is a class; else name the columns image,tags (and data.split_column)"
            problems.add(where, value, cure)
    return tuple(tags)


def _json_rows(path: Path, content: Any, config: DataConfig, problems: ProblemList) -> Iterator[TagRow]:
    """`{"a.jpg": ["dog"], ...}`, `{"a.jpg": "dog;cat"}` or `[{"image": "a.jpg", "tags": [...]}, ...]`."""
    cure = JSON_CURE
    if not isinstance(content, list):
        raise file_error(path, f"holds {type(content).__name__}, neither a map nor a list", cure)
    if isinstance(content, JsonObject) and config.split_column is not None:
        raise file_error(
            path, f"is a map, so it has no {quoted(config.split_column)}", "Write a list, or give list files"
        )
    if content and isinstance(content[0], JsonObject) and not isinstance(content, JsonObject):
        known = {*IMAGE_HEADERS, *ONE_ROW_PER_IMAGE, *ONE_ROW_PER_TAG, clean(config.split_column or "").casefold()}
        _note_unused(path, [key for key, _ in content[0] if clean(key).casefold() not in known], problems)
    for number, entry in enumerate(content, start=1):
        image, value, split = (*entry, TRAIN) if isinstance(content, JsonObject) else _json_entry(entry, config)
        tags = _json_tags(value, config.separator)
        where = f"{path}, entry {number}"
        if not isinstance(image, str) or not image.strip():
            problems.add(where, f"names no image ({quoted(str(image))})", cure)
        elif tags is None:
            problems.add(where, f"the tags of {quoted(image)} are {quoted(str(value))}", cure)
        elif not isinstance(split, str) or not clean(split):
            problems.add(
                where, f"{quoted(image)} has no {quoted(str(config.split_column))}", "Write the name of its split"
            )
        else:
            yield TagRow(number, image.strip(), tags, clean(split))


def _json_entry(entry: Any, config: DataConfig) -> tuple[Any, Any, Any]:
    """(image, tags, split) of an entry of a list; None where it lacks one."""
    if not isinstance(entry, JsonObject):
        return None, None, TRAIN
    values = {clean(key).casefold(): value for key, value in entry}
    image = next((values[key] for key in IMAGE_HEADERS if key in values), None)
    tags = next((values[key] for key in ONE_ROW_PER_IMAGE + ONE_ROW_PER_TAG if key in values), None)
    return image, tags, TRAIN if config.split_column is None else values.get(clean(config.split_column).casefold())


def _json_tags(value: Any, separator: str) -> tuple[str, ...] | None:
    """The tags of an entry; None if they are neither text nor a list of texts."""
    if isinstance(value, str):
        return _split_tags(value, separator)
    if value is None:
        return ()
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        return _distinct(value)
    return None
