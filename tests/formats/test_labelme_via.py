"""LabelMe's and VIA's JSON become labels and tags, and labels LabelMe's JSON."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cian.data.masks import read_mask, write_mask
from cian.data.problems import ProblemList
from cian.errors import CianError
from cian.formats.annotations import draw
from cian.formats.convert import convert
from tests.formats.helpers import images, opened, read, tags_of, write

SIZE = (10, 20)  # height, width
BOX = np.zeros(SIZE, bool)
BOX[2:6, 5:15] = True
Y, X = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
DISC = np.hypot(X - 10, Y - 5) < 4


def labelme(*shapes: dict[str, Any], path: str = "..\\photos\\a.jpg", **more: Any) -> dict[str, Any]:
    size = {"imageHeight": SIZE[0], "imageWidth": SIZE[1]}
    return {
        "version": "5.4.1",
        "flags": {},
        "shapes": list(shapes),
        "imagePath": path,
        "imageData": "x",
        **size,
        **more,
    }


def shape(kind: str | None, points: Any, label: str = "cat", **more: Any) -> dict[str, Any]:
    return {"label": label, "points": points, "group_id": None, "shape_type": kind, "flags": {}, **more}


def png(values: np.ndarray) -> str:
    stream = io.BytesIO()
    Image.fromarray(values).save(stream, format="PNG")
    return base64.b64encode(stream.getvalue()).decode()


def test_every_shape_of_labelme(tmp_path: Path) -> None:
    corners = [[5, 2], [15.0, 2], [15, 6], [5, 6]]
    for each, expected in (
        (shape("polygon", corners), BOX),
        (shape(None, corners), BOX),
        (shape("rectangle", [[15, 6], [5, 2]]), BOX),
        (shape("mask", [[5, 2], [14, 5]], mask=png(np.full((4, 10), 255, np.uint8))), BOX),
        (shape("circle", [[10, 5], [10, 9]]), DISC),
    ):
        image = opened(write(tmp_path / "a.json", labelme(each)), size=SIZE).images[0]
        assert image.size == SIZE and image.image == "a.jpg"
        assert np.array_equal(draw(image, SIZE).label_map({"cat": 1}) == 1, expected), each["shape_type"]


def test_tags_of_labelme(tmp_path: Path) -> None:
    """Flags that are set, and the labels of shapes."""
    folder = tmp_path / "labels"
    write(folder / "a.json", labelme(shape("polygon", []), flags={"night": True, "day": False}))
    write(folder / "in" / "b.json", labelme(shape("point", [[1, 2]]), shape("line", [], "dog"), path="b.jpg"))
    write(folder / "other.json", {"a": 1})
    table, problems = read(tmp_path, None, "a in/b", tags=folder, untagged="negative")
    assert tags_of(table) == {"a": ("cat", "night"), "in/b": ()}
    said = "\n".join(map(str, problems))
    for words in ("1 shapes of type point are not read", "1 shapes of type line", "1 JSON files are not labelme's"):
        assert words in said


@pytest.mark.parametrize(
    ("each", "message"),
    [
        (shape("polygon", [[1, 2], [3, 4]]), "is no polygon"),
        (shape("polygon", [[1, 2], [3, None], [3, 4]]), "holds no numbers"),
        (shape("polygon", 3), "is no polygon"),
        (shape("rectangle", [[1, 2]]), "is no rectangle"),
        (shape("circle", [[1, 2]]), "is no circle"),
        (shape("mask", [[5, 2], [14, 5]], mask="AAAA"), "its mask is no PNG of its size"),
        (shape("mask", [[5, 2], [14, 5]], mask=png(np.zeros((3, 3), np.uint8))), "its mask is no PNG of its size"),
        (shape("mask", [[5, 2], [24, 5]]), "its mask leaves the image of 20 x 10 pixels"),
        (shape("mask", [[5, 2]]), "its mask has no two corners"),
    ],
)
def test_broken_shapes_of_labelme(tmp_path: Path, each: dict[str, Any], message: str) -> None:
    made = convert(write(tmp_path / "a.json", labelme(each)), "masks", tmp_path / "out")
    (problem,) = made.problems
    assert message in str(problem) and "a.json, shape 1: " in str(problem)


def test_labelme_that_is_written(tmp_path: Path) -> None:
    """Tags are flags; the way to the image is said; no image is copied."""
    write_mask(tmp_path / "masks" / "in" / "a.png", BOX.astype(np.uint8))
    photos = images(tmp_path / "photos", ["in/a.jpg"])
    Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(photos / "in" / "a.jpg")
    convert(tmp_path / "masks", "labelme", tmp_path / "out", photos, write(tmp_path / "classes.txt", "cat\n"))
    content = json.loads((tmp_path / "out" / "in" / "a.json").read_text())
    assert content["imagePath"] == "../../photos/in/a.jpg" and content["imageData"] is None
    (found,) = content["shapes"]
    assert sorted(found["points"]) == [[5, 2], [5, 6], [15, 2], [15, 6]] and found["label"] == "cat"


def via(*regions: dict[str, Any], project: bool = False, first: bool = False) -> dict[str, Any]:
    listed: Any = {str(i): region for i, region in enumerate(regions)} if first else list(regions)
    files = {"a.jpg123": {"filename": "a.jpg", "size": 123, "regions": listed, "file_attributes": {}}}
    return {"_via_settings": {}, "_via_img_metadata": files} if project else files


def region(kind: str, label: Any = "cat", **values: Any) -> dict[str, Any]:
    return {"shape_attributes": {"name": kind, **values}, "region_attributes": {"note": "x", "label": label}}


@pytest.mark.parametrize("project", [False, True])
@pytest.mark.parametrize("first", [False, True])
def test_every_shape_of_via(tmp_path: Path, project: bool, first: bool) -> None:
    corners = {"all_points_x": [5, 15, 15, 5], "all_points_y": [2, 2, 6, 6]}
    for each, expected in (
        (region("polygon", **corners), BOX),
        (region("rect", {"cat": True, "dog": False}, x=5, y=2, width=10, height=4), BOX),
        (region("circle", cx=10, cy=5, r=4), DISC),
        (region("ellipse", cx=10, cy=5, rx=4, ry=4, theta=0.3), DISC),
    ):
        image = opened(write(tmp_path / "a.json", via(each, project=project, first=first)), size=SIZE).images[0]
        assert np.array_equal(draw(image, SIZE).label_map({"cat": 1}) == 1, expected), each


def test_what_via_does_not_say(tmp_path: Path) -> None:
    """The size of the image; the class of some regions."""
    problems = ProblemList()
    content = via(region("point", cx=1, cy=2), region("rect", "", x=5, y=2, width=10, height=4))
    assert not opened(write(tmp_path / "a.json", content), problems, SIZE).images[0].shapes
    said = "\n".join(map(str, problems.all()))
    assert "regions of type point (1) are tags alone" in said and "regions without a class (1) are left out" in said
    source = write(tmp_path / "b.json", via(region("rect", x=5, y=2, width=10, height=4)))
    (problem,) = convert(source, "masks", tmp_path / "out").problems
    assert "the size of the image is not known. Give the folder of images: --images" in str(problem)
    photos = images(tmp_path / "photos", ["a.jpg"])
    Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(photos / "a.jpg")
    convert(source, "masks", tmp_path / "out2", photos)
    assert np.array_equal(read_mask(tmp_path / "out2" / "a.png") == 1, BOX)
    with pytest.raises(CianError, match="no such format"):
        convert(source, "via", tmp_path / "out3")


def via_csv(sharp: str = "") -> str:
    columns = "filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes"
    box = '"{""name"":""rect"",""x"":5,""y"":2,""width"":10,""height"":4}"'
    return f'{sharp}{columns}\na.jpg,1,"{{}}",1,0,{box},"{{""class"":""cat""}}"\nb.jpg,1,"{{}}",0,0,"{{}}","{{}}"\n'


def via_3(points: list[float], value: str = "1", **attribute: Any) -> dict[str, Any]:
    attribute = attribute or {"aname": "class", "type": 4, "options": {"0": "dog", "1": "cat"}}
    return {
        "project": {"pid": "x"},
        "config": {},
        "attribute": {"1": attribute},
        "file": {"7": {"fid": 7, "fname": "a.jpg"}, "8": {"fid": 8, "fname": "b.jpg"}},
        "view": {"1": {"fid_list": [7]}, "2": {"fid_list": [8]}},
        "metadata": {"1_x": {"vid": "1", "flg": 0, "z": [], "xy": points, "av": {"1": value}}},
    }


def vott(kind: str = "RECTANGLE") -> dict[str, Any]:
    corners = [{"x": 5, "y": 2}, {"x": 15, "y": 2}, {"x": 15, "y": 6}, {"x": 5, "y": 6}]
    box = {"left": 5, "top": 2, "width": 10, "height": 4}
    region = {"id": "r", "type": kind, "tags": ["cat"], "boundingBox": box, "points": corners}
    asset = {"name": "a.jpg", "path": "file:C:/a.jpg", "size": {"width": SIZE[1], "height": SIZE[0]}}
    other = {"asset": {**asset, "name": "b.jpg"}, "regions": []}
    return {"name": "x", "assets": {"1f": {"asset": asset, "regions": [region]}, "2f": other}, "tags": []}


@pytest.mark.parametrize(
    ("file", "content", "expected"),
    [
        ("via.csv", via_csv(), BOX),
        ("via.csv", via_csv("#"), BOX),
        ("via.json", via_3([2, 5, 2, 10, 4]), BOX),
        ("via.json", via_3([7, 5, 2, 15, 2, 15, 6, 5, 6]), BOX),
        ("via.json", via_3([3, 10, 5, 4]), DISC),
        ("via.json", via_3([2, 5, 2, 10, 4], "cat", aname="kind", type=1, options={}), BOX),
        ("vott.json", vott(), BOX),
        ("vott.json", vott("POLYGON"), BOX),
        ("folder/1f-asset.json", vott()["assets"]["1f"], BOX),
    ],
)
def test_other_files_of_via_and_vott(tmp_path: Path, file: str, content: Any, expected: np.ndarray) -> None:
    path = write(tmp_path / file, content)
    found = opened(path.parent if path.parent.name == "folder" else path, size=SIZE)
    image = found.images[0]
    assert image.image == "a.jpg"
    assert (draw(image, SIZE).label_map({"cat": 1}) == expected).all()
    assert not any(image.classes() for image in found.images[1:])
    table, problems = read(tmp_path, content, "a b", file.rpartition("/")[2], untagged="negative")
    assert tags_of(table)["a"] == ("cat",), problems


def test_tags_of_whole_files_in_via(tmp_path: Path) -> None:
    """Without regions, the attributes of files are the tags."""
    entry = {"filename": "a.jpg", "size": 1, "regions": [], "file_attributes": {"caption": "", "class": "cat"}}
    table, problems = read(tmp_path, {"a.jpg1": entry}, "a", "via.json")
    assert tags_of(table) == {"a": ("cat",)} and not problems
    table, problems = read(tmp_path, via_3([]), "a b", "via.json", untagged="negative")
    assert tags_of(table) == {"a": ("cat",), "b": ()} and not problems
