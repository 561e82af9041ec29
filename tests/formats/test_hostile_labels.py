"""Files of labels in which anything is changed: an error with a message, or labels; never a traceback."""

from __future__ import annotations

import json
import random
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cian.data.masks import write_mask
from cian.errors import CianError
from cian.formats.convert import convert
from tests.formats.helpers import write

SIZE = (12, 17)  # height, width
TO = {
    "coco": "l.json",
    "label-studio": "l.json",
    "cvat": "annotations.xml",
    "cvat-masks": "l.zip",
    "yolo": "l",
    "labelme": "l",
    "imagefolder": "l",
}
# What may stand in place of any value.
VALUES: list[Any] = [None, True, -1, 0, 1e308, 10**400, "", "x", "../../x", "a\0b", [], [[]], {}, {"a": 1}, [None] * 3]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labels in every format, of three images."""
    root = tmp_path_factory.mktemp("made")
    for number, name in enumerate(("a", "in/b", "c")):
        values = np.random.default_rng(number).integers(0, 3, SIZE).astype(np.uint8)
        values[:, :3] = 255 if number else 0
        write_mask(root / "masks" / f"{name}.png", values)
        photo = root / "photos" / f"{name}.jpg"
        photo.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(photo)
    write(root / "masks" / "classes.txt", "cat\ndog\n")
    for to, name in TO.items():
        (root / to).mkdir()
        convert(root / "masks", to, root / to / name, root / "photos")
    tasks = json.loads((root / "label-studio" / "l.json").read_text())
    write(root / "label-studio" / "l.json", [{**task, "annotations": task["predictions"]} for task in tasks])
    return root


def changed_value(value: Any, rng: random.Random, left: list[int]) -> Any:
    """JSON with one value exchanged, or one key removed."""
    left[0] -= 1
    if left[0] == 0:
        return rng.choice(VALUES)
    if isinstance(value, dict):
        dropped = rng.choice(list(value)) if value and rng.random() < 0.02 else None
        return {key: changed_value(each, rng, left) for key, each in value.items() if key != dropped}
    if isinstance(value, list):
        return [changed_value(each, rng, left) for each in value]
    return value


def changed(content: bytes, suffix: str, rng: random.Random) -> bytes:
    kind = rng.choice(["bytes", "cut", "value"])
    if kind == "value" and suffix == ".json":
        value = json.loads(content)
        return json.dumps(changed_value(value, rng, [rng.randrange(1, 40)])).encode()
    if kind == "value" and suffix in (".xml", ".txt", ".yaml", ".jsonl"):
        text = content.decode()
        places = list(re.finditer(r'"[^"]*"|[\d.]+|\w+', text))
        place = rng.choice(places)
        new = rng.choice(['"-1"', '"x"', "1e999", "", '"nan"', "../../x", "-5", "99999999999999999999", "&#0;", "<"])
        return (text[: place.start()] + new + text[place.end() :]).encode()
    if kind == "cut":
        return content[: rng.randrange(len(content) + 1)]
    data = bytearray(content)
    for _ in range(rng.randrange(1, 6)):
        data[rng.randrange(len(data))] = rng.randrange(256)
    return bytes(data)


def variants(made: Path, to: str, rng: random.Random, target: Path) -> Iterator[Path]:
    """The labels, with one file changed; also in an archive."""
    source = made / to
    files = [path for path in source.rglob("*") if path.is_file() and path.suffix not in (".jpg",)]
    chosen = rng.choice(files)
    for path in source.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            content = changed(content, path.suffix, rng) if path == chosen and content else content
            write(target / path.relative_to(source), content)
    given = target / TO[to]
    yield given
    if given.suffix != ".zip":
        with zipfile.ZipFile(target / "all.zip", "w") as archive:
            for path in [given] if given.is_file() else given.rglob("*"):
                archive.write(path, path.relative_to(target))
        yield target / "all.zip"


@pytest.mark.parametrize("to", TO)
@pytest.mark.parametrize("seed", range(12))
def test_never_a_traceback(made: Path, tmp_path: Path, to: str, seed: int) -> None:
    rng = random.Random(f"{to} {seed}")
    for number, given in enumerate(variants(made, to, rng, tmp_path / "given")):
        out = tmp_path / f"out{number}"
        try:
            problems = convert(given, "masks", out, made / "photos").problems
        except CianError as error:
            assert str(error)
        else:
            for problem in problems:
                assert problem.file and problem.value and problem.cure and "\n" not in str(problem)
        assert {path.name for path in tmp_path.iterdir()} <= {"given", "out0", "out1"}
