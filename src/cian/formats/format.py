"""The contract of a format of tags: the request that it gets, and the rows that it returns.

A format is one file of this package that ends in one `Format` object, and one line in `registry.FORMATS`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from cian.config import DataConfig
from cian.data.images import find_files
from cian.data.problems import ProblemList, file_error, quoted
from cian.data.table import TRAIN
from cian.formats.file_index import FileIndex
from cian.formats.text import JsonObject, parse_json
from cian.formats.tree import Tree

JSON_SUFFIXES = frozenset({".json", ".jsonl", ".ndjson"})
JSON_CURE = 'Write {"photo.jpg": ["dog", "cat"]} or [{"image": "photo.jpg", "tags": ["dog", "cat"]}]'


class TagRow(NamedTuple):
    """The tags of one image, or some of them.

    `line` counts rows as `TagSource.unit` says. `image` is a name that the file uses for the image.
    """

    line: int
    image: str
    tags: tuple[str, ...]
    split: str = TRAIN


@dataclass
class TagSource:
    """Rows of tags from a file or a folder.

    Attributes:
        path: the file or the folder.
        saw: what the format recognised, in a few words for the user.
        rows: the rows. They are read while they are iterated over, and raise FileError where the file is broken.
        merge: whether the tags of several rows of one image are united (one row for each image and tag).
        unit: what `TagRow.line` counts, e.g. "line"; empty if it counts nothing that a user can look up.
        files: the files that `TagRow.line` counts, if it counts files.
        splits: whether the rows say which images are held out.
        if_empty: what to do if there are no rows; empty if no rows are no problem.
        first: where each tag occurs first, by `TagRow.line`. Whoever reads the rows fills it.
    """

    path: Path
    saw: str
    rows: Iterable[TagRow]
    merge: bool = False
    unit: str = ""
    files: Sequence[Path] = ()
    splits: bool = False
    if_empty: str = ""
    first: dict[str, int] = field(default_factory=dict)

    def at(self, line: int) -> str:
        """The place of a row, for messages."""
        if self.files:
            return str(self.files[line])
        return f"{self.path}, {self.unit} {line}" if self.unit else str(self.path)

    def where(self, tag: str) -> str:
        """The place where a tag occurs first, for messages."""
        return self.at(self.first[tag]) if tag in self.first else str(self.path)


def _is_json(path: Path) -> bool:
    if path.suffix.lower() in JSON_SUFFIXES:
        return True
    try:
        with path.open("rb") as file:
            start = file.read(1000)
    except OSError:
        return False  # whoever reads it says why
    return re.match(rb'(\xef\xbb\xbf)?\s*(\{\s*"|\[\s*[{["])', start) is not None


@dataclass(frozen=True)
class Request:
    """What a user gave, and what a format needs to read it.

    Attributes:
        path: the file or the folder of tags; without one, the folder of the images.
        images_alone: no tags are given, so `path` is the folder of the images.
        images: all images, by the names that people give them.
        listed: the split of each image if list files say it, None for images in no list. Annotations of images in no
            list need not be read.
        config: the settings of the data.
        problems: collects what is wrong but does not stop the reading.
    """

    path: Path
    images_alone: bool
    images: FileIndex
    listed: Sequence[str | None] | None
    config: DataConfig
    problems: ProblemList

    @property
    def is_json(self) -> bool:
        """Whether the path is a file called .json, or .jsonl for JSON lines, or one of another name that begins like
        JSON."""
        return not self.images_alone and not self.path.is_dir() and _is_json(self.path)

    @cached_property
    def json(self) -> Any:
        """The content of a JSON file, parsed once for all formats that ask, without the shapes of COCO's instances.

        Raises:
            CianError: the file cannot be read, or it is not JSON.
        """
        content = parse_json(self.path, JSON_CURE, without_shapes)
        is_line = isinstance(content, JsonObject) and self.path.suffix.lower() != ".json"  # JSON lines with one line
        return [content] if is_line else content

    @cached_property
    def tree(self) -> Tree:
        """The path with the names of the files in it.

        Raises:
            FileError: it cannot be read.
        """
        return Tree(self.path)

    @cached_property
    def xml_files(self) -> list[Path]:
        """The XML files of a folder and its sub-folders, searched for once."""
        return find_files(self.path, (".xml",))

    def refuse_split_column(self, file: Path, what: str) -> None:
        """For formats that have no columns.

        Raises:
            FileError: data.split_column is set.
        """
        if self.config.split_column is not None:
            value = f"is {what}, so it has no column {quoted(self.config.split_column)}"
            raise file_error(file, value, "Remove data.split_column; give list files with data.splits")


@dataclass(frozen=True)
class Format:
    """A format of tags.

    Attributes:
        description: what a user can give, for help and errors; empty if the format only says what a file is.
        recognises: whether a request is of this format.
        read: the rows of a request that the format recognised. Raises FileError where nothing can be read.
    """

    description: str
    recognises: Callable[[Request], bool]
    read: Callable[[Request], TagSource]


def without_shapes(pairs: list[tuple[str, Any]]) -> JsonObject:
    """For `parse_json`: leaves out the shapes of COCO's instances, which fill the memory and say nothing of tags."""
    if any(key == "category_id" for key, _ in pairs):
        return JsonObject(pair for pair in pairs if pair[0] != "segmentation")
    return JsonObject(pairs)
