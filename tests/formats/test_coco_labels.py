"""COCO's shapes as labels, and labels as COCO's shapes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cian.data.problems import ProblemList
from cian.errors import CianError
from cian.formats.annotations import Annotations, draw
from cian.formats.convert import convert
from cian.formats.run_lengths import coco_counts, compress
from tests.formats.devkits import SIZE, coco, instance, square
from tests.formats.helpers import opened, write


def label_map(annotations: Annotations, row: int = 0) -> np.ndarray:
    image = annotations.images[row]
    assert image.size is not None
    ids = {name: i for i, name in enumerate(annotations.classes, start=1)}
    return draw(image, image.size, annotations.smallest_on_top).label_map(ids)


def test_polygons_run_lengths_and_boxes_alone(tmp_path: Path) -> None:
    """Smaller objects lie on top; a box alone is a tag; points that editors leave behind are nothing."""
    mask = np.zeros(SIZE, bool)
    mask[3:5, 1:7] = True
    lengths = coco_counts(mask)
    content = coco(
        {1: "a.jpg", 2: "b.jpg"},
        [
            instance(1, 3, {"size": list(SIZE), "counts": lengths}),
            instance(1, 7, [*square(0, 0, 5), [1, 1], [2, 2, 3, 3]]),
            instance(1, 9, {"size": list(SIZE), "counts": compress(lengths)}),
            instance(2, 3, [], bbox=[1, 1, 3, 3]),
        ],
    )
    problems = ProblemList()
    found = opened(write(tmp_path / "c.json", content), problems)
    expected = np.zeros(SIZE, int)
    names = found.classes
    expected[:5, :5] = names.index("dog") + 1
    expected[mask] = names.index("yak") + 1  # as large as the cat's, and later
    assert np.array_equal(label_map(found), expected)
    assert found.images[1].tags == ["cat"] and not found.images[1].shapes
    assert "1 of 4 annotations have no segmentation, so they are tags alone" in str(problems.all()[0])


def test_panoptic(tmp_path: Path) -> None:
    """Ids of segments are colours, R + 256 G + 65536 B; crowds are 255."""
    pixels = np.zeros((4, 5, 3), np.uint8)
    pixels[:, :2] = (7, 0, 0)
    pixels[2:, 3:] = (1, 2, 3)
    pixels[0, 4] = (9, 0, 0)
    segments = [
        {"id": 7, "category_id": 5, "iscrowd": 0},
        {"id": 1 + 2 * 256 + 3 * 65536, "category_id": 6, "iscrowd": 0},
        {"id": 9, "category_id": 6, "iscrowd": 1},
    ]
    content = {
        "images": [{"id": 3, "file_name": "a.jpg", "height": 4, "width": 5}],
        "annotations": [{"image_id": 3, "file_name": "a.png", "segments_info": segments}],
        "categories": [{"id": 5, "name": "sky"}, {"id": 6, "name": "sheep"}],
    }
    write(tmp_path / "panoptic_val2017.json", content)
    (tmp_path / "panoptic_val2017").mkdir()
    Image.fromarray(pixels).save(tmp_path / "panoptic_val2017" / "a.png")
    expected = [[1, 1, 0, 0, 255], [1, 1, 0, 0, 0], [1, 1, 0, 2, 2], [1, 1, 0, 2, 2]]
    found = opened(tmp_path)
    assert label_map(found).tolist() == expected
    assert found.saw == "COCO JSON, panoptic, 1 image" and found.images[0].split == "val"
    (tmp_path / "panoptic_val2017" / "a.png").unlink()
    with pytest.raises(CianError, match=r"its file 'a\.png' is not there"):
        opened(tmp_path)


def test_areas_boxes_and_ids(tmp_path: Path) -> None:
    """As pycocotools computes them from the run lengths."""
    content = coco({1: "a.jpg"}, [instance(1, 7, square(1, 2, 3)), instance(1, 3, square(5, 0, 2))])
    source = write(tmp_path / "in.json", content)
    convert(source, "coco", tmp_path / "out.json")
    made: dict[str, Any] = json.loads((tmp_path / "out.json").read_text())
    assert [(each["id"], each["area"], each["bbox"], each["iscrowd"]) for each in made["annotations"]] == [
        (1, 9, [1, 2, 3, 3], 0),
        (2, 4, [5, 0, 2, 2], 0),
    ]
    assert made["images"] == [{"id": 1, "file_name": "a.jpg", "height": SIZE[0], "width": SIZE[1]}]
    names = {each["id"]: each["name"] for each in made["categories"]}
    assert [names[each["category_id"]] for each in made["annotations"]] == ["dog", "cat"]


def test_broken_shapes_are_named_and_the_rest_is_written(tmp_path: Path) -> None:
    shapes = [instance(1, 7, [[1, 2, 3, 4, 5]]), instance(2, 7, square(0, 0, 2))]
    source = write(tmp_path / "in.json", coco({1: "a.jpg", 2: "b.jpg"}, shapes))
    result = convert(source, "masks", tmp_path / "out")
    (problem,) = result.problems
    assert problem.fatal and str(problem).startswith(f"{source}, annotation 1: '[1, 2, 3, 4, 5]' is no polygon")
    assert [path.name for path in (tmp_path / "out").glob("*.png")] == ["b.png"]


def test_crowds(tmp_path: Path) -> None:
    """Where every annotation of a category is a crowd, they are objects; other crowds are 255. Both are said."""
    cat, dog = (dict(size=list(SIZE), counts=coco_counts(mask)) for mask in (np.eye(*SIZE) > 0, np.eye(*SIZE, 2) > 0))
    shapes = [instance(1, 3, cat, iscrowd=1), instance(1, 7, dog, iscrowd=1), instance(1, 7, square(6, 0, 2))]
    problems = ProblemList()
    found = opened(write(tmp_path / "c.json", coco({1: "a.jpg"}, shapes)), problems)
    ids = label_map(found)
    assert (ids[np.eye(*SIZE) > 0] == found.classes.index("cat") + 1).all()
    assert (ids[(np.eye(*SIZE, 2) > 0)] == 255).all()
    said = "\n".join(map(str, problems.all()))
    assert "every annotation of cat is a crowd" in said and "their pixels become 255: 1 of 2 of dog" in said


@pytest.mark.parametrize("size", [(10**6, 10**6), (0, 5), (-3, 4), ("x", 4), (None, None)])
def test_sizes_that_cannot_be(tmp_path: Path, size: tuple[Any, Any]) -> None:
    content = coco({1: "a.jpg"}, [instance(1, 7, square(0, 0, 2))])
    content["images"][0] |= {"height": size[0], "width": size[1]}
    result = convert(write(tmp_path / "in.json", content), "masks", tmp_path / "out")
    assert [problem.fatal for problem in result.problems] == [True]
    assert result.images == 0
