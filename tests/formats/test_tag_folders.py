"""Folders of files of tags."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cian.config import DataConfig
from cian.reading.read import read_dataset
from tests.formats.helpers import fatal, images, only, splits_of, tags_of, write

SPLIT = {"train/a": ("cat", "dog"), "valid/a": ("dog",), "test/a": ("cat",)}


def read_folder(tmp_path: Path, files: dict[str, Any], names: list[str], **config: Any) -> Any:
    for name, content in files.items():
        write(tmp_path / "tags" / name, content)
    folder = images(tmp_path / "images", names)
    return read_dataset(DataConfig(images=folder, tags=tmp_path / "tags", min_images=1, **config), 0)


@pytest.mark.parametrize(
    "files",
    [
        {
            "train/_classes.csv": "filename, cat, dog\na.jpg,1,1\n",
            "valid/_classes.csv": "filename, cat, dog\na.jpg,0,1\n",
            "test/_classes.csv": "filename, cat, dog\na.jpg,1,0\n",
        },
        {
            "train/_annotations.csv": "filename,width,class\na.jpg,9,cat\na.jpg,9,dog\n",
            "valid/_annotations.csv": "filename,width,class\na.jpg,9,dog\n",
            "test/_annotations.csv": "filename,width,class\na.jpg,9,cat\n",
        },
        {
            "train/metadata.jsonl": '{"file_name": "a.jpg", "label": ["cat", "dog"]}\n',
            "valid/metadata.jsonl": '{"file_name": "a.jpg", "label": "dog"}\n',
            "test/metadata.jsonl": '{"file_name": "a.jpg", "label": "cat"}\n',
        },
        {
            "train.csv": "image,tags\na,cat;dog\n",
            "valid_labels.csv": "image,tags\nvalid/a,dog\n",
            "test.json": {"a.jpg": ["cat"]},
        },
    ],
)
def test_a_file_for_each_split(tmp_path: Path, files: dict[str, Any]) -> None:
    table, problems = read_folder(tmp_path, files, list(SPLIT))
    assert not fatal(problems)
    assert tags_of(table) == SPLIT
    assert splits_of(table) == {"train/a": "train", "valid/a": "val", "test/a": "test"}


def test_problems_name_the_file_and_the_line(tmp_path: Path) -> None:
    files = {"train/a.csv": "image,tags\na,cat\n", "valid/b.csv": "image,tags\na,dog\ngone,cat\n"}
    _, problems = read_folder(tmp_path, files, list(SPLIT))
    assert f"{tmp_path / 'tags' / 'valid' / 'b.csv'}, line 3: there is no image 'gone'" in fatal(problems)[0]
    _, problems = read_folder(tmp_path / "2", {"train/a.csv": "image\na\n", "b.csv": "image,tags\na,dog\n"}, ["a"])
    assert "a.csv: its first line 'image' has only one column" in "\n".join(fatal(problems))


def test_a_file_for_each_image(tmp_path: Path) -> None:
    shape = [{"label": "dog", "points": []}, {"label": "cat", "points": []}]
    labelme = {
        f"{name}.json": {"version": "5", "shapes": shape[:n], "imagePath": f"{name}.jpg"}
        for name, n in (("a", 1), ("b", 2))
    }
    texts = {"a.txt": "dog\n", "x/b.txt": "dog, cat", "README.txt": "Cats and dogs."}
    others = {
        "a.jpg.json": {"description": "", "objects": [{"classTitle": "dog"}], "size": {"height": 1}},
        "b.json": {"item": {"name": "b.jpg"}, "annotations": [{"name": "dog"}, {"name": "cat", "polygon": {}}]},
    }
    for number, files in enumerate((labelme, texts, others)):
        table, problems = read_folder(tmp_path / str(number), files, ["a", "b"])
        assert not problems
        assert tags_of(table) == {"a": ("dog",), "b": ("cat", "dog")}


def test_yolo_is_named(tmp_path: Path) -> None:
    _, problems = read_folder(tmp_path, {"a.txt": "0 0.5 0.5 0.1 0.1\n", "data.yaml": "names: [cat]"}, ["images/a"])
    assert (
        "a.txt: holds numbers as YOLO writes them, not names of classes. Give the folder that holds"
        in fatal(problems)[0]
    )
    folder = tmp_path / "images"
    _, problems = read_dataset(DataConfig(images=folder, tags=tmp_path / "tags" / "data.yaml"), 0)
    assert "data.yaml: is YAML, which names no images. Give a CSV file" in only(problems)
