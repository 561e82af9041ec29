"""A folder for each class, with and without splits."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from cian.config import DataConfig
from cian.reading.read import read_dataset
from tests.formats.helpers import fatal, images, only, read, splits_of, tags_of, write


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


def test_files_of_one_name_and_size_are_no_copies(tmp_path: Path) -> None:
    """Bitmaps of one size all have the same number of bytes."""
    for name in ("fox/1.bmp", "rabbit/1.bmp", "rabbit/2.bmp"):
        write(tmp_path / "images" / name, name.ljust(20))
    table, problems = read_dataset(DataConfig(images=tmp_path / "images", min_images=1), seed=0)
    assert not problems
    assert tags_of(table) == {"fox/1": ("fox",), "rabbit/1": ("rabbit",), "rabbit/2": ("rabbit",)}


@pytest.mark.parametrize("name", ["@eaDir", "#recycle", "$RECYCLE.BIN", "lost+found", "System Volume Information"])
def test_folders_of_systems_are_left_out(tmp_path: Path, name: str) -> None:
    table, problems = read(tmp_path, None, ["fox/1", "yak/2", f"{name}/fox/1", f"fox/{name}/1.jpg/SMALL"])
    assert not problems
    assert tags_of(table) == {"fox/1": ("fox",), "yak/2": ("yak",)}


def test_one_folder_around_the_classes_is_seen_through(tmp_path: Path) -> None:
    table, problems = read(tmp_path, None, ["archive/Pets/Cat/1", "archive/Pets/Dog/2", "archive/Pets/Dog/new/3"])
    assert tags_of(table) == {
        "archive/Pets/Cat/1": ("Cat",), "archive/Pets/Dog/2": ("Dog",), "archive/Pets/Dog/new/3": ("Dog",),
    }  # fmt: skip
    text = "all images are in 'archive/Pets', so the folders in it are taken as the classes (Cat, Dog). Give --tags"
    assert text in only(problems, is_fatal=False)
    table, problems = read(tmp_path, None, ["images/Cat/1", "images/Dog/2"])
    assert tags_of(table) == {"images/Cat/1": ("Cat",), "images/Dog/2": ("Dog",)}


def test_one_folder_around_the_splits_is_seen_through(tmp_path: Path) -> None:
    table, problems = read(tmp_path, None, ["pets/train/cat/1", "pets/train/dog/2", "pets/valid/cat/3"])
    assert not problems
    assert tags_of(table) == {"pets/train/cat/1": ("cat",), "pets/train/dog/2": ("dog",), "pets/valid/cat/3": ("cat",)}
    assert list(splits_of(table).values()) == ["train", "train", "val"]
    _, problems = read(tmp_path, None, ["pets/train/1", "pets/valid/3"])
    assert "'train/1.jpg' is in no class folder: train, valid look like" in only(problems)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            "images/cat/1 images/dog/2 masks/cat/1.png",
            "holds 'images' and 'masks', which are not classes. Give --images",
        ),
        ("VOC/JPEGImages/1 VOC/SegmentationClass/1.png", "holds 'JPEGImages' and 'SegmentationClass', which are no"),
        (
            "cat/1 dog/2 masks/1.png",
            "the folder 'masks' lies where a class folder should be, but its name is not that of a class",
        ),
        ("images/1 images/2", "the folder 'images' lies where a class folder"),
        ("train/images/1 train/labels/1.png valid/images/2", "the folder 'images' lies where a class folder"),
        (
            "cat/1 cat/1_mask.png dog/2",
            "looks like masks of the images beside them ('cat/1_mask.png' of 'cat/1')",
        ),
        ("cat/1.png cat/1_mask_1.png", "Move masks to a folder of their own, and give it as --masks"),
    ],
)
def test_folders_of_images_and_masks_are_no_classes(tmp_path: Path, names: str, message: str) -> None:
    table, problems = read(tmp_path, None, names)
    assert table is None and message in only(problems)


def test_masks_that_are_given_are_no_class(tmp_path: Path) -> None:
    folder = images(tmp_path / "images", "images/cat/1 images/dog/2 masks/cat/1.png")
    table, _ = read_dataset(DataConfig(images=folder, masks=folder / "masks", min_images=1), seed=0)
    assert tags_of(table) == {"images/cat/1": ("cat",), "images/dog/2": ("dog",)}


def test_names_of_classes_that_only_resemble_those_of_masks(tmp_path: Path) -> None:
    table, problems = read(tmp_path, None, ["mask/1", "no mask/1b", "no mask/face_mask"])
    assert table is not None and table.classes == ("mask", "no mask") and not problems
