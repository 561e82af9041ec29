"""`--labels` and `--masks` take every format of labels."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cian.config import DataConfig
from cian.data.masks import read_mask, write_mask
from cian.data.table import Table
from cian.errors import Problem
from cian.formats.convert import convert
from cian.reading.check import check_dataset
from cian.reading.read import read_dataset
from tests.formats.helpers import fatal, tags_of, write

SIZE = (20, 30)  # height, width
BOX = np.zeros(SIZE, np.uint8)
BOX[2:6, 5:15] = 1
TO = {
    "coco": "l.json",
    "cvat": "l.xml",
    "cvat-masks": "l.zip",
    "yolo": "l",
    "labelme": "l",
    "voc": "l",
    "imagefolder": "l",
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """photos/ of a … d, tags.csv of a and b, and masks/ of a, b and c: a cat, a dog and both."""
    for name in "abcd":
        path = tmp_path / "photos" / f"{name}.jpg"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(path)
    write(tmp_path / "tags.csv", "image,tags\na.jpg,cat\nb.jpg,dog\n")
    for name, values in {"a": BOX, "b": BOX * 2, "c": BOX + BOX.T.reshape(SIZE) * 0 + np.roll(BOX, 9, 0) * 2}.items():
        write_mask(tmp_path / "masks" / f"{name}.png", values)
    write(tmp_path / "masks" / "classes.txt", "cat\ndog\n")
    return tmp_path


def dataset(data: Path, **config: Any) -> tuple[Table | None, list[Problem]]:
    given = {"images": data / "photos", "tags": data / "tags.csv", "min_images": 1, **config}
    return read_dataset(DataConfig(**given), 0)


@pytest.mark.parametrize("to", TO)
def test_every_format(data: Path, to: str) -> None:
    """Label maps as from the folder; an image without tags has the classes of its label map."""
    made = data / "made" / TO[to]
    made.parent.mkdir()
    convert(data / "masks", to, made, data / "photos")
    table, problems = dataset(data, labels=made, masks=made)
    assert table is not None and not fatal(problems), problems
    assert tags_of(table) == {"a": ("cat",), "b": ("dog",), "c": ("cat", "dog")}
    for column in (table.labels, table.masks):
        for name, path in zip(table.ids, column, strict=True):
            assert path is not None and np.array_equal(read_mask(path), read_mask(data / "masks" / f"{name}.png"))
    assert any("3 label maps read from it" in str(each) for each in problems)
    config = DataConfig(images=data / "photos", tags=data / "tags.csv", labels=made, masks=made, min_images=1)
    found = check_dataset(config, 0)[1]
    assert not fatal(found) and not any("the ids in masks are taken as" in str(each) for each in found)


def test_label_studio_in_part(data: Path) -> None:
    """Images that nobody has labelled learn from their tags."""
    convert(data / "masks", "label-studio", data / "l.json", data / "photos")
    tasks = json.loads((data / "l.json").read_text())
    submitted = [{**task, "annotations": task["predictions"][:number]} for number, task in enumerate(tasks)]
    write(data / "l.json", submitted)
    table, problems = dataset(data, labels=data / "l.json")
    assert table is not None and [path is not None for path in table.labels] == [False, True, True]
    assert any("1 image without any object, so not labelled" in str(each) for each in problems)


def test_drawn_once(data: Path, cache: Path) -> None:
    """What is unchanged is not drawn again; other annotations or classes give other files."""
    convert(data / "masks", "coco", data / "l.json", data / "photos")
    dataset(data, labels=data / "l.json")
    first = {path: path.stat().st_mtime_ns for path in cache.rglob("*.png")}
    dataset(data, labels=data / "l.json")
    assert {path: path.stat().st_mtime_ns for path in cache.rglob("*.png")} == first and len(first) == 3
    next(iter(first)).unlink()
    dataset(data, labels=data / "l.json")
    assert len(list(cache.rglob("*.png"))) == 3
    classes = write(data / "classes.txt", "dog\ncat\n")
    table, _ = dataset(data, labels=data / "l.json", classes=classes)
    assert table is not None and table.labels[0] is not None and read_mask(table.labels[0]).max() == 2
    content = json.loads((data / "l.json").read_text())
    write(data / "l.json", {**content, "annotations": content["annotations"][1:]})
    table, _ = dataset(data, labels=data / "l.json")
    assert table is not None and table.labels[0] is None


def test_classes_that_no_tag_has(data: Path) -> None:
    """Of an image with tags: named before work starts, with the way out. Of one without: a class like others."""
    convert(data / "masks", "coco", data / "l.json", data / "photos")
    content = json.loads((data / "l.json").read_text())
    content["categories"][0]["name"] = "cta"
    content["annotations"] = content["annotations"][:2]
    write(data / "l.json", content)
    _, problems = dataset(data, labels=data / "l.json")
    assert any("l.json: class 'cta' is not among the tags (did you mean 'cat'?)" in text for text in fatal(problems))
    assert any("or leave it out (data.drop=[cta])" in text for text in fatal(problems))
    table, problems = dataset(data, labels=data / "l.json", drop=("cta",))
    assert table is not None and not fatal(problems)
    assert table.labels[0] is not None and np.unique(read_mask(table.labels[0], table.mask_ids)).tolist() == [0, 255]
    table, problems = dataset(data, labels=data / "l.json", merge={"cta": "cat"})
    assert table is not None and not fatal(problems)
    assert table.labels[0] is not None and np.unique(read_mask(table.labels[0], table.mask_ids)).tolist() == [0, 1]


def test_a_new_class_of_an_image_without_tags(data: Path) -> None:
    """Class ids stay those of the masks in folders."""
    write_mask(data / "masks" / "d.png", BOX * 3)
    write(data / "masks" / "classes.txt", "cat\ndog\nant\n")
    convert(data / "masks", "coco", data / "l.json", data / "photos")
    table, problems = dataset(data, labels=data / "l.json", masks=data / "masks")
    assert table is not None and not fatal(problems)
    assert table.classes == ("ant", "cat", "dog") and tags_of(table)["d"] == ("ant",)
    for column in (table.labels, table.masks):
        assert column[0] is not None and read_mask(column[0], table.mask_ids).max() == 2  # a cat


def test_broken_labels(data: Path) -> None:
    """All bad shapes at once, and files of other kinds."""
    convert(data / "masks", "coco", data / "l.json", data / "photos")
    content = json.loads((data / "l.json").read_text())
    for each in content["annotations"][:2]:
        each["segmentation"] = [[1, 2, 3]]
    write(data / "l.json", content)
    _, problems = dataset(data, labels=data / "l.json")
    assert sum("is no polygon" in text for text in fatal(problems)) == 2
    for name, value, message in (
        ("x.json", {"a": 1}, "x.json: holds no labels in a format that cian reads. Give one of these: "),
        ("x.txt", "cat\n", "x.txt: holds no labels"),
        ("none.json", None, "none.json: no such folder"),
    ):
        path = data / name if value is None else write(data / name, value)
        _, problems = dataset(data, labels=path)
        assert any(message in text for text in fatal(problems)), problems


def test_images_that_are_not_there(data: Path) -> None:
    convert(data / "masks", "coco", data / "l.json", data / "photos")
    (data / "photos" / "c.jpg").unlink()
    table, problems = dataset(data, labels=data / "l.json")
    assert table is not None and not fatal(problems)
    assert any("1 image (c.jpg) are not among the images" in str(each) for each in problems)


def test_names_of_uploads(data: Path) -> None:
    """Found all the same, and said; an image that occurs twice, too."""
    convert(data / "masks", "label-studio", data / "l.json", data / "photos", prefix="/data/upload/1/1a2b3c4d-")
    tasks = json.loads((data / "l.json").read_text())
    tasks = [{**task, "annotations": task["predictions"]} for task in tasks]
    write(data / "l.json", [*tasks, tasks[0]])
    table, problems = dataset(data, labels=data / "l.json")
    assert table is not None and not fatal(problems) and all(table.labels)
    said = "\n".join(map(str, problems))
    assert (
        "'/data/upload/1/1a2b3c4d-a.jpg' is 'a.jpg'" in said and "1 image (/data/upload/1/1a2b3c4d-a.jpg) occur" in said
    )


def test_images_that_cannot_be_read(data: Path) -> None:
    """Where the file does not say the sizes of its images."""
    convert(data / "masks", "yolo", data / "l", data / "photos")
    (data / "photos" / "a.jpg").write_bytes(b"x")
    table, problems = dataset(data, labels=data / "l")
    assert ["a.jpg: not an image" in text for text in fatal(problems)] == [True]
    assert table is not None and [path is not None for path in table.labels] == [False, True, True]


def test_an_archive(data: Path) -> None:
    convert(data / "masks", "coco", data / "l.json", data / "photos")
    with zipfile.ZipFile(data / "l.zip", "w") as archive:
        archive.write(data / "l.json", "annotations/instances_default.json")
    table, problems = dataset(data, labels=data / "l.zip")
    assert table is not None and not fatal(problems) and [bool(path) for path in table.labels] == [True, True, True]
    table, problems = dataset(data, tags=data / "l.zip")
    assert tags_of(table) == {"a": ("cat",), "b": ("dog",), "c": ("cat", "dog")}
    assert table is not None and "COCO JSON, 3 images" in table.source
