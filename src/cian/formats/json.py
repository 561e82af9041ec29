"""JSON of tags, as scripts and annotation programs write it: a map of images to tags, or a list of entries, each with
an image and its tags.

Accepted are `{"a.jpg": ["dog"], …}`, `{"a.jpg": "dog;cat", …}` and `[{"image": "a.jpg", "tags": ["dog"]}, …]`, with the
names of columns that a CSV may have; also one entry a line (JSON lines), and all of it inside another object. So the
exports of these programs are read: CreateML, Label Studio (JSON and JSON-MIN), VGG Image Annotator 2, LabelMe, FiftyOne
and Hugging Face's metadata.jsonl. Of their objects, only the names are used.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from cian.data.images import KNOWN_SUFFIXES
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
from cian.formats.text import JsonObject, clean, entries, fields

# Keys, in lower case. The first that occurs is used.
_IMAGE_KEYS = (
    "external id",
    "external_id",
    *IMAGE_COLUMNS,
    "imagepath",
    "imagefilename",
    "filepath",
    "file_path",
    "img",
    "uri",
    "url",
    "source-ref",
    "imagegcsuri",
)
_OBJECT_KEYS = ("annotations", "annotation", "choice", "choices", "objects", "shapes", "regions", "instances")
_TAG_KEYS = (*TAGS_COLUMNS, *TAG_COLUMNS, *_OBJECT_KEYS)
_NAME_KEYS = (
    *TAG_COLUMNS,
    "classtitle",
    "classname",
    "objects",  # before the tags of an image or an object, which may say how it was made (Supervisely)
    *TAGS_COLUMNS,
    "name",
    "title",
    "choices",
    "value",
    "result",
    *_OBJECT_KEYS,
)
_ATTRIBUTE_KEYS = (*TAG_COLUMNS, "name", "type", "object", "species")  # VIA: which attribute of a region is its class
# Keys of an object that holds all entries, and of the names of the classes beside them.
_WRAPPERS = (
    "_via_img_metadata",
    "images",
    "data",
    "items",
    "annotations",
    "samples",
    "records",
    "rows",
    "files",
    "labels",
)
_CLASS_LISTS = ("classes", "categories", "class_names", "label_names", "names")
_NO_NAMES = frozenset({"score", "confidence", "probability", "id", "count", "area", "index", "width", "height"})
_NO_CLASS = ("text", "rating", "number", "datetime", "pairwise", "taxonomy", "ranker")  # Label Studio's other answers


def _recognises(request: Request) -> bool:
    return request.is_json


def _read(request: Request) -> TagSource:
    content, path = request.json, request.path
    if not isinstance(content, list):
        raise file_error(path, f"holds {type(content).__name__}, neither a map nor a list", JSON_CURE)
    classes: Sequence[str] = ()
    if isinstance(content, JsonObject):
        content, classes = _unwrap(content)
    if isinstance(content, JsonObject):
        request.refuse_split_column(path, "a map")
        names = [key for key, _ in content]
        if names and not any(_has_suffix(name) or request.images.find(name) >= 0 for name in names):
            value = f"no key is the name of an image (its keys: {quoted(', '.join(names[:10]))})"
            raise file_error(path, value, JSON_CURE)
        rows = _rows(request, content, classes)
        return TagSource(path, "JSON, a map of images to tags", rows, unit="entry", if_empty=JSON_CURE)
    if isinstance(content, _ByClass):
        request.refuse_split_column(path, "a map")
        rows = _rows(request, content, ())
        return TagSource(path, "JSON, a map of classes to images", rows, merge=True, unit="entry", if_empty=JSON_CURE)
    keys = dict.fromkeys(key for entry in content for key in fields(entry))
    used = {*_IMAGE_KEYS, *_TAG_KEYS, _key(request.config.split_column or "")}
    if keys and not any(_key(key) in _TAG_KEYS for key in keys):
        value = f"no entry has tags (the keys of its entries: {quoted(', '.join(keys))})"
        raise file_error(path, value, "Call the key of the tags `tags`, or export as COCO JSON or CSV")
    unused = [key for key in fields(content[0]) if _key(key) not in used] if len(content) > 1 else []
    note_unused(path, unused, request.problems)
    rows = _rows(request, content, classes)
    return TagSource(path, "JSON, a list of images with tags", rows, unit="entry", if_empty=JSON_CURE)


class _ByClass(list):
    """(image, tag) of a map of classes to images."""


def _unwrap(content: JsonObject) -> tuple[list[Any], Sequence[str]]:
    """The map or the list of entries that an object is or holds, and the names of the classes if it lists them."""
    values = {_key(key): value for key, value in content}
    image = next((key for key in (*_IMAGE_KEYS, *(f"{key}s" for key in _IMAGE_KEYS)) if key in values), None)
    tags = next((key for key in _TAG_KEYS if key in values), None)
    if image is not None and tags is not None:
        if isinstance(values[image], str):
            return [content], ()  # one entry (LabelMe)
        if columns := _columns_to_entries(values[image], values[tags]):
            return columns, ()
    key = next((key for key in _WRAPPERS if isinstance(values.get(key), list) and values[key]), None)
    if key is not None and not any(map(_has_suffix, values)):
        inner, names = values[key], next((values[name] for name in _CLASS_LISTS if name in values), ())
        classes = names if all(isinstance(name, str) for name in entries(names)) else ()
        if isinstance(inner, JsonObject):
            return _named_entries(inner), entries(classes)
        if any(isinstance(entry, JsonObject) for entry in inner):
            return inner, entries(classes)
    if content and all(
        names and all(isinstance(n, str) and _has_suffix(n) for n in names) for names in map(entries, values.values())
    ):
        return _ByClass((name, tag) for tag, names in content for name in names), ()
    return _named_entries(content), ()


def _are_images(value: Any) -> bool:
    names = entries(value)
    return bool(names) and all(isinstance(name, str) and _has_suffix(name) for name in names)


def _columns_to_entries(images: Any, tags: Any) -> list[Any]:
    """The entries of two columns, as lists or as pandas writes them; none if they are of another kind."""
    if isinstance(images, JsonObject) and isinstance(tags, JsonObject):
        found = fields(tags)
        return [JsonObject([("image", image), ("tags", found.get(row))]) for row, image in images]
    same = len(entries(images)) == len(entries(tags)) and all(isinstance(image, str) for image in entries(images))
    pairs = zip(entries(images), entries(tags), strict=True) if same else ()
    return [JsonObject([("image", image), ("tags", tag)]) for image, tag in pairs]


def _named_entries(content: JsonObject) -> list[Any]:
    """The values of a map if they, and not its keys, name the images (VIA); otherwise the map."""
    if any(_has_suffix(key) for key, _ in content):
        return content
    images = (_image_of({_key(key): v for key, v in fields(value).items()}) for _, value in content)
    return [value for _, value in content] if content and all(isinstance(image, str) for image in images) else content


def _rows(request: Request, content: list[Any], classes: Sequence[str]) -> Iterator[TagRow]:
    config = request.config
    missing: set[str] = set()  # words that are read as no tag
    for number, entry in enumerate(content, start=1):
        is_pair = isinstance(content, JsonObject | _ByClass)
        image, value, split = (*entry, TRAIN) if is_pair else _columns(entry, config.split_column)
        tags = tags_in(value, config.separator, classes)
        where = f"{request.path}, entry {number}"
        if not isinstance(image, str) or not image.strip():
            request.problems.add(where, f"names no image ({quoted(str(image))})", JSON_CURE)
        elif tags is None and isinstance(value, int | float):
            request.problems.add(
                where, f"the tag of {quoted(image)} is the number {value}", "Write the name of the class"
            )
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


def _columns(entry: Any, split_column: str | None) -> tuple[Any, Any, Any]:
    """(image, tags, split) of an entry of a list; None for what it lacks."""
    if not isinstance(entry, JsonObject):
        return (*entry, TRAIN) if len(entries(entry)) == 2 else (None, None, TRAIN)  # ["a.jpg", "dog"]
    values = {_key(name): value for name, value in entry}
    found = [values[key] for key in _TAG_KEYS if key in values]
    tags = next((value for value in found if value not in (None, "", [])), found[0] if found else None)
    return _image_of(values), tags, TRAIN if split_column is None else values.get(_key(split_column))


def _image_of(values: dict[str, Any]) -> Any:
    """The name of the image of an entry; None if it has none."""
    data = {_key(key): value for key, value in fields(values.get("data")).items()}  # Label Studio
    for source in (values, data):
        found = [source[key] for key in _IMAGE_KEYS if key in source]
        texts = [value for value in found if isinstance(value, str)]
        if texts or (found and not data):
            return next(iter(texts), found[0])
    named = [value for value in (*data.values(), *values.values()) if isinstance(value, str) and _has_suffix(value)]
    return named[0] if len(named) == 1 else None


def _has_suffix(name: str) -> bool:
    return f".{name.partition('?')[0].rpartition('.')[2]}".lower() in KNOWN_SUFFIXES


def _key(name: str) -> str:
    return clean(name).casefold()


def tags_in(value: Any, separator: str, classes: Sequence[str] = ()) -> tuple[str, ...] | None:
    """The tags that a value names: a text, a list, an object of an annotation program, or `{"dog": true, …}`. None if
    they are of another kind."""
    if value is None:
        return ()
    if isinstance(value, str):
        return split_tags(value, separator)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(classes):
        return (clean(classes[value]),)
    if isinstance(value, JsonObject):
        regions = value and all(key.isdecimal() for key, _ in value)  # VIA 1 numbers them
        return (
            tags_in([part for _, part in value], separator, classes) if regions else _names(value, separator, classes)
        )
    if not isinstance(value, list):
        return None
    if all(isinstance(name, str) for name in value):
        return distinct(value)
    parts = [None if entries(part) else tags_in(part, separator, classes) for part in value]
    if None in parts:
        return None
    return distinct(name for part in parts for name in part or ())


def _names(content: JsonObject, separator: str, classes: Sequence[str]) -> tuple[str, ...] | None:
    """The tags that an object names; None if it is of a kind that is not known."""
    values = {_key(key): value for key, value in content}
    if "region_attributes" in values:
        return _attribute(fields(values["region_attributes"]), separator)
    if not values or values.get("was_cancelled") is True or values.get("type") == "relation":
        return ()
    key = next((key for key in values if key.endswith("labels") and key != "labels"), None)  # Label Studio
    known = [key for key in _NAME_KEYS if key in values]
    key = key or next((key for key in known if values[key] not in (None, "", [])), next(iter(known), None))
    if key is not None:
        return tags_in(values[key], separator, classes)
    if all(isinstance(value, int) and value in (0, 1) for value in values.values()) and _NO_NAMES.isdisjoint(values):
        return distinct(key for key, value in content if value)
    return () if any(key in values for key in _NO_CLASS) else None


def _attribute(attributes: dict[str, Any], separator: str) -> tuple[str, ...] | None:
    """The class among the attributes of a region of VIA; None if it is not clear which of them is the class."""
    named = {_key(key): value for key, value in attributes.items() if value not in ("", None)}
    key = next((key for key in _ATTRIBUTE_KEYS if key in named), None)
    if key is None and len(named) > 1:
        return None
    return tags_in(named[key] if key else next(iter(named.values()), None), separator)


FORMAT = Format('a JSON file {"photo.jpg": ["dog", "cat"]}', _recognises, _read)
