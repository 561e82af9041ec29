"""Columns and cells that CSV and JSON share: how columns are called, and how a cell holds several tags."""

from __future__ import annotations

import functools
import json
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from cian.data.problems import ProblemList, quoted
from cian.formats.text import clean

# Names of columns, in lower case; the first that occurs is used.
IMAGE_COLUMNS = ("image", "file", "filename", "file_name", "path", "image_path", "image_name", "image_id", "id")
TAGS_COLUMNS = ("tags", "labels", "classes")  # one row for each image
TAG_COLUMNS = (
    "tag",
    "label",
    "class",
    "label_name",
    "class_name",
    "category",
    "choice",
)  # one row for each image and tag

_KNOWN = {name.replace("_", ""): name for name in (*TAG_COLUMNS, *TAGS_COLUMNS, *reversed(IMAGE_COLUMNS))}
CONFIDENCES = ("confidence", "probability")
SPLIT_COLUMNS = frozenset({"split", "set", "subset", "partition", "fold"})

# What programs write where a value is missing, in lower case.
MISSING_WORDS = frozenset({"nan", "none", "null", "n/a", "na", "#n/a", "#na", "<na>", "nat", "-", "?"})


def column_key(name: str) -> str:
    """The name of a column in lower case, and as it is listed here if it is (`ImageID` is `image_id`)."""
    key = clean(name).casefold().lstrip("#").strip()
    return _KNOWN.get(re.sub(r"[\s_-]", "", key), key)


def is_tag_column(key: str) -> bool:
    """Whether a column holds tags, also one of several: `tag1`, `label 2`, `tags/0`."""
    return column_key(re.sub(r"[\W_]*[0-9]+$", "", key)) in TAG_COLUMNS + TAGS_COLUMNS


def is_missing(cell: str) -> bool:
    """Whether a cell says that there is no value. No class has such a name."""
    return clean(cell).casefold() in MISSING_WORDS


def note_missing(where: str, cell: str, problems: ProblemList) -> None:
    """Notes that a cell is read as no tag."""
    problems.add(where, f"{quoted(cell)} is read as no tag", "Give it another name if it is a class", fatal=False)


_QUOTED = re.compile(r"""'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)\"""")
_CALL = re.compile(r"[A-Za-z_.]+\(([\[{].*[\]}])(, *\w+=[^()]*)?\)", re.DOTALL)  # of Python


@functools.lru_cache(1 << 16)  # most images share their tags with others
def split_tags(cell: str, separator: str) -> tuple[str, ...]:
    """The tags in a cell, each once, in their order. A cell that says that its value is missing has none.

    Tags are separated by `separator` or by line breaks, or are a list in brackets, as Python, JSON, NumPy and databases
    write it: `['cat', 'dog']`, `["cat", "dog"]`, `['cat' 'dog']`, `{cat,dog}`, `array(['cat', 'dog'], dtype=object)`.
    """
    if is_missing(cell):
        return ()
    text = cell.strip()
    if call := _CALL.fullmatch(text):  # `array(['cat'], dtype=object)`
        text = call[1]
    if text[:1] + text[-1:] in ("[]", "{}", "()"):
        listed = _listed(text, separator)
        if listed is not None:
            return distinct(listed)
    return distinct(separator.join(cell.splitlines()).split(separator))


def _listed(text: str, separator: str) -> list[str] | None:
    """The names in a list in brackets; None if it is none."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        pass
    else:
        return content if isinstance(content, list) and all(isinstance(name, str) for name in content) else None
    inner = text[1:-1]
    if not _QUOTED.sub("", inner).strip(" ,;|\r\n"):
        return [re.sub(r"\\(.)", r"\1", one or two) for one, two in _QUOTED.findall(inner)]
    if text[0] == "(" or any(sign in inner for sign in '[{":'):
        return None
    return inner.split("," if "," in inner else separator)


def distinct(names: Iterable[str]) -> tuple[str, ...]:
    """Tags without repetitions and empty ones, in their order."""
    cleaned = map(clean, names)
    return tuple(dict.fromkeys(sys.intern(name) for name in cleaned if name))


def note_unused(path: Path, names: Sequence[str], problems: ProblemList) -> None:
    """Notes columns that nothing is read from."""
    if names:
        value = f"these columns are not used: {', '.join(map(quoted, names))}"
        cure = "If one of them says which images are held out, name it with data.split_column"
        problems.add(path, value, cure, fatal=False)
