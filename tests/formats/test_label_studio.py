"""Label Studio's exports become labels, and labels tasks with predictions."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from cian.data.masks import write_mask
from cian.data.problems import ProblemList
from cian.formats.annotations import draw
from cian.formats.convert import convert
from tests.formats.helpers import images, opened, write
from tests.formats.test_run_lengths import pack

SIZE = (10, 20)  # height, width
BOX = np.zeros(SIZE, bool)
BOX[2:6, 5:15] = True


def drawn(tmp_path: Path, *results: dict[str, Any], **task: Any) -> list[list[int]]:
    """The label map of one task; cat = 1, dog = 2."""
    tasks = [{"data": {"image": "/data/upload/1/a.jpg"}, "annotations": [{"result": list(results)}], **task}]
    image = opened(write(tmp_path / "tasks.json", tasks)).images[0]
    return draw(image, SIZE).label_map({"cat": 1, "dog": 2}).tolist()


def result(kind: str, label: str = "cat", **value: Any) -> dict[str, Any]:
    """A region as Label Studio exports it."""
    return {
        "id": "x1", "type": kind, "from_name": "label", "to_name": "image", "image_rotation": 0,
        "original_width": SIZE[1], "original_height": SIZE[0], "value": {**value, kind: [label]},
    }  # fmt: skip


def png(alpha: np.ndarray) -> str:
    """Black on nothing, as the browser's canvas saves it."""
    stream = io.BytesIO()
    Image.fromarray(np.stack([np.zeros_like(alpha)] * 3 + [alpha], 2)).save(stream, format="PNG")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


def test_every_shape(tmp_path: Path) -> None:
    """Percent of the image; soft edges of a brush count from half on."""
    expected = BOX.astype(int).tolist()
    alpha = np.where(BOX, 255, 0).astype(np.uint8)
    soft = np.where(BOX, 128, 127).astype(np.uint8)
    corners = [[25, 20], [75, 20], [75, 60], [25, 60]]
    assert drawn(tmp_path, result("polygonlabels", points=corners)) == expected
    assert drawn(tmp_path, result("rectanglelabels", x=25, y=20, width=50, height=40, rotation=0)) == expected
    turned = result("rectanglelabels", x=75, y=20, width=20, height=100, rotation=90)  # about its corner
    assert drawn(tmp_path, turned) == expected
    assert drawn(tmp_path, result("bitmasklabels", imageDataURL=png(alpha))) == expected
    assert drawn(tmp_path, result("bitmasklabels", imageDataURL=png(soft))) == expected
    assert drawn(tmp_path, result("brushlabels", format="rle", rle=pack(BOX))) == expected
    disc = np.array(drawn(tmp_path, result("ellipselabels", x=50, y=50, radiusX=20, radiusY=40, rotation=30)))
    y, x = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    assert np.array_equal(disc == 1, np.hypot(x - 10, y - 5) < 4)  # a circle of 4 pixels, however it is turned


def test_later_regions_lie_on_top(tmp_path: Path) -> None:
    small = result("rectanglelabels", "dog", x=30, y=30, width=10, height=10)
    large = result("rectanglelabels", x=25, y=20, width=50, height=40)
    assert np.unique(drawn(tmp_path, small, large)).tolist() == [0, 1]
    assert np.unique(drawn(tmp_path, large, small)).tolist() == [0, 1, 2]


def test_strokes_of_background(tmp_path: Path) -> None:
    """With a background stroke, what nobody touched is unlabelled."""
    back = result("rectanglelabels", "Background", x=0, y=0, width=100, height=10)
    found = np.array(drawn(tmp_path, back, result("rectanglelabels", x=25, y=20, width=50, height=40)))
    assert np.unique(found[0]).tolist() == [0] and (found[1:][~BOX[1:]] == 255).all() and (found[BOX] == 1).all()


def test_label_and_shape_in_two_results(tmp_path: Path) -> None:
    shape = {**result("rectangle", x=25, y=20, width=50, height=40)}
    del shape["value"]["rectangle"]
    label = {"id": "x1", "type": "labels", "value": {"labels": ["dog"]}}
    assert np.unique(drawn(tmp_path, shape, label)).tolist() == [0, 2]


def test_json_min(tmp_path: Path) -> None:
    """Regions are lists under the name of their control; a choice is a text, several are a list."""
    box = {"x": 25, "y": 20, "width": 50, "height": 40, "rotation": 0, "rectanglelabels": ["cat"]}
    region = {**box, "original_width": SIZE[1], "original_height": SIZE[0]}
    tasks = [
        {"id": 1, "image": "/data/upload/1/1a2b3c4d-a.jpg", "label": [region], "choice": "indoor", "annotator": 1},
        {"id": 2, "image": "/data/upload/1/1a2b3c4d-b.jpg", "choice": {"choices": ["indoor", "night"]}},
    ]
    found = opened(write(tmp_path / "min.json", tasks))
    assert [image.tags for image in found.images] == [["indoor"], ["indoor", "night"]]
    assert np.array_equal(draw(found.images[0], SIZE).label_map({"cat": 1}) == 1, BOX)
    assert found.names() == ("cat", "indoor", "night") and not found.images[1].shapes


def test_which_annotation_counts(tmp_path: Path) -> None:
    """The last one that was not skipped. Predictions are not labels."""
    cat, dog = (result("rectanglelabels", name, x=0, y=0, width=50, height=50) for name in ("cat", "dog"))
    annotations = [{"result": [cat]}, {"result": [dog]}, {"result": [cat], "was_cancelled": True}]
    tasks = [
        {"data": {"image": "a.jpg"}, "annotations": annotations},
        {"data": {"image": "b.jpg"}, "annotations": [], "predictions": [{"result": [cat]}]},
        {"data": {"image": "c.jpg"}, "annotations": [{"result": [{"type": "keypointlabels", "value": {"x": 1}}]}]},
        {"data": {"text": "no image"}, "annotations": []},
    ]
    problems = ProblemList()
    found = opened(write(tmp_path / "tasks.json", tasks), problems)
    assert [[shape.label for shape in image.shapes] for image in found.images] == [["dog"], [], []]
    said = "\n".join(map(str, problems.all()))
    for words in (
        "1 tasks have several annotations, of which the last one counts",
        "1 tasks have predictions alone, which are not read",
        "1 regions of type keypointlabels are not read",
        "task 4: names no image",
    ):
        assert words in said


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        ("polygonlabels", {"points": [[1, 2], [3, 4]]}, "is no polygon"),
        ("polygonlabels", {"points": [[1, 2], [3, "x"], [4, 4]]}, "holds no numbers"),
        ("polygonlabels", {"points": 3}, "is no polygon"),
        ("rectanglelabels", {"x": 1, "y": 1, "width": None, "height": 3}, "holds no numbers"),
        ("rectanglelabels", {"x": 1e300, "y": 1, "width": 1, "height": 3}, "holds no numbers"),
        ("bitmasklabels", {"imageDataURL": "http://example.org/x.png"}, "is no PNG in a data address"),
        ("bitmasklabels", {"imageDataURL": "data:image/png;base64,AAAA"}, "holds no PNG"),
        ("bitmasklabels", {"imageDataURL": "data:image/png;base64,%%"}, "holds no PNG"),
        ("bitmasklabels", {"imageDataURL": png(np.zeros((3, 3), np.uint8))}, "its mask has 3 x 3 pixels"),
        ("brushlabels", {"rle": [1, 2]}, "its brush is not that of an image"),
        ("brushlabels", {"rle": "x"}, "its brush is not that of an image"),
    ],
)
def test_broken_regions(tmp_path: Path, kind: str, value: dict[str, Any], message: str) -> None:
    tasks = [{"data": {"image": "a.jpg"}, "annotations": [{"result": [result(kind, **value)]}]}]
    made = convert(write(tmp_path / "tasks.json", tasks), "masks", tmp_path / "out")
    (problem,) = made.problems
    assert message in str(problem) and "task 1, region 1: " in str(problem)


def test_names_of_uploads(tmp_path: Path) -> None:
    """Uploads get a prefix, and addresses hold %20: found all the same, and said."""
    box = result("rectanglelabels", x=25, y=20, width=50, height=40)
    addresses = ["/data/upload/1/1a2b3c4d-my%20cat.jpg", "/data/local-files/?d=in/b.jpg", "https://x.org/c.jpg?sig=1"]
    tasks = [{"data": {"image": address}, "annotations": [{"result": [box]}]} for address in addresses]
    source = write(tmp_path / "tasks.json", tasks)
    photos = images(tmp_path / "photos", ["my cat.jpg", "in/b.jpg", "c.jpg"])
    for path in photos.rglob("*.jpg"):
        Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(path)
    made = convert(source, "masks", tmp_path / "out", photos)
    names = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.png"))
    assert names == ["c.png", "in/b.png", "my cat.png"]
    assert "'/data/upload/1/1a2b3c4d-my%20cat.jpg' is 'my cat.jpg'" in str(made.problems[0])
    assert not made.problems[0].fatal
    convert(source, "masks", tmp_path / "alone")  # without the images
    names = sorted(path.relative_to(tmp_path / "alone").as_posix() for path in (tmp_path / "alone").rglob("*.png"))
    assert names == ["1a2b3c4d-my cat.png", "c.png", "in/b.png"]


def test_tasks_that_are_written(tmp_path: Path) -> None:
    """Each object is black on nothing; the configuration names all labels."""
    write_mask(tmp_path / "masks" / "in" / "a b.png", BOX.astype(np.uint8) * 2)
    photos = images(tmp_path / "photos", ["in/a b.jpg"])
    Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(photos / "in" / "a b.jpg")
    classes = write(tmp_path / "classes.txt", "cat\nnight & day\n")
    convert(tmp_path / "masks", "label-studio", tmp_path / "t.json", photos, classes, prefix="/data/local-files/?d=")
    (task,) = json.loads((tmp_path / "t.json").read_text())
    assert task["data"] == {"image": "/data/local-files/?d=in/a%20b.jpg"}
    (region,) = task["predictions"][0]["result"]
    assert (region["original_width"], region["original_height"]) == (20, 10)
    assert region["value"]["bitmasklabels"] == ["night & day"]
    content = base64.b64decode(region["value"]["imageDataURL"].partition(",")[2])
    pixels = np.array(Image.open(io.BytesIO(content)).convert("RGBA"))
    assert not pixels[..., :3].any() and np.array_equal(pixels[..., 3], np.where(BOX, 255, 0))
    root = ElementTree.fromstring((tmp_path / "t.xml").read_text())
    control = root.find("BitmaskLabels")
    assert control is not None and control.attrib == {"name": region["from_name"], "toName": region["to_name"]}
    assert [label.get("value") for label in control] == ["cat", "night & day"]
