"""YOLO's text files become labels and tags, and labels YOLO's text files."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from cian.data.masks import read_mask, write_mask
from cian.errors import CianError
from cian.formats.convert import convert
from tests.formats.helpers import images, read, splits_of, tags_of, write

SIZE = (10, 20)  # height, width
BOX = np.zeros(SIZE, int)
BOX[2:6, 5:15] = 1
CORNERS = "0.25 0.2 0.75 0.2 0.75 0.6 0.25 0.6"


def data_set(root: Path, labels: dict[str, str], names: str = "names: {0: dog, 1: cat}\n") -> Path:
    """A data set with data.yaml, and the images of its text files."""
    write(root / "data.yaml", f"path: /elsewhere\ntrain: images/train\nval: images/val\n{names}")
    for name, text in labels.items():
        write(root / f"{name}.txt", text)
        photo = images(root, [f"{name.replace('labels', 'images')}.jpg"]) / f"{name.replace('labels', 'images')}.jpg"
        Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(photo)
    return root


@pytest.mark.parametrize("layout", ["labels/{}/a", "{}/labels/a"])
def test_both_layouts(tmp_path: Path, layout: str) -> None:
    """Numbers of classes begin with 0; a line of four numbers is a box and a tag."""
    train, val = (layout.format(split) for split in ("train", "val"))
    root = data_set(tmp_path / "data", {train: f"1 {CORNERS}\n\n", val: "0 0.5 0.5 0.1 0.1\n"})
    made = convert(root, "masks", tmp_path / "out", root)
    assert made.classes == ("dog", "cat") and made.labelled == 1
    assert "1 lines are boxes, so they are tags alone" in str(made.problems[0])
    mask = next((tmp_path / "out").rglob("*.png"))
    assert mask.relative_to(tmp_path / "out").as_posix() == f"{train.replace('labels', 'images')}.png"
    assert np.array_equal(read_mask(mask), BOX * 2)


def test_tags_and_splits(tmp_path: Path) -> None:
    root = data_set(tmp_path / "data", {"labels/train/a": f"1 {CORNERS}", "labels/val/b": "0 0.5 0.5 0.1 0.1"})
    for given in (root, root / "data.yaml"):
        table, problems = read(tmp_path, None, "images/train/a images/val/b", tags=given, min_images=0)
        assert not [each for each in problems if each.fatal]
        assert tags_of(table) == {"images/train/a": ("cat",), "images/val/b": ("dog",)}
        assert splits_of(table) == {"images/train/a": "train", "images/val/b": "val"}


@pytest.mark.parametrize(
    "layout", ["classes.txt labels/a.txt images/a", "obj.names obj_train_data/a.txt obj_train_data/a"]
)
def test_names_in_text_files(tmp_path: Path, layout: str) -> None:
    """As Label Studio and older exports of CVAT write them."""
    names, labels, image = layout.split()
    write(tmp_path / "data" / names, "dog\ncat\n")
    write(tmp_path / "data" / labels, f"1 {CORNERS}\n")
    photo = images(tmp_path / "photos", [f"{image}.jpg"]) / f"{image}.jpg"
    Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(photo)
    made = convert(tmp_path / "data", "masks", tmp_path / "out", tmp_path / "photos")
    assert made.classes == ("dog", "cat")
    assert np.array_equal(read_mask(tmp_path / "out" / f"{image}.png"), BOX * 2)


def test_an_archive_with_images_elsewhere(tmp_path: Path) -> None:
    root = data_set(tmp_path / "data", {"labels/train/a": f"1 {CORNERS}"}, "names: [dog, cat]\n")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in ("data.yaml", "labels/train/a.txt"):
            archive.write(root / name, f"export/{name}")
    convert(tmp_path / "a.zip", "masks", tmp_path / "out", root / "images")
    assert np.array_equal(read_mask(tmp_path / "out" / "train" / "a.png"), BOX * 2)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("7 " + CORNERS, "the class 7 has no name; there are 2 names"),
        ("cat " + CORNERS, "holds no numbers"),
        ("1 0.5 0.5", "has 2 numbers"),
        ("1 " + CORNERS + " 0.5", "is no polygon"),
        ("1 " + CORNERS + " 0.5 nan", "is no polygon"),
        ("inf " + CORNERS, "holds no numbers"),
    ],
)
def test_broken_lines(tmp_path: Path, line: str, message: str) -> None:
    root = data_set(tmp_path / "data", {"labels/train/a": f"1 {CORNERS}\n{line}\n"})
    try:
        said = str(convert(root, "masks", tmp_path / "out", root).problems[0])
    except CianError as error:
        said = str(error)
    assert message in said and "labels/train/a.txt, line 2: " in said


@pytest.mark.parametrize("names", ["names: 3\n", "names: {a: b}\n", "names: [&a dog, *a]\n", "names: [\n"])
def test_broken_names(tmp_path: Path, names: str) -> None:
    root = data_set(tmp_path / "data", {"labels/train/a": f"1 {CORNERS}\n"}, names)
    with pytest.raises(CianError, match=r"data|no labels"):
        convert(root, "coco", tmp_path / "out.json", root)


def test_what_is_written(tmp_path: Path) -> None:
    """A ring is one line: a seam leads to the hole. Images are copied."""
    ring = np.zeros(SIZE, np.uint8)
    ring[1:9, 1:9] = 2
    ring[3:6, 3:6] = 0
    write_mask(tmp_path / "masks" / "in" / "a.png", ring)
    photos = images(tmp_path / "photos", ["in/a.jpg"])
    Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(photos / "in" / "a.jpg")
    out = tmp_path / "out"
    convert(tmp_path / "masks", "yolo", out, photos, write(tmp_path / "classes.txt", "cat\ndog\n"))
    assert yaml.safe_load((out / "data.yaml").read_text()) == {
        "train": "images/train", "val": "images/train", "names": {0: "cat", 1: "dog"},
    }  # fmt: skip
    assert (out / "images" / "train" / "in" / "a.jpg").read_bytes() == (photos / "in" / "a.jpg").read_bytes()
    (line,) = (out / "labels" / "train" / "in" / "a.txt").read_text().splitlines()
    assert line.split()[0] == "1" and len(line.split()) == 1 + 2 * (4 + 2 + 5)
    convert(out, "masks", tmp_path / "again", photos)
    assert np.array_equal(read_mask(tmp_path / "again" / "in" / "a.png"), ring)
