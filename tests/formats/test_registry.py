"""The one door to all formats: it recognises what it is given, and no input makes it fail."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from cian.config import DataConfig
from cian.data.problems import ProblemList
from cian.data.table import TRAIN
from cian.formats.file_index import index_images
from cian.formats.registry import FORMATS, open_tags
from cian.reading.read import read_dataset
from tests.formats.devkits import coco, instance, xml
from tests.formats.helpers import fatal, images, only, read, write


@pytest.mark.parametrize("suffix", ["csv", "json", "txt"])
@pytest.mark.parametrize("seed", range(25))
def test_garbage_gives_problems_only(tmp_path: Path, suffix: str, seed: int) -> None:
    rng = random.Random(seed)
    alphabet = [bytes(range(256)), bytes(range(1, 128)), b'a,;\t"\n\r .jpgimagetags01\xe9', b'[]{}":,\\ua1.\n'][
        seed % 4
    ]
    garbage = bytes(rng.choices(alphabet, k=rng.randrange(1, 3000)))
    start = rng.choice([b"", b"image,tags\n", b"image,dog,cat\n", b"a.jpg,dog\n"])
    lists = {TRAIN: write(tmp_path / "train.txt", garbage), "val": write(tmp_path / "val.txt", garbage[::-1])}
    for config in ({}, {"splits": lists, "classes": lists[TRAIN]}, {"split_column": "tags"}):
        table, problems = read(tmp_path, start + garbage, file=f"tags.{suffix}", **config)
        assert fatal(problems) or table is not None
        for problem in problems:
            assert problem.file
            assert problem.value
            assert problem.cure
            str(problem).encode()
            assert "\n" not in str(problem)


def saw(tmp_path: Path, content: Any, file: str = "tags.csv", names: str = "a b") -> str:
    """What the door recognised, of the tags of images a and b."""
    folder = images(tmp_path / "images", names)
    config = DataConfig(images=folder, tags=None if content is None else write(tmp_path / file, content))
    return open_tags(config, index_images(folder), None, ProblemList()).saw


def test_what_is_given_is_recognised(tmp_path: Path) -> None:
    assert saw(tmp_path, "image,tags\na,dog;cat\n") == "CSV, a row for each image"
    assert saw(tmp_path, "image,tag\na,dog\na,cat\n") == "CSV, a row for each image and tag"
    assert saw(tmp_path, "image,dog,cat\na,1,0\n", "tags.txt") == "CSV, a column for each of 2 classes"
    assert saw(tmp_path, {"a": ["dog"]}, "tags.json") == "JSON, a map of images to tags"
    assert saw(tmp_path, [{"image": "a", "tags": "dog"}], "tags.JSON") == "JSON, a list of images with tags"
    assert saw(tmp_path, coco({1: "a.jpg"}, [instance(1, 7)]), "tags.json") == "COCO JSON"
    assert saw(tmp_path / "c", None, names="dog/a") == "a folder for each class"
    assert (
        saw(tmp_path / "s", None, names="train/dog/a") == "a folder for each split, with a folder for each class in it"
    )


def test_a_folder_is_recognised(tmp_path: Path) -> None:
    folder = images(tmp_path / "images", "a")
    write(tmp_path / "labels" / "a.xml", xml(["dog"]))
    config = DataConfig(images=folder, tags=tmp_path / "labels")
    index = index_images(folder)
    assert open_tags(config, index, None, ProblemList()).saw == "PASCAL VOC XML, a file for each image"
    write(tmp_path / "labels" / "instances_val.json", coco({1: "a.jpg"}, [instance(1, 7)]))
    assert open_tags(config, index, None, ProblemList()).saw == "COCO JSON, instances_val.json"


def test_what_no_format_recognises(tmp_path: Path) -> None:
    """The error lists all formats."""
    folder = write(tmp_path / "labels" / "notes.md", "Cats").parent
    _, problems = read_dataset(DataConfig(images=images(tmp_path / "i", "a"), tags=folder), 0)
    text = only(problems)
    assert f"{folder}: holds no tags in a format that cian reads. Give one of these: " in text
    assert all(form.description in text for form in FORMATS)
