"""A folder of files of tags: CSV or JSON files, in folders of splits or called after splits; or a file for each image.

Roboflow's exports of CSV and CreateML and Hugging Face's imagefolder have one file beside the images of each split.
Supervisely, V7 and others write one JSON for each image. Programs that prepare images for generative models write one
text file, with tags separated by commas or line breaks.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from cian.data.images import find_files
from cian.data.problems import file_error
from cian.data.table import TRAIN
from cian.formats import coco, csv, json
from cian.formats.columns import distinct
from cian.formats.file_index import FileIndex
from cian.formats.format import JSON_SUFFIXES, Format, Request, TagRow, TagSource, without_shapes
from cian.formats.json import tags_in
from cian.formats.split_names import SPLIT_NAMES, split_name
from cian.formats.text import parse_json, read_lines

_TABLES = JSON_SUFFIXES | {".csv", ".tsv"}
_FORMATS = (coco.FORMAT, json.FORMAT, csv.FORMAT)
_CURE = "Export the annotations as COCO JSON or PASCAL VOC XML"
_STRIDE = 1 << 40  # lines of one file
_NUMBERS = re.compile(r"\d+( -?[\d.]+(e-?\d+)?){4,}", re.IGNORECASE)  # a line of YOLO


@dataclass
class _Tables(TagSource):
    """Rows of several files. A row's `line` is that in its file, plus `_STRIDE` for each file before it."""

    tables: Sequence[Path] = ()
    units: dict[int, str] = field(default_factory=dict)

    def at(self, line: int) -> str:
        number, line = divmod(line, _STRIDE)
        return f"{self.tables[number]}, {self.units.get(number, 'line')} {line}"


def _recognises(request: Request) -> bool:
    if request.images_alone or not request.path.is_dir():
        return False
    return bool(find_files(request.path, _TABLES) or _of_images(request, (".txt",)))


def _read(request: Request) -> TagSource:
    path = request.path
    entries, texts = _of_images(request, (".json",)), _of_images(request, (".txt",))
    if not entries and (tables := find_files(path, _TABLES)):
        splits = [split_name(file.parent.name) or _split_of(file) for file in tables]
        saw = f"{len(tables)} file{'s' * (len(tables) > 1)} of tags: {', '.join(file.name for file in tables[:3])}"
        source = _Tables(path, saw + ", …" * (len(tables) > 3), (), merge=True, unit="line", tables=tables)
        source.splits = any(splits) and request.config.split_column is None
        source.rows = _table_rows(request, source, [split or TRAIN for split in splits])
        return source
    request.refuse_split_column(path, "a folder of files")
    found, kind = (entries, "JSON") if entries else (texts, "text")
    rows = _entry_rows(request, entries) if entries else _text_rows(request, texts)
    return TagSource(path, f"a {kind} file for each image", rows, files=[file for file, _ in found])


def _split_of(file: Path) -> str | None:
    """The split that a file is called after: train.csv, val_labels.json."""
    word = re.match("[a-z]*", file.stem.casefold().lstrip("_"))
    return SPLIT_NAMES.get(word[0]) if word else None


def _table_rows(request: Request, source: _Tables, splits: Sequence[str]) -> Iterator[TagRow]:
    """The rows of all files. Images are looked for beside their file first, then in a folder called like it."""
    for number, (file, split) in enumerate(zip(source.tables, splits, strict=True)):
        folder = file.parent.relative_to(request.path).as_posix()
        with request.problems.collecting():
            inner = replace(request, path=file)
            table = next(form for form in _FORMATS if form.recognises(inner)).read(inner)
            source.units[number] = table.unit
            for row in table.rows:
                names = (f"{folder}/{row.image}", f"{file.stem}/{row.image}", row.image)
                found = [name for name in names if request.images.find(name) >= 0]
                image = min(found, key=request.images.is_guess, default=row.image)
                line = number * _STRIDE + row.line
                yield row._replace(line=line, image=image, split=split if source.splits else row.split)


def _of_images(request: Request, suffixes: Collection[str]) -> list[tuple[Path, int]]:
    """The files that are called like images, and the rows of these; none if most are called otherwise."""
    files = find_files(request.path, suffixes)
    found = []
    for file, name in zip(files, FileIndex(request.path, files).ids, strict=True):
        row = request.images.find(name)
        row = row if row >= 0 else request.images.find(name.rpartition("/")[2])
        if row >= 0:
            found.append((file, row))
    return found if 2 * len(found) > len(files) else []


def _entry_rows(request: Request, found: Sequence[tuple[Path, int]]) -> Iterator[TagRow]:
    for number, (file, row) in enumerate(found):
        with request.problems.collecting():
            tags = tags_in(parse_json(file, _CURE, without_shapes), request.config.separator)
            if tags is None:
                raise file_error(file, "holds no tags of a kind that is known", _CURE)
            yield TagRow(number, request.images.paths[row], tags)


def _text_rows(request: Request, texts: Sequence[tuple[Path, int]]) -> Iterator[TagRow]:
    for number, (file, row) in enumerate(texts):
        with request.problems.collecting():
            lines = [line.strip() for line in read_lines(file)]
            if any(map(_NUMBERS.fullmatch, lines)):
                value = "holds numbers as YOLO writes them, not names of classes"
                raise file_error(file, value, "Give the folder that holds their data.yaml, which names the classes")
            cells = (cell for line in lines for cell in re.split("[,;]", line))
            yield TagRow(number, request.images.paths[row], distinct(cells))


FORMAT = Format("a folder with a CSV or JSON file for each split, or a text file for each image", _recognises, _read)
