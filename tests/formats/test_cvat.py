"""CVAT's exports become labels and tags, and labels files to import into CVAT."""

from __future__ import annotations

import zipfile
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from cian.data.masks import read_mask, write_mask
from cian.errors import CianError
from cian.formats.annotations import draw
from cian.formats.convert import convert
from tests.formats.helpers import images, opened, read, splits_of, tags_of, write

SIZE = (10, 20)  # height, width
BOX = np.zeros(SIZE, bool)
BOX[2:6, 5:15] = True


def cvat(*shapes: str, more: str = "") -> str:
    labels = "".join(f"<label><name>{name}</name></label>" for name in ("dog", "cat"))
    return (
        f'<?xml version="1.0" encoding="utf-8"?><annotations><version>1.1</version><meta><task><labels>{labels}'
        f'</labels></task></meta><image id="0" name="in/a.jpg" width="20" height="10">{"".join(shapes)}</image>{more}'
        "</annotations>"
    )


def drawn(tmp_path: Path, *shapes: str) -> np.ndarray:
    image = opened(write(tmp_path / "annotations.xml", cvat(*shapes))).images[0]
    assert image.size == SIZE
    return draw(image, SIZE).label_map({"cat": 1, "dog": 2})


def test_every_shape(tmp_path: Path) -> None:
    """Run lengths go along the rows of a box; boxes and ellipses turn about their centres."""
    corners = "5.00,2.00;15.00,2.00;15.00,6.00;5.00,6.00"
    for shape in (
        '<mask label="cat" rle="0, 40" left="5" top="2" width="10" height="4" z_order="0"/>',
        '<mask label="cat" rle="20, 10, 5, 30, 5" left="0" top="1" width="14" height="5" z_order="0"/>',
        f'<polygon label="cat" points="{corners}" z_order="0"/>',
        '<box label="cat" xtl="5" ytl="2" xbr="15" ybr="6" z_order="0"/>',
        '<box label="cat" xtl="8" ytl="-1" xbr="12" ybr="9" rotation="90" z_order="0"/>',
    ):
        found = drawn(tmp_path, shape)
        if "20, 10" in shape:
            expected = np.zeros(SIZE, int)
            expected[1:6, :14] = np.repeat([0, 1, 0, 1, 0], [20, 10, 5, 30, 5]).reshape(5, 14)
            assert np.array_equal(found, expected)
        else:
            assert np.array_equal(found == 1, BOX), shape
    disc = drawn(tmp_path, '<ellipse label="cat" cx="10" cy="5" rx="4" ry="4" rotation="30" z_order="0"/>')
    y, x = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    assert np.array_equal(disc == 1, np.hypot(x - 10, y - 5) < 4)


def test_the_order_in_depth(tmp_path: Path) -> None:
    top = '<box label="cat" xtl="5" ytl="2" xbr="15" ybr="6" z_order="1"/>'
    low = '<box label="dog" xtl="0" ytl="0" xbr="20" ybr="10" z_order="0"/>'
    for shapes in ((top, low), (low, top)):
        assert np.array_equal(drawn(tmp_path, *shapes) == 1, BOX)


def test_tags_and_shapes_are_tags(tmp_path: Path) -> None:
    """With the splits of a project; polylines are tags of nothing, and said."""
    more = (
        '<image id="1" name="b.jpg" subset="Validation" width="4" height="4"><tag label="dog"/></image>'
        '<image id="2" name="c.jpg" subset="Train" width="4" height="4">'
        '<polyline label="dog" points="1,1;2,2"/></image>'
    )
    content = cvat('<tag label="cat"/>', '<box label="dog" xtl="5" ytl="2" xbr="15" ybr="6"/>', more=more)
    table, problems = read(tmp_path, content, "in/a b c", "annotations.xml", untagged="negative")
    assert tags_of(table) == {"in/a": ("cat", "dog"), "b": ("dog",), "c": ()}
    assert splits_of(table) == {"in/a": "train", "b": "val", "c": "train"}
    assert [str(each) for each in problems if "1 shapes <polyline> are not read" in str(each)]
    assert table is not None and "CVAT's XML, 3 images" in table.source
    assert opened(tmp_path / "annotations.xml").classes == ("dog", "cat")


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ('<mask label="cat" rle="0, 40" left="15" top="2" width="10" height="4"/>', "leaves the image"),
        ('<mask label="cat" rle="0, 41" left="5" top="2" width="10" height="4"/>', "not those of 40 pixels"),
        ('<mask label="cat" rle="0, x" left="5" top="2" width="10" height="4"/>', "its run lengths are no numbers"),
        ('<mask label="cat" rle="0, 40" left="5.5" top="2" width="10" height="4"/>', "'left' is no whole number"),
        ('<mask label="cat" rle="0, 40" top="2" width="10" height="4"/>', "has no number 'left'"),
        ('<mask label="cat" rle="0, 40" left="nan" top="2" width="10" height="4"/>', "has no number 'left'"),
        ('<mask label="cat" rle="1" left="0" top="0" width="-1" height="-1"/>', "leaves the image"),
        ('<polygon label="cat" points="1,2;3,4"/>', "is no polygon"),
        ('<polygon label="cat" points="1,2;3,4;x"/>', "its points are no numbers"),
        ('<polygon label="cat" points="1,2;3,4;1e999,3"/>', "is no polygon"),
        ('<box label="cat" xtl="1" ytl="1" xbr="inf" ybr="3"/>', "has no number 'xbr'"),
    ],
)
def test_broken_shapes(tmp_path: Path, shape: str, message: str) -> None:
    made = convert(write(tmp_path / "annotations.xml", cvat(shape)), "masks", tmp_path / "out")
    (problem,) = made.problems
    assert message in str(problem) and "image 0 (in/a.jpg), shape 1: " in str(problem)


def test_refused(tmp_path: Path) -> None:
    for content, message in (
        ('<annotations><track id="0" label="cat"/></annotations>', 'Export the task again as "CVAT for images 1.1"'),
        ('<!DOCTYPE a [<!ENTITY b "c">]><annotations><image name="&b;"/></annotations>', "holds no labels"),
    ):
        with pytest.raises(CianError, match=message):
            convert(write(tmp_path / "annotations.xml", content), "masks", tmp_path / "out")


def masks(tmp_path: Path, values: np.ndarray) -> tuple[Path, Path, Path]:
    """masks/, photos/ and classes.txt."""
    write_mask(tmp_path / "masks" / "in" / "a.png", values)
    photos = images(tmp_path / "photos", ["in/a.jpg"])
    Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(photos / "in" / "a.jpg")
    return tmp_path / "masks", photos, write(tmp_path / "classes.txt", "cat\nnight & day\n")


def test_xml_that_is_written(tmp_path: Path) -> None:
    source, photos, classes = masks(tmp_path, BOX.astype(np.uint8) * 2)
    convert(source, "cvat", tmp_path / "a.xml", photos, classes)
    root = ElementTree.fromstring((tmp_path / "a.xml").read_text())
    assert [label.text for label in root.iterfind("meta/task/labels/label/name")] == ["cat", "night & day"]
    (image,) = root.iterfind("image")
    assert image.attrib == {"id": "0", "name": "in/a.jpg", "width": "20", "height": "10"}
    (mask,) = image
    assert mask.attrib == {
        "label": "night & day", "source": "auto", "occluded": "0", "rle": "0, 40",
        "left": "5", "top": "2", "width": "10", "height": "4", "z_order": "0",
    }  # fmt: skip


def test_segmentation_masks(tmp_path: Path) -> None:
    """Colours in labelmap.txt, in any order; 255 becomes a label of its own, and back."""
    values = np.where(BOX, 2, 0).astype(np.uint8)
    values[0] = 255
    source, photos, classes = masks(tmp_path, values)
    made = convert(source, "cvat-masks", tmp_path / "a.zip", photos, classes)
    assert "these pixels are the label `unlabelled`, which your task in CVAT needs" in " ".join(made.lost)
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert archive.namelist() == [
            "SegmentationClass/in/a.png",
            "labelmap.txt",
            "ImageSets/Segmentation/default.txt",
        ]
        assert archive.read("labelmap.txt").decode().splitlines() == [
            "# label:color_rgb:parts:actions",
            "background:0,0,0::",
            "cat:128,0,0::",
            "night & day:0,128,0::",
            "unlabelled:224,224,192::",
        ]
        archive.extractall(tmp_path / "unpacked")
    for number, path in enumerate((tmp_path / "a.zip", tmp_path / "unpacked", tmp_path / "unpacked/SegmentationClass")):
        convert(path, "masks", tmp_path / f"out{number}", photos)
        assert np.array_equal(read_mask(tmp_path / f"out{number}" / "in" / "a.png"), values)
    (tmp_path / "unpacked" / "labelmap.txt").write_text("background:1,2,3::\ncat:128,0,0::\n")
    with pytest.raises(CianError, match=r"colour \(224, 224, 192\) at x=0, y=0 is no colour of labelmap.txt"):
        convert(tmp_path / "unpacked", "masks", tmp_path / "out", photos)
