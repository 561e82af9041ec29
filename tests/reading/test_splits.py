"""Which images are held out: by list files, or by a random draw."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from cian.config import DataConfig
from cian.data.table import TRAIN
from cian.reading.read import read_dataset
from tests.formats.helpers import PETS_CSV, fatal, only, read, splits_of, tags_of, write


def test_list_files(tmp_path: Path) -> None:
    lists = {
        "train": write(tmp_path / "train.txt", "a.jpg\n b \n\nimages/c.jpg\na\n"),
        "val": write(tmp_path / "val.txt", "new\r\n"),
    }
    table, problems = read(tmp_path, PETS_CSV, "a b c d new", splits=lists)
    assert not problems
    assert splits_of(table) == {"a": "train", "b": "train", "c": "train", "new": "val"}
    assert tags_of(table)["new"] is None
    assert table is not None
    assert table.allowed(3).all()


def test_list_files_with_class_folders(tmp_path: Path) -> None:
    lists = {"train": write(tmp_path / "t", "x\ndog/y\n"), "test": write(tmp_path / "v", "loose\n")}
    table, problems = read(tmp_path, None, ["cat/x", "dog/y", "loose"], splits=lists)
    assert not problems
    assert tags_of(table) == {"cat/x": ("cat",), "dog/y": ("dog",), "loose": None}


def test_problems_of_list_files(tmp_path: Path) -> None:
    lists = {
        "train": write(tmp_path / "train.txt", "a\nb\nnew\nnone\n"),
        "val": write(tmp_path / "val.txt", "c\nb\n"),
        "test": tmp_path / "test.txt",
    }
    _, problems = read(tmp_path, PETS_CSV, "a b c d new", splits=lists)
    text = "\n".join(fatal(problems))
    assert "train.txt, line 4: there is no image 'none'. Correct" in text
    assert "val.txt, line 2: 'b' is also in split train. Keep" in text
    assert "test.txt: no such file. Give" in text
    assert "tags.csv: no row for 1 image (new.jpg), which the lists name for training. Add rows" in text


def test_no_training_images(tmp_path: Path) -> None:
    table, problems = read(tmp_path, PETS_CSV, splits={"val": write(tmp_path / "val.txt", "a\nb\n")})
    assert table is not None
    assert "tags.csv: no image in split train (splits: val). Also give its list: --split train=FILE" in only(problems)


def test_val_fraction(tmp_path: Path) -> None:
    names = [f"{i:03}" for i in range(100)]
    rows = "image,tags\n" + "".join(f"{name},{'rare;' * (i < 3)}common\n" for i, name in enumerate(names))
    table, problems = read(tmp_path, rows, names, val_fraction=0.3, min_images=2)
    assert not problems
    assert table is not None
    assert Counter(table.splits) == {"train": 70, "val": 30}
    assert sum("rare" in tags for tags in tags_of(table.split(TRAIN)).values() if tags) >= 2
    again, _ = read(tmp_path, rows, names, val_fraction=0.3, min_images=2)
    assert splits_of(again) == splits_of(table)
    config = DataConfig(images=tmp_path / "images", tags=tmp_path / "tags.csv", val_fraction=0.3)
    other, _ = read_dataset(config, seed=1)
    assert splits_of(other) != splits_of(table)


def test_val_fraction_leaves_enough_for_training(tmp_path: Path) -> None:
    table, problems = read(tmp_path, PETS_CSV, val_fraction=0.9, min_images=2)
    assert table is not None
    assert "data.val_fraction=0.9 asks for 4 images, " in only(problems, is_fatal=False)
    assert min(Counter(table.split(TRAIN).tag_ids.tolist()).values()) == 2


def test_val_fraction_of_negatives(tmp_path: Path) -> None:
    table, problems = read(tmp_path, "image,tags\na,dog\nb,\nc,\nd,\n", val_fraction=0.75, untagged="negative")
    assert not problems
    assert splits_of(table) == {"a": "train", "b": "val", "c": "val", "d": "val"}


def test_lists_with_columns(tmp_path: Path) -> None:
    lists = {
        "train": write(tmp_path / "train.txt", "a b.jpg\n/images/c.jpg /masks/c.png\nd 1\n"),
        "val": write(tmp_path / "val.txt", "/x/e.jpg\nno such\n"),
    }
    rows = "image,tags\na b,dog\nc,dog\nd,dog\na,dog\n"
    table, problems = read(tmp_path, rows, ["a b.jpg", "a", "c", "d", "x/e"], splits=lists)
    assert "val.txt, line 2: there is no image 'no such'. Correct" in only(problems)
    assert splits_of(table) == {"a b": "train", "c": "train", "d": "train", "x/e": "val"}


SPLIT_IMAGES = "rf/train/a rf/train/b rf/valid/c rf/test/d"


def test_folders_of_splits_hold_images_out(tmp_path: Path) -> None:
    """Whatever the tags are read from."""
    xml = "<annotation><object><name>{}</name></object></annotation>"
    for row in ("train/a fox", "train/b yak", "valid/c fox", "test/d yak"):
        name, tag = row.split()
        write(tmp_path / "xml" / f"{name}.xml", xml.format(tag))
    tables = (
        read(tmp_path, "image,tags\na,fox\nb,yak\nc,fox\nd,yak\n", SPLIT_IMAGES),
        read(tmp_path, {"a.jpg": "fox", "b": "yak", "c": "fox", "d": "yak"}, SPLIT_IMAGES, "tags.json"),
        read_dataset(DataConfig(images=tmp_path / "images", tags=tmp_path / "xml", min_images=1), seed=0),
    )
    for table, problems in tables:
        assert splits_of(table) == {"rf/train/a": TRAIN, "rf/train/b": TRAIN, "rf/valid/c": "val", "rf/test/d": "test"}
        assert tags_of(table)["rf/valid/c"] == ("fox",)
        text = (
            "the folders of the images say which are held out: train 2, val 1, test 1. Give list files with data.splits"
        )
        assert text in only(problems, is_fatal=False)


def test_folders_that_are_no_splits_of_all_images(tmp_path: Path) -> None:
    rows = "image,tags\na,fox\nb,yak\nc,fox\nd,yak\n"
    for names in (
        "train/a train/b train/c train/d",
        "train/a val/b other/c d",
        "tests/a val/b train/c train/d",
    ):
        table, problems = read(tmp_path, rows, names)
        assert set(splits_of(table).values()) == {TRAIN} and not problems
    lists = {TRAIN: write(tmp_path / "t", "a\nd\n"), "val": write(tmp_path / "v", "b\nc\n")}
    table, problems = read(tmp_path, rows, SPLIT_IMAGES, splits=lists)
    assert not fatal(problems)
    assert splits_of(table)["rf/test/d"] == TRAIN and splits_of(table)["rf/train/b"] == "val"
    _, problems = read(tmp_path, rows, SPLIT_IMAGES, val_fraction=0.5)
    assert "data.val_fraction is given, but" in "\n".join(fatal(problems))
