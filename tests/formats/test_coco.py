"""COCO annotations as tags and as splits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cian.config import DataConfig
from cian.formats.coco import split_of
from cian.reading.read import read_dataset
from tests.formats.devkits import coco, instance, square
from tests.formats.helpers import fatal, images, only, read, splits_of, tags_of, write


def test_tags(tmp_path: Path) -> None:
    content = coco(
        {1: "a.jpg", 2: "x/b.jpg"},
        [instance(1, 7), instance(2, 3, iscrowd=1), instance(2, 7), instance(2, 7), instance(1, 7, square(0, 0, 3))],
    )
    table, problems = read(tmp_path, content, "a x/b", "tags.json")
    assert not problems
    assert table is not None
    assert table.classes == ("cat", "dog")  # those that occur, by name
    assert tags_of(table) == {"a": ("dog",), "x/b": ("cat", "dog")}
    table, _ = read(tmp_path, content, "a x/b", "tags.json", classes=write(tmp_path / "c", "dog\ncat"))
    assert table is not None
    assert table.classes == ("dog", "cat")


def test_ids_may_be_texts(tmp_path: Path) -> None:
    content = coco({"one": "a.jpg"}, [instance("one", "k")], [{"id": "k", "name": " red  fox "}])
    table, problems = read(tmp_path, content, "a", "tags.json")
    assert not problems
    assert tags_of(table) == {"a": ("red fox",)}


def test_images_without_annotations(tmp_path: Path) -> None:
    content = coco({1: "a.jpg", 2: "b.jpg"}, [instance(1, 7)])
    _, problems = read(tmp_path, content, "a b", "tags.json")
    assert "tags.json: no tag for 1 image (b.jpg)" in only(problems) and "set data.untagged=negative" in only(problems)
    table, problems = read(tmp_path, content, "a b", "tags.json", untagged="negative")
    assert not problems
    assert tags_of(table) == {"a": ("dog",), "b": ()}


def test_a_map_of_tags_is_still_one(tmp_path: Path) -> None:
    table, _ = read(tmp_path, {"images": ["dog"], "b": ["cat"]}, "images b", "tags.json")
    assert tags_of(table) == {"b": ("cat",), "images": ("dog",)}
    rows = [{"image": "a", "tags": ["dog"], "category_id": 3}]
    table, _ = read(tmp_path, rows, "a", "tags.json")
    assert tags_of(table) == {"a": ("dog",)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": 3}, "tags.json: has no list 'images'. Export it again as COCO JSON"),
        ({"images": {"a": 1}}, "tags.json: has no list 'images'"),
        ({"categories": None}, "tags.json: has no list 'categories'"),
        ({"images": [3]}, "tags.json, image 1: has no id"),
        ({"images": [{"id": [1], "file_name": "a.jpg"}]}, "tags.json, image 1: has no id"),
        ({"images": [{"id": 1, "file_name": 4}]}, "tags.json, image 1: has no file_name"),
        ({"images": [{"id": 1, "file_name": "./"}]}, "tags.json, image 1: its file_name './' is no name of a file"),
        ({"images": [{"id": 1, "file_name": "a\0.png"}]}, "is no name of a file"),
        ({"images": [{"id": 1, "file_name": "\ud800.png"}]}, "is no name of a file"),
        ({"images": [{"id": 1, "file_name": "a"}] * 2}, "tags.json, image 2: its id '1' occurred before"),
        ({"categories": [{"id": 7}]}, "tags.json, category 1: has no name"),
        ({"annotations": ["a"]}, "tags.json, annotation 1: there is no image_id 'None'"),
        ({"annotations": [instance(5, 7)]}, "tags.json, annotation 1: there is no image_id '5'"),
        ({"annotations": [instance(1, {})]}, "tags.json, annotation 1: there is no category_id '[]'"),
        ({"annotations": []}, "tags.json: gives no tag to any image"),
        ({"images": [{"id": 1, "file_name": "q.jpg"}]}, "tags.json: there is no image 'q.jpg'. Correct the name"),
    ],
)
def test_broken_annotations(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    content = {**coco({1: "a.jpg"}, [instance(1, 7)]), **change}
    _, problems = read(tmp_path, content, "a", "tags.json")
    assert any(message in text for text in fatal(problems)), problems


def test_a_folder_of_annotations_has_splits(tmp_path: Path) -> None:
    labels = tmp_path / "labels"
    write(labels / "instances_train.json", coco({1: "a.jpg", 2: "b.jpg"}, [instance(1, 7), instance(2, 3)]))
    write(labels / "instances_val.json", coco({1: "a.jpg", 2: "c.jpg"}, [instance(1, 9)]))
    folder = images(tmp_path / "images", "train/a train/b val/a c")
    config = DataConfig(images=folder, tags=labels, min_images=1, classes=write(tmp_path / "c", "cat\ndog\nyak"))
    table, problems = read_dataset(config, 0)
    assert "class 'yak' has 0 training images" in only(problems)
    assert splits_of(table) == {"train/a": "train", "train/b": "train", "val/a": "val", "c": "val"}
    assert tags_of(table) == {"train/a": ("dog",), "train/b": ("cat",), "val/a": ("yak",), "c": None}
    _, problems = read_dataset(config.model_copy(update={"val_fraction": 0.5}), 0)
    text = "\n".join(fatal(problems))
    assert (
        f"settings: data.val_fraction is given, but {labels} says which images are held out. Remove data.val_fraction"
        in text
    )
    _, problems = read_dataset(config.model_copy(update={"split_column": "fold"}), 0)
    assert (
        "instances_train.json: is COCO JSON, so it has no column 'fold'. Remove data.split_column; give list files"
        in only(problems)
    )


def test_one_json_in_each_folder_of_a_split(tmp_path: Path) -> None:
    """As Roboflow exports it: the images lie beside the JSON, and may be called alike in two splits."""
    folder = images(tmp_path / "rf", "train/a train/b valid/a")
    write(folder / "train/_annotations.coco.json", coco({1: "a.jpg", 2: "b.jpg"}, [instance(1, 7), instance(2, 3)]))
    write(folder / "valid/_annotations.coco.json", coco({1: "a.jpg"}, [instance(1, 3)]))
    table, problems = read_dataset(DataConfig(images=folder, tags=folder, min_images=1), 0)
    assert not problems
    assert splits_of(table) == {"train/a": "train", "train/b": "train", "valid/a": "val"}
    assert tags_of(table) == {"train/a": ("dog",), "train/b": ("cat",), "valid/a": ("cat",)}
    one = folder / "train/_annotations.coco.json"
    table, _ = read_dataset(DataConfig(images=folder / "train", tags=one, min_images=1), 0)
    assert tags_of(table) == {"a": ("dog",), "b": ("cat",)}


def test_split_of() -> None:
    for name, split in {
        "instances_train2014": "train", "instances_val2017": "val", "instances_test": "test",
        "instances_default": "train", "instances_val-1": "val", "instances_validity": "train",
        "instances_valid": "val", "instances_Val2017_small": "val", "instances_validation2017": "val",
        "instances_minival2014": "val", "instances_testing": "test", "instances_training": "train",
    }.items():  # fmt: skip
        assert split_of(Path(f"x/{name}.json")) == split


def test_ids_as_text_and_as_numbers(tmp_path: Path) -> None:
    """Programs mix them. Other texts are ids, too."""
    content = coco({1: "a.jpg", "2": "b.jpg", "x": "c.jpg"}, [instance("1", "7"), instance(2, 3), instance("x", 9)])
    table, problems = read(tmp_path, content, "a b c", "tags.json")
    assert not problems
    assert tags_of(table) == {"a": ("dog",), "b": ("cat",), "c": ("yak",)}
