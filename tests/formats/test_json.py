"""JSON of tags: maps and lists."""

from __future__ import annotations

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
        ('{"a": 3}', "entry 1: the tags of 'a' are '3'"),
        ('{"a": [["dog"]]}', "entry 1: the tags of 'a' are '[['dog']]'"),
    ],
)
def test_bad_json(tmp_path: Path, content: str, message: str) -> None:
    _, problems = read(tmp_path, content, file="tags.json")
    assert any(message in text for text in fatal(problems)), problems
