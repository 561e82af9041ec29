"""A data set in any form becomes the same table, and everything that is wrong with it is reported at once."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cian.config import DataConfig
from cian.data.masks import write_mask
from cian.data.problems import ProblemList
from cian.data.table import TRAIN
from cian.errors import DataError
from cian.formats import file_index
from cian.reading.read import read_dataset
from tests.formats.helpers import PETS_CSV, fatal, images, only, read, tags_of, write
from tests.helpers import lines_run


def test_all_problems_at_once(tmp_path: Path) -> None:
    rows = "image,tags\na,dog\nmissing.jpg,dog\ntwice,dog\nb,background\nc,\nd,cat\nd,dog\n"
    write(tmp_path / "classes.txt", "dog\ndog\n")
    table, problems = read(
        tmp_path,
        rows,
        ["a", "b", "c", "d", "x/twice", "y/twice"],
        masks=tmp_path / "none",
        classes=tmp_path / "classes.txt",
    )
    assert table is not None
    text = "\n".join(map(str, problems))
    for part in (
        "classes.txt, line 2: class 'dog' occurs twice. Remove",
        "tags.csv, line 3: there is no image 'missing.jpg'. Correct",
        "tags.csv, line 4: several images are called 'twice'. Write its folder",
        "tags.csv, line 5: the name 'background' is reserved for class id 0. Remove",
        "tags.csv: no tag for 1 image (c.jpg). Tag or remove it, or set data.untagged=negative if it shows none",
        "tags.csv, line 8: 'd' had other tags before ('cat', now 'dog'). Keep one row",
        "none: no such folder. Give",
    ):
        assert part in text, text
    assert "tags.csv: no row for 2 images (x/twice.jpg, y/twice.jpg), which will not be used. Add rows to" in text


def test_images_without_a_row(tmp_path: Path) -> None:
    table, problems = read(tmp_path, "image,tags\na,dog\n", "a b c d e")
    assert tags_of(table) == {"a": ("dog",)}
    text = only(problems, is_fatal=False)
    assert "no row for 4 images (b.jpg, c.jpg, d.jpg, …), which will not be used. Add rows to use them" in text


def test_images_without_a_row_but_with_a_label_map(tmp_path: Path) -> None:
    """The classes in the label map are the tags."""
    for name, value in (("b", 1), ("c", 2), ("d", 0)):
        write_mask(tmp_path / "labels" / f"{name}.png", np.full((4, 4), value, np.uint8))
    table, problems = read(tmp_path, "image,tags\na,dog\nf,cat\n", "a b c d e f", labels=tmp_path / "labels")
    assert tags_of(table) == {"a": ("dog",), "b": ("cat",), "c": ("dog",), "d": (), "f": ("cat",)}
    assert "no row for 1 image (e.jpg), which will not be used" in only(problems, is_fatal=False)


def test_images_without_a_tag(tmp_path: Path) -> None:
    rows = "image,tags\na,dog\nb,\nc, ; \n"
    table, problems = read(tmp_path, rows, "a b c")
    assert "tags.csv: no tag for 2 images (b.jpg, c.jpg). Tag or remove them, or set data.untagged" in only(problems)
    table, problems = read(tmp_path, rows, "a b c", untagged="negative")
    assert not problems
    assert tags_of(table) == {"a": ("dog",), "b": (), "c": ()}
    assert table is not None
    assert table.tagged.all()


def test_one_id_for_two_images(tmp_path: Path) -> None:
    rows = "image,tags\na.jpg,dog\na.png,dog\n"
    table, problems = read(tmp_path, rows, "a.jpg a.png b.jpg")
    assert (
        "a.png: differs from a.jpg only in its suffix, so both masks would have the same name. Rename"
        in fatal(problems)[0]
    )
    assert table is not None
    assert table.ids == ("a",)
    _, problems = read(tmp_path, "image,tags\na.jpg,dog\nb,dog\n", "a.jpg a.png b.jpg")
    assert not fatal(problems)
    _, problems = read(tmp_path, "image,tags\na,dog\nb,dog\n", "a.jpg a.png b.jpg")
    assert "line 2: several images are called 'a'" in fatal(problems)[0]


def test_doubled_rows(tmp_path: Path) -> None:
    _, problems = read(tmp_path, PETS_CSV + "c.jpg,cat;dog\n")
    assert not problems  # the same again
    _, problems = read(tmp_path, PETS_CSV + "c.jpg,cat\n")
    assert "line 6: 'c.jpg' had other tags before ('dog, cat', now 'cat'). Keep one row per image" in only(problems)
    _, problems = read(tmp_path, "image,cat,dog\na,0,1\na,1,0\n", "a")
    assert "'a' had other tags before" in only(problems)
    _, problems = read(tmp_path, '{"a": ["dog"], "a": ["cat"]}', "a", "tags.json")
    assert "tags.json, entry 2: 'a' had other tags before" in fatal(problems)[0]


def test_a_file_name_that_is_no_text(tmp_path: Path) -> None:
    try:
        table, problems = read(tmp_path, None, ["dog/a", "dog/b\udcff"])
    except OSError:
        pytest.skip("the file system stores only text")
    assert tags_of(table) == {"dog/a": ("dog",)}
    assert "b\\udcff.jpg: the file name is not valid text. Rename it" in only(problems)


def test_missing_files_are_all_named(tmp_path: Path) -> None:
    config = DataConfig(
        images=tmp_path / "images",
        tags=tmp_path / "tags.csv",
        classes=tmp_path / "classes.txt",
        splits={"train": tmp_path / "train.txt", "val": tmp_path},
    )
    table, problems = read_dataset(config, seed=0)
    assert table is None
    text = "\n".join(fatal(problems))
    assert len(problems) == 5
    for name in (
        "images: no such folder. Give",
        "tags.csv: no such file. Give",
        "classes.txt: ",
        "train.txt: ",
        "is not a file. Give",
    ):
        assert name in text


def test_unreadable_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def deny(self: Path, *arguments: Any, **options: Any) -> None:
        raise PermissionError(13, "Permission denied")

    folder, tags = images(tmp_path / "images", "a"), write(tmp_path / "tags.csv", PETS_CSV)
    monkeypatch.setattr(Path, "open", deny)
    _, problems = read_dataset(DataConfig(images=folder, tags=tags), seed=0)
    assert "tags.csv: cannot be read (Permission denied). Give a readable text file" in only(problems)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"images": None}, "settings: data.images is not given. Give"),
        ({"split_column": "fold", "val_fraction": 0.1}, "data.split_column and data.val_fraction are given. Give one"),
        ({"tags": None, "split_column": "fold"}, "data.split_column is given without data.tags"),
    ],
)
def test_settings(tmp_path: Path, config: dict[str, Any], message: str) -> None:
    config = {"images": images(tmp_path / "i", "a"), "tags": write(tmp_path / "tags.csv", PETS_CSV), **config}
    _, problems = read_dataset(DataConfig(**config), seed=0)
    assert any(message in text for text in fatal(problems)), problems


def test_no_image_left(tmp_path: Path) -> None:
    table, problems = read(tmp_path, "image,tags\nx,dog\n", "a")
    assert table is None
    assert any("tags.csv: names no image that exists. Check" in text for text in fatal(problems))
    table, problems = read(tmp_path, "image,tags\na,dog\n", "a", splits={TRAIN: tmp_path / "none.txt"})
    assert table is None
    assert "none.txt: no such file. Give" in only(problems)


def test_no_tag_at_all(tmp_path: Path) -> None:
    table, problems = read(tmp_path, "image,tags\na,\nb,\n", "a b", untagged="negative")
    assert table is None
    assert "tags.csv: gives no tag to any image. Tag the images" in only(problems)


def test_problems_of_one_kind_are_counted_after_a_thousand(tmp_path: Path) -> None:
    rows = "image,tags\na,dog\n" + "".join(f"missing{i},dog\n" for i in range(5000))
    _, problems = read(tmp_path, rows, "a")
    assert len(problems) == ProblemList.MOST
    assert problems[0].value == "there is no image 'missing0'"
    assert problems[-1].value == "there is no image 'missing999'" and problems[-1].count == 4001
    assert all(problem.fatal for problem in problems)
    said = str(DataError(problems, shown=1000))
    assert said.startswith("5000 problems in the data:") and "… and 4999 more like it: " in said
    assert len(said) < 500


def test_work_is_linear_in_the_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def work(count: int) -> int:
        files = [tmp_path / "images" / f"{i:07}.jpg" for i in range(count)]
        monkeypatch.setattr(file_index, "find_all_images", lambda folder: (files, []))
        rows = "".join(f"{i:07}.jpg,c{i % 20};c{i % 7}\n" for i in range(count))
        config = DataConfig(images=tmp_path / "images", tags=write(tmp_path / "tags.csv", f"image,tags\n{rows}"))

        def read() -> None:
            table, problems = read_dataset(config.model_copy(update={"val_fraction": 0.1}), seed=0)
            assert table is not None and len(table) == count and not problems

        return lines_run(read)

    assert work(4000) < 5 * work(1000)  # 4 times if linear, 16 times if quadratic


def test_real_data() -> None:
    root = Path(__file__).parents[3] / "shared" / "data" / "voc2012-320"
    if not root.exists():
        pytest.skip("the shared data set is not here")
    lists = {name: root / "ImageSets" / f"{file}.txt" for name, file in {"train": "train-small", "val": "val"}.items()}
    config = DataConfig(
        images=root / "JPEGImages",
        tags=root / "tags.csv",
        masks=root / "SegmentationClass",
        classes=root / "classes.txt",
        splits=lists,
    )
    table, problems = read_dataset(config, seed=0)
    assert not problems
    assert table is not None
    assert table.num_classes == 21
    assert Counter(table.splits) == {name: len(path.read_text().split()) for name, path in lists.items()}
    with Image.open(table.images[0]) as image:
        assert max(image.size) == 320
