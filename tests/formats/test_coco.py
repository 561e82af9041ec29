"""COCO's annotations: as tags, as splits, and drawn into masks."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cian.config import DataConfig
from cian.data.classes import class_names
from cian.data.masks import read_mask, write_mask
from cian.data.problems import ProblemList
from cian.data.read import read_dataset
from cian.errors import CianError
from cian.files import read_json
from cian.formats import coco_masks
from cian.formats.coco import read_annotations, split_of
from cian.formats.coco_masks import write_coco_masks
from cian.formats.devkits import COCO_CLASSES
from cian.formats.shapes import decompress, fill_polygon
from cian.formats.text import parse_json
from cian.pipeline.run import run
from tests.formats.helpers import fatal, images, only, read, splits_of, tags_of, write
from tests.helpers import cli, fails, here

CONFIGS = Path(__file__).parents[2] / "configs"
CATEGORIES = [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}, {"id": 9, "name": "yak"}]
SIZE = (6, 8)  # height, width


def square(x: float, y: float, side: float) -> list[list[float]]:
    return [[x, y, x + side, y, x + side, y + side, x, y + side]]


def instance(image: Any, category: Any, segmentation: Any = None, **more: Any) -> dict[str, Any]:
    shape = {} if segmentation is None else {"segmentation": segmentation}
    return {"image_id": image, "category_id": category, **shape, **more}


def coco(
    names: dict[Any, str], instances: list[Any], categories: list[Any] | None = None, size: tuple[int, int] = SIZE
) -> dict[str, Any]:
    height, width = size
    return {
        "info": {},
        "images": [{"id": key, "file_name": name, "height": height, "width": width} for key, name in names.items()],
        "annotations": instances,
        "categories": CATEGORIES if categories is None else categories,
    }


def encode(counts: list[int]) -> str:
    """COCO's compressed run lengths, written from its definition in maskApi.c."""
    text = ""
    for i, count in enumerate(counts):
        value = count - counts[i - 2] if i > 2 else count
        more = True
        while more:
            group = value & 31
            value >>= 5
            more = value != (-1 if group & 16 else 0)
            text += chr((group | 32 * more) + 48)
    return text


def draw(tmp_path: Path, instances: list[Any]) -> np.ndarray:
    path = write(tmp_path / "one.json", coco({1: "a.jpg"}, instances))
    problems = ProblemList()
    labels = read_annotations(path, parse_json(path, ""), problems)
    assert not problems.all()
    return coco_masks.draw(labels.instances, SIZE, {"cat": 1, "dog": 2, "yak": 3}, str(path))


# ---------------------------------------------------------------------------------------------------------- tags


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
    assert "b.jpg: has no tag in" in only(problems) and "set data.untagged=negative" in only(problems)
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
        ({"images": [{"id": 1, "file_name": "a"}] * 2}, "tags.json, image 2: its id '1' occurred before"),
        ({"categories": [{"id": 7}]}, "tags.json, category 1: has no name"),
        ({"annotations": ["a"]}, "tags.json, annotation 1: there is no image_id 'None'"),
        ({"annotations": [instance(5, 7)]}, "tags.json, annotation 1: there is no image_id '5'"),
        ({"annotations": [instance(1, {})]}, "tags.json, annotation 1: there is no category_id '[]'"),
        ({"annotations": []}, "a.jpg: has no tag in"),
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
    assert f"settings: data.val_fraction is given, but {labels} says what is held out. Leave it out" in text
    _, problems = read_dataset(config.model_copy(update={"split_column": "fold"}), 0)
    assert (
        "instances_train.json: is COCO JSON, so it has no column 'fold'. Remove data.split_column; give list files"
        in only(problems)
    )


def test_split_of() -> None:
    for name, split in {
        "instances_train2014": "train", "instances_val2017": "val", "instances_test": "test",
        "instances_default": "train", "instances_val-1": "val", "instances_validity": "train",
        "instances_valid": "val", "instances_Val2017_small": "val", "instances_validation2017": "val",
        "instances_minival2014": "val", "instances_testing": "test", "instances_training": "train",
    }.items():  # fmt: skip
        assert split_of(Path(f"x/{name}.json")) == split


# -------------------------------------------------------------------------------------------------------- devkit


def devkit(root: Path, year: str = "2014", size: tuple[int, int] = SIZE) -> DataConfig:
    """COCO's folder: three images to train on (one without an instance), two of val; ids as COCO's, with gaps."""
    names = class_names(COCO_CLASSES)
    ids = [i for i in range(1, 91) if i not in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)]
    categories = [{"id": key, "name": name} for key, name in zip(ids, names, strict=True)]
    for split, count in (("train", 3), ("val", 2)):
        files = {i: f"COCO_{split}{year}_{i:012}.jpg" for i in range(count)}
        for name in files.values():
            path = root / f"{split}{year}" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", size[::-1]).save(path)
        # in train, each class lies in the images 0 and 1
        used = [instance(i % 2, key, square(1, 1, 3)) for key in ids for i in range(2)]
        rows = used if split == "train" else [instance(0, 90, square(1, 1, 3)), instance(1, 1, square(0, 0, 2))]
        write(root / "annotations" / f"instances_{split}{year}.json", coco(files, rows, categories[::-1], size))
    write(root / "annotations" / f"captions_train{year}.json", {"images": [], "annotations": []})
    return DataConfig(coco=root, untagged="negative")


@pytest.mark.parametrize("year", ["2014", "2017"])
def test_devkit(tmp_path: Path, year: str) -> None:
    config = devkit(tmp_path / "COCO", year)
    images(tmp_path / "COCO", "test2014/not-used")
    table, problems = read_dataset(config, 0)
    assert not problems
    assert table is not None
    assert table.classes == tuple(class_names(COCO_CLASSES))
    assert (len(table.classes), table.classes[0], table.classes[79]) == (80, "person", "toothbrush")
    names = [f"train{year}/COCO_train{year}_{i:012}" for i in range(3)]
    names += [f"val{year}/COCO_val{year}_{i:012}" for i in range(2)]
    assert splits_of(table) == {name: name.partition(year)[0] for name in names}
    assert [table.tags(i).tolist() for i in range(5)] == [list(range(1, 81)), list(range(1, 81)), [], [80], [1]]
    assert not any(table.masks)


def test_masks_of_the_devkit(tmp_path: Path) -> None:
    config = devkit(tmp_path / "COCO")
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


def test_check_of_the_devkit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    devkit(tmp_path / "COCO")
    for path in (tmp_path / "COCO").rglob("*.jpg"):
        Image.new("RGB", (32, 24)).save(path)
    small = ["--set", "classify.batch_size=2", "--set", "train.batch_size=2"]
    args = ["check", "--set", f"data.coco={tmp_path / 'COCO'}", *small, "--set"]
    assert here(monkeypatch, *args, "data.untagged=negative") == 0
    text = capsys.readouterr().out
    assert "teddy bear" in text and "No problems" in text
    assert here(monkeypatch, *args, "data.untagged=error") == 1
    text = capsys.readouterr().err
    assert "COCO_train2014_000000000002.jpg" in text and "data.untagged=negative" in text


def test_our_recipe_on_a_small_devkit(tmp_path: Path) -> None:
    """From COCO's folder to scored masks of its 80 classes; shrunk in time and space only."""
    size = (32, 40)
    devkit(tmp_path / "COCO", size=size)
    rng = np.random.default_rng(0)
    for path in (tmp_path / "COCO").rglob("*.jpg"):
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)
    write_coco_masks(tmp_path / "COCO" / "annotations", tmp_path / "COCO" / "masks")
    small = {
        "data": {"coco": str(tmp_path / "COCO"), "min_images": 1},
        "backbone.weights": "random",
        "classify": {"epochs": 1, "min_steps": 0, "batch_size": 2, "augment": {"crop": 65}},
        "seeds.scales": [1.0],
        "train": {"epochs": 1, "min_steps": 0, "batch_size": 2, "augment": {"crop": 65}},
        "predict.scales": [1.0],
        "runtime": {"device": "cpu", "workers": 0},
    }
    result = run(out=tmp_path / "run", config=CONFIGS / "coco2014.yaml", **small)
    assert result.report_file.exists()
    stages = read_json(result.metrics_file)["stages"]
    assert set(stages["seeds"]) == {"train", "val"}
    assert set(stages["final, with CRF"]) == {"val"}
    assert list(stages["final, with CRF"]["val"]["iou"]) == ["background", *class_names(COCO_CLASSES)]
    found = [path.relative_to(result.path / "predictions") for path in (result.path / "predictions").rglob("*.png")]
    assert sorted(map(str, found)) == [f"val2014/COCO_val2014_{i:012}.png" for i in range(2)]
    nothing = read_mask(result.path / "seeds" / "train2014" / "COCO_train2014_000000000002.png")  # shows no class
    assert not nothing.any()


def test_problems_of_devkits(tmp_path: Path) -> None:
    root = tmp_path / "COCO"
    (problem,) = fatal(read_dataset(DataConfig(coco=root), 0)[1])
    assert f"{root / 'annotations'}: no such folder, or no instances_*.json in it. Give" in problem
    config = devkit(root)
    devkit(root, "2017")
    (problem,) = fatal(read_dataset(config, 0)[1])
    assert "annotations: holds the instances of 2014 and 2017, which label the same images. Keep" in problem
    for path in (root / "annotations").glob("*2014.json"):
        path.unlink()
    (root / "val2017").rename(root / "elsewhere")
    assert f"{root / 'val2017'}: no such folder" in "\n".join(fatal(read_dataset(config, 0)[1]))


# --------------------------------------------------------------------------------------------------------- masks


def test_polygons(tmp_path: Path) -> None:
    """The smaller one lies on top, in whatever order they come; one instance may have several parts."""
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


def test_triangle() -> None:
    """Pixels whose centre lies within; what reaches beyond the image is cut off."""
    triangle = np.array([[-1.0, 1.0], [4.0, 1.0], [4.0, 6.0]])
    expected = [[0, 0, 0, 0, 0], [1, 1, 1, 1, 0], [1, 1, 1, 1, 0], [0, 1, 1, 1, 0]]
    # on the diagonal x = y - 2: a centre on a left edge is within
    assert fill_polygon(triangle, 4, 5).astype(int).tolist() == expected


def test_polygons_agree_with_matplotlib() -> None:
    from matplotlib.path import Path as Outline

    rng = np.random.default_rng(0)
    y, x = np.mgrid[:40, :50]
    centres = np.stack([x.ravel() + 0.5, y.ravel() + 0.5], 1)
    for _ in range(50):
        angles = np.sort(rng.uniform(0, 2 * np.pi, 9))
        radius = rng.uniform(5, 35, (9, 1))
        points = [25, 20] + radius * np.stack([np.cos(angles), np.sin(angles)], 1)
        expected = Outline(points).contains_points(centres).reshape(40, 50)
        assert np.array_equal(fill_polygon(points, 40, 50), expected)


@pytest.mark.parametrize("compressed", [False, True])
def test_run_lengths(tmp_path: Path, compressed: bool) -> None:
    """Down the columns, zeros first."""
    counts = [1, 4, 2, 3, 38]
    segmentation = {"size": list(SIZE), "counts": encode(counts) if compressed else counts}
    expected = np.zeros(SIZE, np.uint8)
    expected[1:5, 0] = 3
    expected[1:4, 1] = 3
    assert np.array_equal(draw(tmp_path, [instance(1, 9, segmentation)]), expected)


def test_long_run_lengths() -> None:
    """Numbers of several groups, and negative differences."""
    rng = np.random.default_rng(0)
    truth = rng.random((300, 40)) < 0.02
    truth[:, 5:30] = False
    truth[50:, 10] = True
    flat = truth.T.ravel()
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flat]))).tolist()
    counts = np.diff([0, *edges, flat.size]).tolist()
    assert decompress(encode(counts)) == counts


def test_crowds_are_ignored_where_nothing_else_lies(tmp_path: Path) -> None:
    counts = {"size": list(SIZE), "counts": [0, 12, 36]}  # the first two columns
    expected = np.zeros(SIZE, np.uint8)
    expected[:, :2] = 255
    expected[1:3, 1:3] = 2
    crowd, dog = instance(1, 3, counts, iscrowd=1), instance(1, 7, square(1, 1, 2), iscrowd=0)
    assert np.array_equal(draw(tmp_path, [crowd, dog]), expected)
    assert np.array_equal(draw(tmp_path, [dog, crowd]), expected)


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        (None, "has no segmentation. Export polygons or run lengths, not boxes"),
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
    with pytest.raises(CianError, match=re.escape(message)) as error:
        draw(tmp_path, [instance(1, 7, segmentation)])
    assert str(error.value).startswith(f"{tmp_path / 'one.json'}, annotation 1: ")


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


def test_masks_are_drawn_anew_if_the_annotations_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    assert draw(2) == (0, 4)  # the same annotations: what is there is kept
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


def test_masks_of_a_folder_are_drawn_anew_file_by_file(tmp_path: Path) -> None:
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


def test_masks_that_cannot_be(tmp_path: Path) -> None:
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
    twice = coco({1: "a.jpg", 2: "a.png"}, [instance(1, 7, square(0, 0, 2))])
    cannot(twice, "several images would share the mask")
    assert not list(tmp_path.rglob("*.png"))
    (tmp_path / "empty").mkdir()
    fails(cli("coco-masks", "--annotations", tmp_path / "empty", "--out", tmp_path / "m"), "holds no instances_*.json")
    fails(cli("coco-masks", "--annotations", tmp_path / "none.json", "--out", tmp_path / "m"), "none.json")
