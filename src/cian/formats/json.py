"""JSON of tags: a map of images to tags, or a list of objects with an image and its tags.

Written by scripts, mostly; no program defines it. Accepted are `{"a.jpg": ["dog"], …}`, `{"a.jpg": "dog;cat", …}` and
`[{"image": "a.jpg", "tags": ["dog"]}, …]`, with the names of columns that a CSV may have.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cian.config import DataConfig
from cian.data.problems import file_error, quoted
from cian.data.table import TRAIN
from cian.formats.columns import (
    IMAGE_COLUMNS,
    TAG_COLUMNS,
    TAGS_COLUMNS,
    distinct,
    is_missing,
    note_missing,
    note_unused,
    split_tags,
)
from cian.formats.format import JSON_CURE, Format, Request, TagRow, TagSource
from cian.formats.text import JsonObject, clean


def _recognises(request: Request) -> bool:
    return request.is_json


def _read(request: Request) -> TagSource:
    content = request.json
    if isinstance(content, JsonObject):
        request.refuse_split_column(request.path, "a map")
    elif not isinstance(content, list):
        raise file_error(request.path, f"holds {type(content).__name__}, neither a map nor a list", JSON_CURE)
    elif content and isinstance(content[0], JsonObject):
        used = {*IMAGE_COLUMNS, *TAGS_COLUMNS, *TAG_COLUMNS, _key(request.config.split_column or "")}
        note_unused(request.path, [key for key, _ in content[0] if _key(key) not in used], request.problems)
    saw = "JSON, a map of images to tags" if isinstance(content, JsonObject) else "JSON, a list of images with tags"
    return TagSource(request.path, saw, _rows(request, content), unit="entry", if_empty=JSON_CURE)


def _rows(request: Request, content: list[Any]) -> Iterator[TagRow]:
    config = request.config
    missing: set[str] = set()  # words that are read as no tag
    for number, entry in enumerate(content, start=1):
        image, value, split = (*entry, TRAIN) if isinstance(content, JsonObject) else _columns(entry, config)
        tags = _tags(value, config.separator)
        where = f"{request.path}, entry {number}"
        if not isinstance(image, str) or not image.strip():
            request.problems.add(where, f"names no image ({quoted(str(image))})", JSON_CURE)
        elif tags is None:
            request.problems.add(where, f"the tags of {quoted(image)} are {quoted(str(value))}", JSON_CURE)
        elif not isinstance(split, str) or not clean(split):
            value = f"{quoted(image)} has no {quoted(str(config.split_column))}"
            request.problems.add(where, value, "Write the name of its split")
        else:
            if isinstance(value, str) and value not in missing and is_missing(value):
                missing.add(value)
                note_missing(where, value, request.problems)
            yield TagRow(number, image.strip(), tags, clean(split))


def _columns(entry: Any, config: DataConfig) -> tuple[Any, Any, Any]:
    """(image, tags, split) of an entry of a list; None for what it lacks."""
    if not isinstance(entry, JsonObject):
        return None, None, TRAIN
    values = {_key(name): value for name, value in entry}
    image = next((values[key] for key in IMAGE_COLUMNS if key in values), None)
    tags = next((values[key] for key in TAGS_COLUMNS + TAG_COLUMNS if key in values), None)
    return image, tags, TRAIN if config.split_column is None else values.get(_key(config.split_column))


def _key(name: str) -> str:
    return clean(name).casefold()


def _tags(value: Any, separator: str) -> tuple[str, ...] | None:
    """The tags of an entry; None if they are neither text nor a list of texts."""
    if isinstance(value, str):
        return split_tags(value, separator)
    if value is None:
        return ()
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        return distinct(value)
    return None


FORMAT = Format('a JSON file {"photo.jpg": ["dog", "cat"]}', _recognises, _read)
