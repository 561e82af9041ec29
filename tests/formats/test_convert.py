"""`cian convert`: any format to any, and back to the same masks."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cian.data.masks import read_mask, write_mask
from cian.data.table import IGNORE
from cian.errors import CianError
from cian.formats.convert import Converted, convert
from tests.helpers import cli, fails

CLASSES = ["cat", "dog", "night owl"]
SIZE = (30, 41)  # height, width


def label_maps() -> dict[str, np.ndarray]:
    """Label maps with what formats find hard: rings, lines of one pixel, holes with objects in them, strokes."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    ring = np.where((np.hypot(y - 14, x - 18) < 11) & (np.hypot(y - 14, x - 18) > 7), 1, 0)
    inner = np.where(np.hypot(y - 14, x - 18) < 4, 2, ring)
    lines = np.where(y % 7 == 2, 3, np.where(x == 40, 1, 0))
    strokes = np.full(SIZE, IGNORE)
    strokes[3:6, 4:30], strokes[20:24, 10:12], strokes[9, :] = 0, 2, 1
    noise = np.random.default_rng(0).integers(0, 4, SIZE)
    maps = {"ring": inner, "sub/lines": lines, "strokes": strokes, "noise": noise, "all": np.full(SIZE, 3)}
    return {name: values.astype(np.uint8) for name, values in maps.items()}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """masks/ with label maps and classes.txt, and photos/ with their images."""
    for name, values in label_maps().items():
        write_mask(tmp_path / "masks" / f"{name}.png", values)
        photo = tmp_path / "photos" / f"{name}.jpg"
        photo.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(photo)
    (tmp_path / "masks" / "classes.txt").write_text("\n".join(["background", *CLASSES]) + "\n")
    return tmp_path


TO = {
    "masks": "out",
    "coco": "out.json",
    "label-studio": "out.json",
    "cvat": "out.xml",
    "cvat-masks": "out.zip",
    "yolo": "out",
    "labelme": "out",
    "voc": "out",
    "imagefolder": "out",
}


def back(source: Path, to: str, **options: bool) -> tuple[Converted, Path]:
    """Converts the masks to a format, and back to masks."""
    there = source / "there" / TO[to]
    there.parent.mkdir()
    result = convert(source / "masks", to, there, source / "photos", **options)
    assert not result.problems
    if to == "label-studio":  # somebody submits the predictions
        tasks = json.loads(there.read_text())
        there.write_text(json.dumps([{**task, "annotations": task["predictions"]} for task in tasks]))
    classes = source / "masks" / "classes.txt" if to in ("label-studio", "labelme") else None  # which list no classes
    assert not convert(there, "masks", source / "again", source / "photos", classes).problems
    return result, source / "again"


def assert_same(folder: Path, but: tuple[str, ...] = ()) -> None:
    for name, values in label_maps().items():
        if name not in but:
            assert np.array_equal(read_mask(folder / f"{name}.png"), values), name


@pytest.mark.parametrize("to", TO)
def test_there_and_back(source: Path, to: str) -> None:
    result, again = back(source, to)
    assert (result.images, result.labelled, result.classes) == (5, 5, tuple(CLASSES))
    assert_same(again)


def test_polygons_there_and_back(source: Path) -> None:
    _, again = back(source, "coco", polygons=True)
    assert_same(again)


def test_an_archive_is_read_without_unpacking(source: Path) -> None:
    convert(source / "masks", "coco", source / "coco.json", source / "photos")
    with zipfile.ZipFile(source / "export.zip", "w") as archive:
        archive.write(source / "coco.json", "annotations/instances_default.json")
        archive.writestr("__MACOSX/._instances_default.json", b"\0\1")
    before = sorted(source.rglob("*"))
    result = convert(source / "export.zip", "masks", source / "again", classes=source / "masks" / "classes.txt")
    assert result.saw == "COCO JSON, 5 images"
    assert_same(source / "again")
    assert [path for path in before if not path.exists()] == []


def test_what_is_lost_is_said(source: Path) -> None:
    result, _ = back(source, "coco")
    assert result.lost == ["1 images are unlabelled in part: their background is the category `background`"]
    result = convert(source / "masks", "cvat-masks", source / "x.zip")
    assert any("CVAT cannot say this" in text for text in result.lost)


def test_refused(source: Path, tmp_path: Path) -> None:
    def refused(message: str, *args: str, **options: Path) -> None:
        with pytest.raises(CianError, match=message):
            convert(tmp_path / args[0], args[1], tmp_path / args[2], **options)

    photos = source / "photos"
    refused("no such format. Give one of these: ", "masks", "coko", "a.json")
    refused("is a file that ends in .json", "masks", "coco", "out")
    refused("classes.txt exists. Give a new file or folder", "masks", "coco", "masks/classes.txt")
    refused("needs the names of the image files", "masks", "coco", "a.json")
    refused("lies in the folder of the images", "masks", "masks", "photos/out", images=photos)
    refused("no such file or folder", "nothing", "masks", "out")
    (source / "masks" / "classes.txt").unlink()
    refused("does not say what its classes are called", "masks", "coco", "a.json", images=photos)
    two = source / "two.txt"
    two.write_text("cat\ndog\n")
    refused("holds the values 3, which are no class", "masks", "coco", "a.json", images=photos, classes=two)


def test_sizes_that_differ(source: Path) -> None:
    """The image is named; the others are written."""
    write_mask(source / "masks" / "ring.png", np.zeros((10, 10), np.uint8))
    result = convert(source / "masks", "masks", source / "out", source / "photos")
    (problem,) = result.problems
    assert problem.fatal and "is for 10 x 10 pixels" in str(problem) and "41 x 30" in str(problem)
    assert not (source / "out" / "ring.png").exists()
    assert result.images == 4


def test_images_that_were_reduced(source: Path) -> None:
    """Labels of the large image become labels of the small one."""
    large = np.kron(label_maps()["ring"], np.ones((4, 4), np.uint8))
    write_mask(source / "large" / "ring.png", large)
    made = convert(source / "large", "coco", source / "l.json", source / "photos", source / "masks" / "classes.txt")
    assert made.lost == ["pixels of 1 label maps that are larger than their images"]
    content = json.loads((source / "l.json").read_text())
    assert (content["images"][0]["height"], content["images"][0]["width"]) == SIZE
    convert(source / "l.json", "masks", source / "out")
    assert np.array_equal(read_mask(source / "out" / "ring.png"), label_maps()["ring"])


def test_on_the_command_line(source: Path) -> None:
    args = (str(source / "masks"), "--to", "coco", "--out", str(source / "o.json"), "--images", str(source / "photos"))
    result = cli("convert", *args)
    assert result.returncode == 0, result.stderr
    assert "5 images, 5 of them labelled, 3 classes" in result.stdout
    assert "label maps, 5 images" in result.stderr and "lost: 1 images" in result.stderr
    fails(cli("convert", *args), "exists. Give a new file or folder")
    content = json.loads((source / "o.json").read_text())
    assert [each["name"] for each in content["categories"]] == [*CLASSES, "background"]
