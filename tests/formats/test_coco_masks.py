"""COCO instances are drawn into masks."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cian.data.masks import read_mask, write_mask
from cian.data.problems import ProblemList
from cian.errors import CianError, DataError
from cian.formats import coco_masks
from cian.formats.class_names import class_names
from cian.formats.coco import read_annotations
from cian.formats.coco_masks import write_coco_masks
from cian.formats.devkits import COCO_CLASSES
from cian.formats.text import parse_json
from cian.reading.read import read_dataset
from tests.formats.devkits import SIZE, coco, coco_devkit, instance, square
from tests.formats.helpers import read, write
from tests.formats.test_shapes import encode
from tests.helpers import cli, fails


def draw(tmp_path: Path, instances: list[Any]) -> np.ndarray:
    path = write(tmp_path / "one.json", coco({1: "a.jpg"}, instances))
    problems = ProblemList()
    labels = read_annotations(path, parse_json(path, ""), problems)
    assert not problems.all()
    return coco_masks.draw(labels.instances, SIZE, {"cat": 1, "dog": 2, "yak": 3})


def test_polygons(tmp_path: Path) -> None:
    """The smaller instance is on top, in any order. An instance may have several parts."""
    large, small = instance(1, 7, square(0, 0, 5)), instance(1, 3, square(3, 3, 1.9) + square(6.4, 0.4, 1.2))
    expected = np.array(
        [
            [2, 2, 2, 2, 2, 0, 1, 1],
            [2, 2, 2, 2, 2, 0, 1, 1],
            [2, 2, 2, 2, 2, 0, 0, 0],
            [2, 2, 2, 1, 1, 0, 0, 0],
            [2, 2, 2, 1, 1, 0, 0, 0],
            [0, 0, 0, 0, 0, 0, 0, 0],
        ]
    )
    assert np.array_equal(draw(tmp_path, [large, small]), expected)
    assert np.array_equal(draw(tmp_path, [small, large]), expected)


@pytest.mark.parametrize("compressed", [False, True])
def test_run_lengths(tmp_path: Path, compressed: bool) -> None:
    """Down the columns, zeros first."""
    counts = [1, 4, 2, 3, 38]
    segmentation = {"size": list(SIZE), "counts": encode(counts) if compressed else counts}
    expected = np.zeros(SIZE, np.uint8)
    expected[1:5, 0] = 3
    expected[1:4, 1] = 3
    assert np.array_equal(draw(tmp_path, [instance(1, 9, segmentation)]), expected)


def test_crowds_are_ignored_where_nothing_else_lies(tmp_path: Path) -> None:
    counts = {"size": list(SIZE), "counts": [0, 12, 36]}  # the first two columns
    expected = np.zeros(SIZE, np.uint8)
    expected[:, :2] = 255
    expected[1:3, 1:3] = 2
    crowd, dog = instance(1, 3, counts, iscrowd=1), instance(1, 7, square(1, 1, 2), iscrowd=0)
    assert np.array_equal(draw(tmp_path, [crowd, dog]), expected)
    assert np.array_equal(draw(tmp_path, [dog, crowd]), expected)


def test_smaller_instances_are_drawn_over_larger_ones(tmp_path: Path) -> None:
    expected = np.zeros(SIZE, np.uint8)
    expected[0:4, 0:4], expected[1:3, 1:3] = 2, 1
    large, small = instance(1, 7, square(0, 0, 4)), instance(1, 3, square(1, 1, 2))
    for instances in ([large, small], [small, large]):
        assert np.array_equal(draw(tmp_path, instances), expected)
    other = instance(1, 3, square(0, 0, 4))  # of two of one size the later one counts
    assert (draw(tmp_path, [large, other])[0:4, 0:4] == 1).all()
    assert (draw(tmp_path, [other, large])[0:4, 0:4] == 2).all()


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        (None, "has no segmentation. Export polygons or run lengths, not boxes, or remove the annotation"),
        ([], "has no segmentation"),
        ([[1, 2, 3, 4]], "'[1, 2, 3, 4]' is no polygon"),
        ([[1, 2, 3, 4, 5, 6, 7]], "is no polygon"),
        ([[1, 2, 3, 4, 5, "x"]], "is no polygon"),
        ([[1, 2, 3, 4, 5, float("nan")]], "is no polygon"),
        ([3], "'3' is no polygon"),
        ({"size": [6, 8], "counts": [40, 9]}, "its run lengths are not of the image's size, 8 x 6 pixels"),
        ({"size": [8, 6], "counts": [40, 8]}, "its run lengths are not of the image's size"),
        ({"counts": [40, 8]}, "its run lengths are not of the image's size"),
        ({"size": 3, "counts": [40, 8]}, "its run lengths are not of the image's size"),
        ({"size": [6, 8], "counts": [-1, 49]}, "its segmentation has no counts"),
        ({"size": [6, 8]}, "its segmentation has no counts"),
        ({"size": [6, 8], "counts": "a b"}, "its counts hold ' ', which compressed run lengths do not"),
    ],
)
def test_broken_shapes(tmp_path: Path, segmentation: Any, message: str) -> None:
    """All of them are named at once, before any mask is written."""
    good = instance(1, 7, square(1, 1, 2))
    bad = instance(1, 7, segmentation)
    path = write(tmp_path / "one.json", coco({1: "a.jpg", 2: "b.jpg"}, [good, bad, {**bad, "image_id": 2}]))
    with pytest.raises(DataError) as error:
        write_coco_masks(path, tmp_path / "masks")
    texts = [str(problem) for problem in error.value.problems]
    assert [message in text for text in texts] == [True, True], texts
    assert [text.startswith(f"{path}, annotation {i}: ") for i, text in zip((2, 3), texts, strict=True)] == [True, True]
    assert not list(tmp_path.rglob("*.png"))


def test_parts_without_an_area_are_left_out(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Editors leave points and lines behind. A polygon need not be in a list."""
    good = square(1, 1, 2)
    shapes = [good, [*good, [5, 5]], [[5.0, 5.0, 6.0, 5.0], *good], good[0]]
    names = {i: f"{i}.jpg" for i in range(4)}
    path = write(tmp_path / "a.json", coco(names, [instance(i, 7, shape) for i, shape in enumerate(shapes)]))
    write_coco_masks(path, tmp_path / "masks")
    masks = [read_mask(tmp_path / "masks" / f"{i}.png") for i in range(4)]
    assert all(np.array_equal(mask, masks[0]) for mask in masks) and masks[0].sum() == 4
    assert "2 annotations with parts of one or two points, which are left out" in " ".join(
        capfd.readouterr().err.split()
    )


def test_crowds_of_annotation_programs_are_objects(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Programs mark each mask of a brush as a crowd. Where a class has other annotations, its crowds are ignored, which
    is said."""
    brush = {"size": list(SIZE), "counts": [0, 12, 36]}  # the first two columns
    dog, cat = instance(1, 7, square(4, 1, 2)), instance(1, 3, brush, iscrowd=1)
    path = write(tmp_path / "a.json", coco({1: "a.jpg"}, [dog, cat]))
    write_coco_masks(path, tmp_path / "masks")
    assert np.unique(read_mask(tmp_path / "masks" / "a.png"), return_counts=True)[1].tolist() == [32, 12, 4]
    text = " ".join(capfd.readouterr().err.split())
    assert "every annotation of cat is a crowd (iscrowd), so these are drawn as objects. Remove those" in text

    write(path, coco({1: "a.jpg"}, [dog, cat, instance(1, 3, square(6, 4, 1))]))
    write_coco_masks(path, tmp_path / "masks")
    assert np.unique(read_mask(tmp_path / "masks" / "a.png")).tolist() == [0, 1, 2, 255]
    text = " ".join(capfd.readouterr().err.split())
    assert "crowds (iscrowd) are ignored, their pixels become 255: 1 of 2 of cat. Set iscrowd to 0" in text


def test_crowds_of_coco_stay_crowds(tmp_path: Path) -> None:
    names = class_names(COCO_CLASSES)
    categories = [{"id": i, "name": name} for i, name in enumerate(names)]
    brush = {"size": list(SIZE), "counts": [0, 12, 36]}
    path = write(tmp_path / "a.json", coco({1: "a.jpg"}, [instance(1, 0, brush, iscrowd=1)], categories))
    write_coco_masks(path, tmp_path / "masks")
    assert np.unique(read_mask(tmp_path / "masks" / "a.png")).tolist() == [0, 255]


def test_masks_do_not_go_among_images(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", coco({1: "a.jpg"}, [instance(1, 7, square(1, 1, 2))]))
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.jpg").touch()
    with pytest.raises(CianError, match=r"images: holds other images \(a\.jpg\)\. Give a new or an empty folder"):
        write_coco_masks(path, tmp_path / "images")


def test_masks_of_any_annotations(tmp_path: Path) -> None:
    content = coco({1: "a.jpg", 2: "x/b.jpg"}, [instance(1, 7, square(0, 0, 2)), instance(2, 3, square(0, 0, 2))])
    path = write(tmp_path / "tags.json", content)
    out = tmp_path / "masks"
    assert write_coco_masks(path, out) == ["background", "cat", "dog"]  # as tags have it
    assert (out / "classes.txt").read_text() == "background\ncat\ndog\n"
    assert np.unique(read_mask(out / "a.png")).tolist() == [0, 2]
    assert np.unique(read_mask(out / "x" / "b.png")).tolist() == [0, 1]
    table, problems = read(tmp_path, content, "a x/b", "tags.json", masks=out, classes=out / "classes.txt")
    assert not problems
    assert table is not None and all(table.masks)

    classes = write(tmp_path / "classes.txt", "yak\ndog\ncat\n")
    with pytest.raises(CianError, match="holds other classes than"):
        write_coco_masks(path, out, classes)
    assert write_coco_masks(path, tmp_path / "other", classes) == ["background", "yak", "dog", "cat"]
    assert np.unique(read_mask(tmp_path / "other" / "x" / "b.png")).tolist() == [0, 3]


def test_masks_are_drawn_again_if_the_annotations_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names, out = {1: "a.jpg", 2: "x/b.jpg"}, tmp_path / "masks"
    first, second = out / "a.png", out / "x" / "b.png"

    def draw(side: float) -> tuple[int, int]:
        """Draws squares; how many pixels each mask has then."""
        instances = [instance(1, 7, square(0, 0, side)), instance(2, 3, square(0, 0, side))]
        write_coco_masks(write(tmp_path / "tags.json", coco(names, instances)), out)
        return np.count_nonzero(read_mask(first)), np.count_nonzero(read_mask(second))

    assert draw(2) == (4, 4)
    write_mask(first, np.zeros(SIZE, np.uint8))
    second.unlink()
    assert draw(2) == (0, 4)  # the same annotations: masks are kept
    assert draw(3) == (9, 9)
    (out / "coco-masks.json").rename(tmp_path / "kept.json")
    with pytest.raises(CianError, match=r"a\.png: was not drawn by `cian coco-masks`"):
        draw(4)
    (tmp_path / "kept.json").rename(out / "coco-masks.json")
    assert draw(3) == (9, 9)

    def stop(path: Path, mask: np.ndarray) -> None:
        if path == second:
            raise KeyboardInterrupt
        write_mask(path, mask)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(coco_masks, "write_mask", stop)
        draw(4)
    time_of_first = first.stat().st_mtime_ns
    assert draw(4) == (16, 16)
    assert first.stat().st_mtime_ns == time_of_first  # kept

    (out / "classes.txt").unlink()
    write_coco_masks(tmp_path / "tags.json", out, write(tmp_path / "classes.txt", "yak\ndog\ncat\n"))
    assert (read_mask(first).max(), read_mask(second).max()) == (2, 3)


def test_masks_of_a_folder_are_drawn_again_file_by_file(tmp_path: Path) -> None:
    source, out = tmp_path / "annotations", tmp_path / "masks"
    for split in ("train", "val"):
        write(source / f"instances_{split}.json", coco({1: "a.jpg"}, [instance(1, 7, square(0, 0, 2))]))
    write_coco_masks(source, out)
    time_of_train = (out / "train" / "a.png").stat().st_mtime_ns
    write(source / "instances_val.json", coco({1: "a.jpg"}, [instance(1, 7, square(0, 0, 3))]))
    write_coco_masks(source, out)
    assert (out / "train" / "a.png").stat().st_mtime_ns == time_of_train
    assert np.count_nonzero(read_mask(out / "val" / "a.png")) == 9


def test_masks_never_leave_their_folder(tmp_path: Path) -> None:
    names = {1: "../a.jpg", 2: "/abs/b.jpg", 3: "c\\d.jpg"}
    path = write(tmp_path / "in" / "tags.json", coco(names, [instance(1, 7, square(0, 0, 2))]))
    write_coco_masks(path, tmp_path / "in" / "masks")
    assert sorted(p.relative_to(tmp_path / "in" / "masks").as_posix() for p in tmp_path.rglob("*.png")) == [
        "a.png", "b.png", "c/d.png",
    ]  # fmt: skip


def test_masks_that_cannot_be_drawn(tmp_path: Path) -> None:
    def cannot(content: Any, message: str, **options: Any) -> None:
        path = write(tmp_path / "tags.json", content)
        with pytest.raises(CianError, match=re.escape(message)):
            write_coco_masks(path, tmp_path / "masks", **options)

    good = coco({1: "a.jpg"}, [instance(1, 7, square(0, 0, 2))])
    cannot({**good, "annotations": []}, "tags.json: holds no annotation of a category")
    cannot({"a.jpg": ["dog"]}, "tags.json: has no list 'images'")
    cannot("{", "tags.json: is not JSON")
    cannot(good, "category 'dog' is not in", classes=write(tmp_path / "c", "cat"))
    cannot({**good, "annotations": [instance(2, 7)]}, "annotation 1: there is no image_id '2'")
    cannot({**good, "categories": [{"id": 7, "name": "background"}]}, "the name 'background' is reserved")
    cannot({**good, "images": [{"id": 1, "file_name": "a.jpg"}]}, "image 'a.jpg' has no usable height and width")
    large = {"id": 1, "file_name": "a.jpg", "height": 10**5, "width": 10**4}
    cannot({**good, "images": [large]}, "image 'a.jpg': 10000 x 100000 pixels, over the limit of 100 megapixels")
    twice = coco({1: "a.jpg", 2: "a.png"}, [instance(1, 7, square(0, 0, 2))])
    cannot(twice, "several images would share the mask")
    assert not list(tmp_path.rglob("*.png"))
    (tmp_path / "empty").mkdir()
    fails(cli("coco-masks", "--annotations", tmp_path / "empty", "--out", tmp_path / "m"), "holds no instances_*.json")
    fails(cli("coco-masks", "--annotations", tmp_path / "none.json", "--out", tmp_path / "m"), "none.json")


def test_masks_of_the_devkit(tmp_path: Path) -> None:
    config = coco_devkit(tmp_path / "COCO")
    result = cli(
        "coco-masks", "--annotations", tmp_path / "COCO" / "annotations", "--out", tmp_path / "COCO" / "masks"
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "masks of 80 classes" in result.stdout
    assert (tmp_path / "COCO" / "masks" / "classes.txt").read_text() == COCO_CLASSES.read_text()
    table, problems = read_dataset(config, 0)
    assert not problems
    assert table is not None
    assert [mask and mask.name for mask in table.masks] == [f"{image.stem}.png" for image in table.images]
    expected = np.zeros(SIZE, np.uint8)
    expected[1:4, 1:4] = 80
    assert np.array_equal(read_mask(Path(str(table.masks[3]))), expected)
