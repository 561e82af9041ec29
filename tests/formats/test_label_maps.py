"""Label maps in folders: indexed, grey, coloured, of 16 bits, binary; devkits of VOC and imagefolders."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from cian.config import DataConfig
from cian.data.masks import read_mask, write_mask
from cian.data.palette import COLOURS, VOC_COLOURS
from cian.errors import CianError
from cian.formats.convert import convert
from cian.reading.read import read_dataset
from tests.formats.helpers import images, tags_of, write

SIZE = (10, 20)  # height, width
BOX = np.zeros(SIZE, np.uint8)
BOX[2:6, 5:15] = 1
DISC = (np.hypot(*(np.mgrid[: SIZE[0], : SIZE[1]] - np.array([5, 9]).reshape(2, 1, 1))) < 3).astype(np.uint8)


def save(path: Path, values: Any, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path, **options)


def photos(tmp_path: Path, *names: str) -> Path:
    for name in names or ("a.jpg",):
        save(tmp_path / "photos" / name, np.zeros((*SIZE, 3), np.uint8))
    return tmp_path / "photos"


def classes(tmp_path: Path, text: str = "cat\ndog\n") -> Path:
    return write(tmp_path / "names.txt", text)


@pytest.mark.parametrize("mode", ["grey", "16 bit", "ours", "voc"])
def test_kinds_of_png(tmp_path: Path, mode: str) -> None:
    values = BOX * 2
    values[0] = 255
    stored = {
        "grey": values,
        "16 bit": values.astype(np.uint16),
        "ours": COLOURS[values],
        "voc": VOC_COLOURS[values],
    }[mode]
    save(tmp_path / "masks" / "a.png", stored)
    convert(tmp_path / "masks", "masks", tmp_path / "out", classes=classes(tmp_path))
    assert np.array_equal(read_mask(tmp_path / "out" / "a.png"), values)


def test_wrong_values(tmp_path: Path) -> None:
    save(tmp_path / "masks" / "a.png", np.full(SIZE, 300, np.uint16))
    with pytest.raises(CianError, match=r"a\.png: holds the values 300, which are no class"):
        convert(tmp_path / "masks", "masks", tmp_path / "out", classes=classes(tmp_path))
    save(tmp_path / "masks" / "a.png", np.full((*SIZE, 3), (77, 77, 78), np.uint8))
    with pytest.raises(CianError, match=r"colour \(77, 77, 78\) at x=0, y=0 is not one of"):
        convert(tmp_path / "masks", "masks", tmp_path / "out", classes=classes(tmp_path))


@pytest.mark.parametrize("layout", ["{label}/in/{name}.png", "in/{name}_{label}.png", "in/{name}_{label}.png named"])
def test_binary_masks(tmp_path: Path, layout: str) -> None:
    """Overlaps belong to the class with the higher id."""
    layout, _, named = layout.partition(" ")
    if "/in/" in layout:
        layout = "in/{label}/{name}.png"  # the folder of the file is the class
    for label, mask in (("cat", BOX), ("dog", DISC)):
        save(tmp_path / "masks" / layout.format(label=label, name="a"), mask * 255)
    save(tmp_path / "masks" / layout.format(label="cat", name="b"), BOX * 0)
    if "_" in layout:
        given: Path | None = classes(tmp_path)
    else:
        given = classes(tmp_path) if named else None
    made = convert(tmp_path / "masks", "masks", tmp_path / "out", classes=given)
    assert made.classes == ("cat", "dog") and made.saw == "binary masks of 2 classes, 2 images"
    assert np.array_equal(read_mask(tmp_path / "out" / "in" / "a.png"), np.where(DISC, 2, BOX))
    assert not read_mask(tmp_path / "out" / "in" / "b.png").any()


def test_binary_masks_of_one_class(tmp_path: Path) -> None:
    save(tmp_path / "masks" / "in" / "a.png", BOX * 255)
    convert(tmp_path / "masks", "masks", tmp_path / "out", classes=classes(tmp_path, "cat\n"))
    assert np.array_equal(read_mask(tmp_path / "out" / "in" / "a.png"), BOX)
    save(tmp_path / "flat" / "a.png", BOX * 255)
    with pytest.raises(CianError, match="is black and white, but does not say of which class"):
        convert(tmp_path / "flat", "masks", tmp_path / "out2")


def test_a_devkit(tmp_path: Path) -> None:
    """Images that are no upright JPEG are saved again; `data.voc` reads it."""
    values = BOX * 2
    values[0] = 255
    write_mask(tmp_path / "masks" / "a.png", values)
    write_mask(tmp_path / "masks" / "b.png", DISC)
    folder = photos(tmp_path, "a.jpg", "b.png")
    made = convert(tmp_path / "masks", "voc", tmp_path / "out", folder, classes(tmp_path))
    assert made.lost == ["1 images were not upright JPEG files, so they are saved again, with losses"]
    root = tmp_path / "out" / "VOCdevkit" / "VOC2012"
    assert (root / "JPEGImages" / "a.jpg").read_bytes() == (folder / "a.jpg").read_bytes()
    with Image.open(root / "JPEGImages" / "b.jpg") as image:
        assert image.format == "JPEG" and image.size == SIZE[::-1]
    with Image.open(root / "SegmentationClass" / "a.png") as image:
        assert image.mode == "P" and np.array_equal(np.array(image), values)
        assert image.getpalette()[:768] == VOC_COLOURS.ravel().tolist()
    lists = root / "ImageSets" / "Segmentation"
    assert [(lists / f"{name}.txt").read_text() for name in ("train", "val", "trainval")] == ["a\nb\n", "", "a\nb\n"]
    (first,) = ElementTree.fromstring((root / "Annotations" / "a.xml").read_text()).iter("object")
    box = {child.tag: int(child.text or 0) for child in first.find("bndbox") or ()}
    assert first.findtext("name") == "dog" and box == {"xmin": 6, "ymin": 3, "xmax": 15, "ymax": 6}
    lists.joinpath("train_aug.txt").write_text("a\nb\n")
    table, problems = read_dataset(DataConfig(voc=root, classes=classes(tmp_path), min_images=1), 0)
    assert not [each for each in problems if each.fatal], problems
    assert tags_of(table) == {"a": ("dog",), "b": ("cat",)}
    assert table is not None and [mask and mask.name for mask in table.masks] == ["a.png", "b.png"]


def test_masks_of_roboflow(tmp_path: Path) -> None:
    """ID_mask.png beside ID.jpg, and _classes.csv; also in an archive."""
    folder = photos(tmp_path, "train/a.jpg")
    save(tmp_path / "photos" / "train" / "a_mask.png", BOX * 2)
    write(tmp_path / "photos" / "train" / "_classes.csv", "Pixel Value, Class\n0, background\n1, cat\n2, dog\n")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for path in folder.rglob("*.*"):
            archive.write(path, path.relative_to(folder))
    for number, given in enumerate((folder, tmp_path / "a.zip")):
        made = convert(given, "masks", tmp_path / f"out{number}", folder)
        assert made.classes == ("cat", "dog")
        assert np.array_equal(read_mask(tmp_path / f"out{number}" / "train" / "a.png"), BOX * 2)


def test_splits_by_lists(tmp_path: Path) -> None:
    """Images in no list are left out."""
    for name in "abc":
        write_mask(tmp_path / "masks" / f"{name}.png", BOX)
    folder = photos(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    lists = {"train": write(tmp_path / "train.txt", "a\n"), "val": write(tmp_path / "val.txt", "b.jpg\n")}
    convert(tmp_path / "masks", "voc", tmp_path / "out", folder, classes(tmp_path), splits=lists)
    written = tmp_path / "out" / "VOCdevkit" / "VOC2012" / "ImageSets" / "Segmentation"
    assert [(written / f"{name}.txt").read_text() for name in ("train", "val", "trainval")] == ["a\n", "b\n", "a\nb\n"]
    with pytest.raises(CianError, match="--split: lists name images"):
        convert(tmp_path / "masks", "masks", tmp_path / "out2", classes=classes(tmp_path), splits=lists)


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_an_imagefolder(tmp_path: Path, kind: str) -> None:
    root = tmp_path / "data"
    for split, name, mask in (("train", "a", BOX), ("validation", "b", DISC)):
        save(root / split / f"{name}.jpg", np.zeros((*SIZE, 3), np.uint8))
        write_mask(root / split / f"{name}_mask.png", mask)
        row = {"file_name": f"{name}.jpg", "mask_file_name": f"{name}_mask.png", "tags": ["night", "rain"]}
        text = "file_name,mask_file_name,tags\n" + f"{name}.jpg,{name}_mask.png,night;rain\n"
        write(root / split / f"metadata.{kind}", text if kind == "csv" else json.dumps(row) + "\n")
    write(root / "classes.txt", "cat\nnight\nrain\n")
    made = convert(root, "masks", tmp_path / "out")
    assert made.saw == "an imagefolder, 2 images" and not made.problems
    assert np.array_equal(read_mask(tmp_path / "out" / "train" / "a.png"), BOX)
    assert np.array_equal(read_mask(tmp_path / "out" / "validation" / "b.png"), DISC)
    (root / "train" / "a_mask.png").unlink()
    with pytest.raises(CianError, match=r"its mask 'a_mask\.png' is not there"):
        convert(root, "masks", tmp_path / "out2")


def test_an_imagefolder_that_is_written(tmp_path: Path) -> None:
    write_mask(tmp_path / "masks" / "in" / "a.png", BOX)
    convert(tmp_path / "masks", "imagefolder", tmp_path / "out", photos(tmp_path, "in/a.jpg"), classes(tmp_path))
    row = json.loads((tmp_path / "out" / "train" / "metadata.jsonl").read_text())
    assert row == {"file_name": "images/in/a.jpg", "mask_file_name": "masks/in/a.png", "tags": ["cat"]}
    assert np.array_equal(read_mask(tmp_path / "out" / "train" / "masks" / "in" / "a.png"), BOX)


def test_masks_of_a_run(tmp_path: Path) -> None:
    """The class names of a run's masks are those of its model."""
    run = tmp_path / "run"
    write_mask(run / "predictions" / "a.png", BOX * 2)
    write(run / "model" / "config.json", {"classes": ["background", "cat", "dog"]})
    for source in (run, run / "predictions"):
        out = tmp_path / f"{source.name}.json"
        convert(source, "coco", out, photos(tmp_path))
        assert [each["name"] for each in json.loads(out.read_text())["categories"]] == ["cat", "dog"]


def test_tags_alone(tmp_path: Path) -> None:
    """A CSV of tags becomes tasks with choices, and CVAT's tags."""
    tags = write(tmp_path / "tags.csv", "image,tags\na.jpg,cat;dog\nin/b.jpg,dog\n")
    folder = images(tmp_path / "photos", "a.jpg in/b.jpg")
    photos(tmp_path, "a.jpg", "in/b.jpg")
    convert(tags, "label-studio", tmp_path / "t.json", folder)
    with pytest.raises(CianError, match=r"t\.xml exists"):
        (tmp_path / "t.json").rename(tmp_path / "first.json")
        convert(tags, "label-studio", tmp_path / "t.json", folder)
    tasks = json.loads((tmp_path / "first.json").read_text())
    assert [task["predictions"][0]["result"][0]["value"] for task in tasks] == [
        {"choices": ["cat", "dog"]}, {"choices": ["dog"]},
    ]  # fmt: skip
    convert(tags, "cvat", tmp_path / "tags.xml", folder)
    found = ElementTree.fromstring((tmp_path / "tags.xml").read_text()).iterfind("image")
    assert [[tag.get("label") for tag in image] for image in found] == [["cat", "dog"], ["dog"]]
    assert convert(tags, "coco", tmp_path / "t2.json", folder).lost == ["the tags of 2 images: COCO has no tags"]
