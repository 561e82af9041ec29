"""A folder for each class, with and without splits."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from tests.formats.helpers import fatal, only, read, splits_of, tags_of, write


def test_a_folder_for_each_class(tmp_path: Path) -> None:
    table, problems = read(tmp_path, None, ["dog/a", "dog/deep/er/b", " big  cat/a.png", ".cache/x"])
    assert not problems
    assert tags_of(table) == {" big  cat/a": ("big cat",), "dog/a": ("dog",), "dog/deep/er/b": ("dog",)}


def test_a_folder_for_each_split_and_class(tmp_path: Path) -> None:
    names = ["train/fox/a", "train/red panda/deep/b", "Val/fox/a", "valid/fox/c", "validation/fox/d", "test/fox/e"]
    table, problems = read(tmp_path, None, names)
    assert not problems
    assert tags_of(table) == {name: ("red panda",) if "panda" in name else ("fox",) for name in names}
    assert splits_of(table) == {
        "train/fox/a": "train", "train/red panda/deep/b": "train", "Val/fox/a": "val", "valid/fox/c": "val",
        "validation/fox/d": "val", "test/fox/e": "test",
    }  # fmt: skip
    _, problems = read(tmp_path, None, names, val_fraction=0.5)
    text = "\n".join(fatal(problems))
    assert f"data.val_fraction is given, but {tmp_path / 'images'} says which images are held out. Remove" in text
    lists = {"train": write(tmp_path / "t", "train/fox/a\nval/fox/b\n"), "val": write(tmp_path / "v", "val/fox/c\n")}
    table, problems = read(tmp_path, None, ["train/fox/a", "val/fox/b", "val/fox/c"], splits=lists)
    assert not problems
    assert splits_of(table) == {"train/fox/a": "train", "val/fox/b": "train", "val/fox/c": "val"}
    table, problems = read(tmp_path, None, [f"train/fox/{i}" for i in range(4)], val_fraction=0.5)
    assert not problems
    assert Counter(splits_of(table).values()) == {"train": 2, "val": 2}


def test_folders_that_look_like_splits_alone(tmp_path: Path) -> None:
    table, problems = read(tmp_path, None, ["train/fox/a", "VAL/b"])
    assert table is None
    assert only(problems) == (
        f"{tmp_path / 'images'}: 'VAL/b.jpg' is in no class folder: VAL, train look like splits, not classes. "
        "Make a folder for each class in each split, e.g. train/CLASS/, or give --tags FILE"
    )
    table, problems = read(tmp_path, None, ["train/a", "bus/b"])  # two classes
    assert not problems
    assert tags_of(table) == {"bus/b": ("bus",), "train/a": ("train",)}


def test_images_outside_class_folders(tmp_path: Path) -> None:
    table, problems = read(tmp_path, None, ["dog/a", "b"])
    assert tags_of(table) == {"dog/a": ("dog",)}
    assert "images: 1 image (b.jpg) in no class folder. Move" in only(problems)
    table, problems = read(tmp_path, None, "a b")
    assert table is None
    text = only(problems)  # not also that no image exists
    assert text.endswith(
        "2 images (a.jpg, b.jpg) in no class folder. Move them to the folder of their class, or give --tags FILE"
    )


def test_splits_beside_other_folders(tmp_path: Path) -> None:
    """Else the splits would become classes."""
    names = ["train/fox/a", "train/cat/b", "val/fox/c", "extra/d"]
    _, problems = read(tmp_path, None, names)
    assert "'train' holds folders of classes and looks like a split, but beside it is 'extra'. Move" in only(problems)
    table, problems = read(tmp_path / "b", None, ["test/a", "fox/day/b"])  # a class may be called so
    assert table is not None and table.classes == ("fox", "test") and not fatal(problems)


def test_images_of_no_class_beside_class_folders(tmp_path: Path) -> None:
    table, problems = read(tmp_path, None, ["fox/1", "empty"], untagged="negative")
    assert not fatal(problems) and tags_of(table) == {"fox/1": ("fox",), "empty": ()}
    table, problems = read(tmp_path / "s", None, ["train/fox/1", "train/empty", "val/fox/2"], untagged="negative")
    assert not fatal(problems) and tags_of(table)["train/empty"] == ()
    assert splits_of(table)["train/empty"] == "train"


def test_copies_in_the_folders_of_two_classes(tmp_path: Path) -> None:
    _, problems = read(tmp_path, None, ["fox/1", "rabbit/1"])
    (note,) = [str(problem) for problem in problems]
    assert (
        "1 image seems to be in the folders of two classes ('fox/1.jpg and rabbit/1.jpg'). Keep each image once" in note
    )
