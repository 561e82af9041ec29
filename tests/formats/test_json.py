"""JSON of tags: maps and lists."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.formats.helpers import PETS, fatal, read, tags_of


@pytest.mark.parametrize(
    "content",
    [
        {"a.jpg": ["dog"], "b": ["cat"], "c.jpg": ["cat", " dog "], "d.jpg": ["dog", "cat"]},
        {"a.jpg": "dog", "b": "cat", "c.jpg": "cat; dog", "d.jpg": "dog;cat"},
        [
            {"image": "a.jpg", "tags": ["dog"]},
            {"File": "b.jpg", "Labels": "cat"},
            {"path": "c.jpg", "class": "cat;dog"},
            {"tags": ["cat", "dog"], "image": "d.jpg", "extra": {"deep": [1]}},
        ],
    ],
)
def test_json(tmp_path: Path, content: Any) -> None:
    table, problems = read(tmp_path, content, file="tags.JSON")
    assert not problems
    assert tags_of(table) == PETS


@pytest.mark.parametrize("file", ["tags.manifest", "tags.txt", "tags"])
def test_json_of_any_name(tmp_path: Path, file: str) -> None:
    lines = "\n".join(json.dumps({"source-ref": f"s3://x/{name}.jpg", "tags": tags}) for name, tags in PETS.items())
    table, problems = read(tmp_path, f"\n{lines}", file=file)
    assert not problems
    assert tags_of(table) == PETS


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "tags.json: is not JSON (Expecting property name"),
        ("", "tags.json: is not JSON (Expecting value"),
        ("[" * 100_000, "tags.json: is not JSON ("),
        ("9" * 10_000, "tags.json: is not JSON ("),
        ("3", "tags.json: holds int, neither a map nor a list. Write"),
        ("[]", "tags.json: holds no rows"),
        ("{}", "tags.json: holds no rows"),
        ('["a.jpg"]', "tags.json, entry 1: names no image ('None'). Write"),
        ('[{"image": 3, "tags": []}]', "entry 1: names no image ('3')"),
        ('{"a": 3}', "entry 1: the tag of 'a' is the number 3. Write the name"),
        ('{"a": [["dog"]]}', "entry 1: the tags of 'a' are '[['dog']]'"),
    ],
)
def test_bad_json(tmp_path: Path, content: str, message: str) -> None:
    _, problems = read(tmp_path, content, file="tags.json")
    assert any(message in text for text in fatal(problems)), problems


IMAGES = {"a": ("dog",), "b": ("cat", "dog")}
REGIONS = [{"shape_attributes": {"name": "rect"}, "region_attributes": {"animal": name}} for name in ("dog", "cat")]
LABEL_STUDIO = [
    {"id": i, "data": {"image": f"/data/upload/1/0123abcd-{name}.jpg"}, "annotations": [
        {"id": 7, "was_cancelled": False, "result": [
            {"type": "rectanglelabels", "value": {"x": 1, "rectanglelabels": [tag]}} for tag in tags
        ] + [{"type": "relation", "from_id": "x"}, {"type": "rating", "value": {"rating": 3}}]},
        {"id": 8, "was_cancelled": True, "result": [{"type": "choices", "value": {"choices": ["yak"]}}]},
    ], "predictions": []}
    for i, (name, tags) in enumerate(IMAGES.items())
]  # fmt: skip


@pytest.mark.parametrize(
    "content",
    [
        LABEL_STUDIO,
        [
            {"image": "/data/upload/1/a.jpg", "id": 1, "label": [{"x": 1, "rectanglelabels": ["dog"]}], "user": 1},
            {"image": "/data/upload/1/b.jpg", "id": 2, "label": [{"brushlabels": ["dog", "cat"], "rle": [1, 2]}]},
        ],
        [{"image": "a.jpg", "id": 1, "choice": "dog"}, {"image": "b.jpg", "choice": {"choices": ["cat", "dog"]}}],
        [
            {"image": "a.jpg", "annotations": [{"label": "dog", "coordinates": {"x": 1, "y": 2}}]},
            {"image": "b.jpg", "annotations": [{"label": "dog"}, {"label": "cat"}, {"label": "cat"}]},
        ],
        {
            "a.jpg123": {"filename": "a.jpg", "size": 123, "regions": REGIONS[:1], "file_attributes": {}},
            "b.jpg45": {"filename": "b.jpg", "size": 45, "regions": {"0": REGIONS[0], "1": REGIONS[1]}},
        },
        {
            "_via_settings": {"ui": {}},
            "_via_img_metadata": {
                "a.jpg123": {"filename": "a.jpg", "regions": REGIONS[:1]},
                "b.jpg45": {
                    "filename": "b.jpg",
                    "regions": [{"region_attributes": {"class": {"cat": True, "dog": True}, "colour": "red"}}],
                },
            },
        },
        {"classes": ["cat", "dog"], "labels": {"a": 1, "b": [1, 0]}},
        {"classes": ["cat", "dog"], "labels": {"a": [{"label": 1, "bounding_box": [0, 0, 1, 1]}], "b": [0, 1]}},
        {"version": 1, "images": [{"image": "a.jpg", "tags": ["dog"]}, {"image": "b.jpg", "tags": ["dog", "cat"]}]},
        {"annotations": {"a.jpg": ["dog"], "b.jpg": ["cat", "dog"]}},
        '{"file_name": "a.jpg", "label": "dog"}\n\n{"file_name": "b.jpg", "label": ["dog", "cat"]}\n',
        {"image": {"0": "a.jpg", "1": "b.jpg"}, "tags": {"0": "dog", "1": "cat;dog"}},
        {"filenames": ["a.jpg", "b.jpg"], "labels": ["dog", ["cat", "dog"]]},
        {"dog": ["a.jpg", "b.jpg"], "cat": ["b.jpg"]},
        {"a.jpg": {"dog": True, "cat": False}, "b.jpg": {"dog": 1, "cat": 1}},
        [["a.jpg", "dog"], ["b.jpg", ["cat", "dog"]]],
        [
            {"ID": "x", "External ID": "a.jpg", "Label": {"objects": [{"title": "dog"}], "classifications": []}},
            {"ID": "y", "External ID": "b.jpg", "Label": {"objects": [{"title": "dog"}, {"title": "cat"}]}},
        ],
        [
            {"name": "a.jpg", "labels": [{"category": "dog", "box2d": {"x1": 1}}]},
            {"name": "b.jpg", "labels": [{"category": "dog"}, {"category": "cat"}]},
        ],
        {"a.jpg": {"label": "dog", "id": 5}, "b.jpg": [{"name": "cat"}, {"name": "dog"}]},
        {
            "a.jpg": {"tags": [{"name": "blurred"}], "objects": [{"classTitle": "dog", "tags": [{"name": "far"}]}]},
            "b.jpg": {"tags": [], "objects": [{"classTitle": "dog"}, {"classTitle": "cat", "tags": []}]},
        },
    ],
)  # fmt: skip
def test_json_of_programs(tmp_path: Path, content: Any) -> None:
    table, problems = read(tmp_path, content, "a b", file="tags.json")
    assert not fatal(problems)
    assert {name: tuple(sorted(tags or ())) for name, tags in tags_of(table).items()} == IMAGES


def test_one_entry(tmp_path: Path) -> None:
    """LabelMe, and JSON lines with a single line."""
    content = {
        "version": "5.0",
        "flags": {},
        "shapes": [{"label": "dog", "points": [[1, 2]]}],
        "imagePath": "..\\a.jpg",
    }
    for file, entry in (("a.json", content), ("metadata.jsonl", {"file_name": "a.jpg", "label": "dog"})):
        table, problems = read(tmp_path, entry, "a", file=file)
        assert not fatal(problems)
        assert tags_of(table) == {"a": ("dog",)}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"project": {}, "file": {"1": {"fname": "a.jpg"}}},
            "no key is the name of an image (its keys: 'project, file')",
        ),
        ({"a.jpg": 0, "b.jpg": 1}, "entry 1: the tag of 'a.jpg' is the number 0. Write the name of the class"),
        ([{"image": "a.jpg", "animal": "dog"}], "no entry has tags (the keys of its entries: 'image, animal'). Call"),
        (
            [{"image_id": 1, "category_id": 3, "bbox": [1, 2, 3, 4]}],
            "no entry has tags (the keys of its",
        ),
        (
            {"x": {"filename": "a.jpg", "regions": [{"region_attributes": {"animal": "dog", "colour": "red"}}]}},
            "a.jpg, region 1: has the attributes 'animal', 'colour', and does not say which is the class. Call it",
        ),
        ({"a.jpg": [{"score": 1}]}, "entry 1: the tags of 'a.jpg' are '"),
        ('{"image": "a.jpg", "tags": "dog"}\n{"image": "b.jpg",\n', "tags.json, line 2: is not JSON ("),
    ],
)
def test_json_that_is_not_understood(tmp_path: Path, content: Any, message: str) -> None:
    """No message proposes that the images show no class."""
    _, problems = read(tmp_path, content, "a b", file="tags.json")
    text = "\n".join(fatal(problems))
    assert message in text and "untagged" not in text
