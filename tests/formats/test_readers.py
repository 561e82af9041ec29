"""Every layout of a data set becomes the same table, and everything that is wrong with one is said at once."""

from __future__ import annotations

import gc
import random
import shutil
import time
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from cian.config import DataConfig
from cian.data import images as image_files
from cian.data.classes import class_names
from cian.data.problems import ProblemList
from cian.data.read import read_dataset
from cian.data.table import TRAIN
from cian.errors import CianError
from cian.formats import file_index
from tests.formats.helpers import fatal, images, only, read, splits_of, tags_of, write

PETS = {"a": ("dog",), "b": ("cat",), "c": ("cat", "dog"), "d": ("cat", "dog")}
PETS_CSV = "image,tags\na.jpg,dog\nb.jpg,cat\nc.jpg,dog;cat\nd.jpg,cat;dog\n"


def masks_of(tmp_path: Path, names: list[str], there: list[str]) -> dict[str, str | None]:
    """The mask of each image, of those that are there."""
    shutil.rmtree(tmp_path / "masks", ignore_errors=True)
    masks = images(tmp_path / "masks", there)
    table, problems = read(tmp_path, "image,tags\n" + "".join(f"{name},dog\n" for name in names), names, masks=masks)
    assert not problems
    assert table is not None
    return {
        name: mask and mask.relative_to(masks).as_posix() for name, mask in zip(table.ids, table.masks, strict=True)
    }


# ------------------------------------------------------------------------------------------------------- layouts


@pytest.mark.parametrize(
    "content",
    [
        PETS_CSV,
        PETS_CSV.replace(",", "\t"),
        PETS_CSV.replace(",", ";"),
        PETS_CSV.replace("\n", "\r\n"),
        PETS_CSV.replace("\n", "\r"),
        PETS_CSV.encode("utf-8-sig"),
        PETS_CSV.encode("utf-16"),
        PETS_CSV.replace(".jpg", ""),
        PETS_CSV.replace(".jpg,", ".jpg , "),
        PETS_CSV.removeprefix("image,tags\n"),
        "\n\n" + PETS_CSV.replace("\n", "\n\n"),
        ";;\n" + PETS_CSV.replace(",", ";"),
        "sep=;\n" + PETS_CSV.replace(",", ";"),
        "sep=,\r\n" + PETS_CSV.removeprefix("image,tags\n").replace("\n", "\r\n"),
        'IMAGE,"Labels"\n"a.jpg","dog"\n"b.jpg","cat"\n"c.jpg","dog;cat"\n"d.jpg","; cat;;dog;cat "\n',
        "tags;when;filename\ndog;1;a.jpg\ncat;2;b.jpg\n'dog';3;c.jpg\ncat;4;d.jpg\n".replace(
            "'dog'", '"dog;cat"'
        ).replace("cat;4", '"cat;dog";4'),
        ",image,tags\n0,a.jpg,dog\n1,b.jpg,cat\n2,c.jpg,dog;cat\n3,d.jpg,dog;cat\n",
        "photo,animals\na.jpg,dog\nb.jpg,cat\nc.jpg,dog;cat\nd.jpg,dog;cat\n",
        "image,cat,dog\na.jpg,0,1\nb.jpg,1,0\nc.jpg,1,1\nd.jpg,1,1\n",
        "image;cat;dog\na.jpg;no;yes\nb.jpg;TRUE;False\nc.jpg;x;X\nd.jpg;1.0;1\n",
        "cat,dog,id\n,x,a\nx,,b\nx,x,c\nx,x,d\n",
        "image,cat,,dog\na.jpg,0,junk,1\nb.jpg,1,,0\nc.jpg,1,,1\nd.jpg,1,,1\n",
        "image,tag\na.jpg,dog\nb.jpg,cat\nc.jpg,dog\nd.jpg,dog\nd.jpg,cat\nc.jpg,cat\nc.jpg,cat\n",
        "a.jpg,dog\nb.jpg,cat\nc.jpg,dog\nc.jpg,cat\nd.jpg,dog\nd.jpg,cat\n",
    ],
)
def test_csv(tmp_path: Path, content: str | bytes) -> None:
    table, problems = read(tmp_path, content)
    if "when" in str(content):
        assert "these columns are not used: 'when'" in only(problems, is_fatal=False) and not fatal(problems)
    else:
        assert not problems
    assert tags_of(table) == PETS
    assert table is not None
    assert table.classes == ("cat", "dog")
    assert set(table.splits) == {TRAIN}
    assert table.images[0] == tmp_path / "images" / "a.jpg"


@pytest.mark.parametrize(
    "content",
    [
        {"a.jpg": ["dog"], "b": ["cat"], "c.jpg": ["cat", " dog "], "d.jpg": ["dog", "cat"]},
        {"a.jpg": "dog", "b": "cat", "c.jpg": "cat; dog", "d.jpg": "dog;cat"},
        [
            {"image": "a.jpg", "tags": ["dog"]},
            {"File": "b.jpg", "Labels": "cat"},
            {"path": "c.jpg", "class": "cat;dog"},
            {"tags": ["cat", "dog"], "image": "d.jpg", "extra": {"deep": [1]}},
        ],
    ],
)
def test_json(tmp_path: Path, content: Any) -> None:
    table, problems = read(tmp_path, content, file="tags.JSON")
    assert not problems
    assert tags_of(table) == PETS


def test_a_folder_per_class(tmp_path: Path) -> None:
    table, problems = read(tmp_path, None, ["dog/a", "dog/deep/er/b", " big  cat/a.png", ".cache/x"])
    assert not problems
    assert tags_of(table) == {" big  cat/a": ("big cat",), "dog/a": ("dog",), "dog/deep/er/b": ("dog",)}


def test_a_folder_per_split_and_class(tmp_path: Path) -> None:
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
    assert f"data.val_fraction is given, but {tmp_path / 'images'} says what is held out. Leave it out" in text
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


def test_one_class_of_flags(tmp_path: Path) -> None:
    table, problems = read(tmp_path, "image,dog\na,1\nb,0\nc,1\nd,1\n", untagged="negative")
    assert not problems
    assert tags_of(table) == {"a": ("dog",), "b": (), "c": ("dog",), "d": ("dog",)}


@pytest.mark.parametrize("separator", [",", "|", " ", " and "])
def test_separator(tmp_path: Path, separator: str) -> None:
    table, _ = read(tmp_path, f'image,tags\na,"dog{separator}cat"\n', "a", separator=separator)
    assert tags_of(table) == {"a": ("cat", "dog")}


def test_rows_name_images_in_many_ways(tmp_path: Path) -> None:
    names = ["top", "x/one.jpg", "x/two.jpg", "y/two.jpg", "y/three.tar.jpg", "z/four"]
    absolute = tmp_path / "images" / "z" / "four.jpg"
    rows = ["top", "one.jpg", "x/two", "./y/two.jpg", "images\\y\\three.tar", str(absolute)]
    table, problems = read(tmp_path, "image,tags\n" + "".join(f"{row},dog\n" for row in rows), names)
    assert not problems
    assert table is not None
    assert table.ids == ("top", "x/one", "x/two", "y/three.tar", "y/two", "z/four")


def test_a_path_is_better_than_a_name(tmp_path: Path) -> None:
    table, problems = read(tmp_path, "image,tags\na.jpg,dog\nx/a.jpg,cat\n", ["a", "x/a"])
    assert not problems
    assert tags_of(table) == {"a": ("dog",), "x/a": ("cat",)}


@pytest.mark.parametrize(("on_disk", "in_file"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_any_language(tmp_path: Path, on_disk: str, in_file: str) -> None:
    names = [unicodedata.normalize(on_disk, name) for name in ("été", "犬", "x/Ödland")]
    rows = unicodedata.normalize(in_file, "image,tags\nété.jpg,chien écossais\n犬.jpg,柴犬\nÖdland,سگ\n")
    table, problems = read(tmp_path, rows, names)
    assert not problems
    assert tags_of(table) == {"été": ("chien écossais",), "犬": ("柴犬",), "x/Ödland": ("سگ",)}


def test_windows_1252(tmp_path: Path) -> None:
    table, problems = read(tmp_path, "image,tags\na,écureuil\n".encode("cp1252"), "a")
    assert tags_of(table) == {"a": ("écureuil",)}
    assert "tags.csv: is not UTF-8, read as Windows-1252. Save it as UTF-8" in only(problems, is_fatal=False)


# ----------------------------------------------------------------------------------------------- problems of rows


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
        f"c.jpg: has no tag in {tmp_path / 'tags.csv'}. Tag it, remove it, or set data.untagged=negative",
        "tags.csv, line 8: 'd' had other tags before ('cat', now 'dog'). Keep one row",
        "none: no such folder. Give",
    ):
        assert part in text, text
    assert "tags.csv: no row for 2 images (x/twice.jpg, y/twice.jpg), which will not be used. Add rows if" in text


def test_images_without_a_row(tmp_path: Path) -> None:
    table, problems = read(tmp_path, "image,tags\na,dog\n", "a b c d e")
    assert tags_of(table) == {"a": ("dog",)}
    text = only(problems, is_fatal=False)
    assert "no row for 4 images (b.jpg, c.jpg, d.jpg, …), which will not be used. Add rows if they should be" in text


def test_images_outside_class_folders(tmp_path: Path) -> None:
    table, problems = read(tmp_path, None, ["dog/a", "b"])
    assert tags_of(table) == {"dog/a": ("dog",)}
    assert "images: 1 image in no class folder (b.jpg). Move" in only(problems)
    table, problems = read(tmp_path, None, "a b")
    assert table is None
    text = only(problems)  # not also that no image exists
    assert text.endswith("no class folder (a.jpg, b.jpg). Move them to the folder of their class, or give --tags FILE")


def test_images_without_a_tag(tmp_path: Path) -> None:
    rows = "image,tags\na,dog\nb,\nc, ; \n"
    table, problems = read(tmp_path, rows, "a b c")
    assert [problem.fatal for problem in problems] == [True, True]
    table, problems = read(tmp_path, rows, "a b c", untagged="negative")
    assert not problems
    assert tags_of(table) == {"a": ("dog",), "b": (), "c": ()}
    assert table is not None
    assert table.tagged.all()


def test_one_id_for_two_images(tmp_path: Path) -> None:
    rows = "image,tags\na.jpg,dog\na.png,dog\n"
    table, problems = read(tmp_path, rows, "a.jpg a.png b.jpg")
    assert "a.png: differs from a.jpg only in its suffix. Rename" in fatal(problems)[0]
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


def test_rare_classes(tmp_path: Path) -> None:
    _, problems = read(tmp_path, PETS_CSV + "e,bird\n", "a b c d e", min_images=3)
    assert "tags.csv, line 6: class 'bird' has 1 training image, fewer than 3. Add images" in only(problems)
    _, problems = read(tmp_path, PETS_CSV, min_images=4)
    assert len(fatal(problems)) == 2


def test_too_many_classes(tmp_path: Path) -> None:
    names = [f"{i:03}" for i in range(255)]
    table, problems = read(tmp_path, "image,tags\n" + "".join(f"{name},c{name}\n" for name in names), names)
    assert table is None
    assert "255 classes, but masks hold at most 254. Merge" in only(problems)
    table, problems = read(tmp_path, "image,tags\n" + "".join(f"{name},c{name}\n" for name in names[:254]), names)
    assert table is not None
    assert table.num_classes == 255


def test_warnings_about_tags(tmp_path: Path) -> None:
    _, problems = read(tmp_path, 'image,tags\na,Dog\nb,dog\nc,"cat, dog"\n', "a b c")
    assert not fatal(problems)
    text = "\n".join(map(str, problems))
    assert "line 3: classes 'Dog' and 'dog' differ in case only. Write them alike" in text
    assert "line 4: the tag 'cat, dog' holds ','. If these are several tags, set data.separator=','" in text


def test_a_name_that_is_no_text(tmp_path: Path) -> None:
    _, problems = read(tmp_path, {"a": ["do\x07g"], "b": ["\ud800"], "c": ["cat"]}, "a b c", "tags.json")
    text = "\n".join(map(str, problems))
    assert "entry 1: 'do\\x07g' is not a class name" in text
    assert "entry 2: '\\ud800' is not a class name" in text
    text.encode()


def test_a_file_name_that_is_no_text(tmp_path: Path) -> None:
    try:
        table, problems = read(tmp_path, None, ["dog/a", "dog/b\udcff"])
    except OSError:
        pytest.skip("the file system stores only text")
    assert tags_of(table) == {"dog/a": ("dog",)}
    assert "b\\udcff.jpg: the file name is not valid text. Rename it" in only(problems)


def test_pictures_that_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_files, "_register_heif", lambda: False)  # as without pillow-heif
    names = "a b.HEIC c.heic x/d.nef e.jpg"
    table, problems = read(tmp_path, "image,tags\na,dog\ne,dog\n", names)
    assert tags_of(table) == {"a": ("dog",), "e": ("dog",)}
    cure = "Convert to JPEG, or run `pip install pillow-heif` for HEIC"
    assert f"images: 3 files skipped, because cian does not read .heic, .nef. {cure}" in only(problems, is_fatal=False)
    _, problems = read(tmp_path, "image,tags\na,dog\nb.HEIC,dog\nc,dog\nx/d.nef,dog\nb.heic,dog\n", names)
    text = "\n".join(fatal(problems))
    assert f"tags.csv, line 3: 'b.HEIC' exists, but cian does not read .heic. {cure}" in text
    assert f"line 4: 'c' exists, but cian does not read .heic. {cure}" in text
    assert "line 5: 'x/d.nef' exists, but cian does not read .nef. Convert to JPEG" in text
    assert "line 6: there is no image 'b.heic'. Correct the name (case matters)" in text
    table, problems = read(tmp_path, "b.HEIC,dog\nc.heic,dog\n", "a b.HEIC c.heic")  # without header
    assert "line 1: 'b.HEIC' exists" in fatal(problems)[0] and len(fatal(problems)) == 2
    table, problems = read(tmp_path, None, "dog/a.heic cat/b.cr3")
    assert table is None
    assert f"images: no image in this folder; 2 files skipped, because cian does not read .cr3, .heic. {cure}" in only(
        problems
    )


def test_heic_is_found_like_other_images(tmp_path: Path) -> None:
    pytest.importorskip("pillow_heif")
    table, problems = read(tmp_path, "image,tags\na.HEIC,dog\nb,dog\n", "a.HEIC b.heif")
    assert not problems
    assert tags_of(table) == {"a": ("dog",), "b": ("dog",)}


# ------------------------------------------------------------------------------------------- problems of the files


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "tags.csv: is empty. Start it with the line `image,tags`"),
        (" \n\n", "tags.csv: is empty"),
        (",,,\n;;;", "tags.csv: its first line ';;;' has only one column"),
        (",,,\n\t\t", "tags.csv: is empty"),
        ("image,tags\n", "tags.csv: holds no rows. Start it"),
        ("image\na.jpg\n", "tags.csv: its first line 'image' has only one column. Start"),
        ("a.jpg dog\n", "has only one column"),
        (b"image,tags\na.jpg,d\0g\n", "tags.csv: is not a text file. Save it as text in UTF-8"),
        (b"\x89PNG\r\n\x1a\n\0\0\0", "is not a text file"),
        (b"\xff\xfea", "is not a text file"),
        ("image,tags\na.jpg,dog,cat\n", "line 2: has 3 cells, but the first line has 2. Separate tags by ';'"),
        ("x" * 200_000, "tags.csv, line 1: is not CSV (field larger"),
        ("image,cat,dog\na.jpg,1\n", "line 2: has 2 cells, but the first line has 3"),
        (
            "image,cat,dog\na.jpg,1,maybe\n",
            "line 2: column 'dog' holds 'maybe', neither 0 nor 1. If each column",
        ),
        ("image,cat,cat\na.jpg,1,1\n", "column 'cat' occurs twice. Remove"),
        ("image,\na.jpg,\n", "its header 'image, ' has no column of tags"),
        ("image,tags\n,dog\n", "line 2: names no image. Add"),
        (
            'image,tags\na.jpg,"' + "x" * 200_000,
            "is not CSV (field larger than field limit (131072)). Look for a quote",
        ),
    ],
)
def test_bad_csv(tmp_path: Path, content: str | bytes, message: str) -> None:
    _, problems = read(tmp_path, content)
    assert any(message in text for text in fatal(problems)), problems


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "tags.json: is not JSON (Expecting property name"),
        ("", "tags.json: is not JSON (Expecting value"),
        ("[" * 100_000, "tags.json: is not JSON ("),
        ("9" * 10_000, "tags.json: is not JSON ("),
        ("3", "tags.json: holds int, neither a map nor a list. Write"),
        ("[]", "tags.json: holds no rows"),
        ("{}", "tags.json: holds no rows"),
        ('["a.jpg"]', "tags.json, entry 1: names no image ('None'). Write"),
        ('[{"image": 3, "tags": []}]', "entry 1: names no image ('3')"),
        ('{"a": 3}', "entry 1: the tags of 'a' are '3'"),
        ('{"a": [["dog"]]}', "entry 1: the tags of 'a' are '[['dog']]'"),
    ],
)
def test_bad_json(tmp_path: Path, content: str, message: str) -> None:
    _, problems = read(tmp_path, content, file="tags.json")
    assert any(message in text for text in fatal(problems)), problems


@pytest.mark.parametrize("suffix", ["csv", "json", "txt"])
@pytest.mark.parametrize("seed", range(25))
def test_garbage_gives_problems_only(tmp_path: Path, suffix: str, seed: int) -> None:
    rng = random.Random(seed)
    alphabet = [bytes(range(256)), bytes(range(1, 128)), b'a,;\t"\n\r .jpgimagetags01\xe9', b'[]{}":,\\ua1.\n'][
        seed % 4
    ]
    garbage = bytes(rng.choices(alphabet, k=rng.randrange(1, 3000)))
    start = rng.choice([b"", b"image,tags\n", b"image,dog,cat\n", b"a.jpg,dog\n"])
    lists = {TRAIN: write(tmp_path / "train.txt", garbage), "val": write(tmp_path / "val.txt", garbage[::-1])}
    for config in ({}, {"splits": lists, "classes": lists[TRAIN]}, {"split_column": "tags"}):
        table, problems = read(tmp_path, start + garbage, file=f"tags.{suffix}", **config)
        assert fatal(problems) or table is not None
        for problem in problems:
            assert problem.file
            assert problem.value
            assert problem.cure
            str(problem).encode()
            assert "\n" not in str(problem)


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


def test_folder_without_images(tmp_path: Path) -> None:
    table, problems = read(tmp_path, PETS_CSV, [])
    assert table is None
    assert "images: no image in this folder. Give a folder with images (bmp, gif, jfif," in only(problems)


def test_splits_beside_other_folders(tmp_path: Path) -> None:
    """Else the splits would become classes."""
    names = ["train/fox/a", "train/cat/b", "val/fox/c", "extra/d"]
    _, problems = read(tmp_path, None, names)
    assert "'train' holds folders of classes and looks like a split, but beside it is 'extra'. Move" in only(problems)
    table, problems = read(tmp_path / "b", None, ["test/a", "fox/day/b"])  # a class may be called so
    assert table is not None and table.classes == ("fox", "test") and not fatal(problems)


def test_a_class_that_no_training_image_shows(tmp_path: Path) -> None:
    classes = write(tmp_path / "classes.txt", "cat\ndog\nyak\n")
    _, problems = read(tmp_path, PETS_CSV, classes=classes)
    assert "class 'yak' has 0 training images, fewer than 1" in only(problems)
    table, problems = read(tmp_path, PETS_CSV, classes=classes, min_images=0)
    assert table is not None and table.classes == ("cat", "dog", "yak") and not fatal(problems)


# --------------------------------------------------------------------------------------------------------- classes


def test_class_names(tmp_path: Path) -> None:
    assert class_names(write(tmp_path / "a", "background\n dog \ncat\n\n")) == ["dog", "cat"]
    assert class_names(write(tmp_path / "b", "dog\r\nhot  dog")) == ["dog", "hot dog"]
    for content, message in {
        "": "holds no class name. Write",
        "background": "holds no class name",
        "dog\n\ncat": "b, line 2: an empty line, but each line is a class id",
        "dog\nbackground": "b, line 2: the name 'background' is reserved",
        "dog\ndog": "b, line 2: class 'dog' occurs twice",
        b"\0": "is not a text file",
    }.items():
        with pytest.raises(CianError) as caught:
            class_names(write(tmp_path / "b", content))
        assert message in str(caught.value)


def test_classes_file_sets_the_order(tmp_path: Path) -> None:
    classes = write(tmp_path / "classes.txt", "background\ndog\ncat\n")
    table, problems = read(tmp_path, PETS_CSV, classes=classes)
    assert not problems
    assert table is not None
    assert table.class_names == ("background", "dog", "cat")
    assert table.tags(0).tolist() == [1]


def test_tags_outside_the_classes(tmp_path: Path) -> None:
    classes = write(tmp_path / "classes.txt", "dog\ncat\n")
    table, problems = read(
        tmp_path, PETS_CSV + "a,cta\nb,DOG\nb,yak\n".replace("a,", "e,"), "a b c d e", classes=classes
    )
    text = "\n".join(fatal(problems))
    assert f"tags.csv, line 6: tag 'cta' is not in {classes} (did you mean 'cat'?). Correct the tag, or add" in text
    table, problems = read(tmp_path, PETS_CSV + "e,DOG\nf,yak\nf,Background\n", "a b c d e f", classes=classes)
    text = "\n".join(fatal(problems))
    assert "(did you mean 'dog'?)" in text
    assert f"line 7: tag 'yak' is not in {classes}. Correct" in text
    assert "line 8: 'f' had other tags before ('yak', now 'Background')" in text
    assert table is not None
    assert table.classes == ("dog", "cat")
    _, problems = read(tmp_path, PETS_CSV + "e,Background\n", "a b c d e", classes=classes)
    assert "line 6: the name 'Background' is reserved for class id 0" in only(problems)


# ---------------------------------------------------------------------------------------------------------- splits


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
    assert "val.txt, line 2: 'b' is in split train too. Keep" in text
    assert "test.txt: no such file. Give" in text
    assert f"new.jpg: listed for training, but has no tags. Add it to {tmp_path / 'tags.csv'}" in text


def test_no_training_images(tmp_path: Path) -> None:
    table, problems = read(tmp_path, PETS_CSV, splits={"val": write(tmp_path / "val.txt", "a\nb\n")})
    assert table is not None
    assert "tags.csv: no image in split train (splits: val). Give its list too: --split train=FILE" in only(problems)


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


def test_split_column(tmp_path: Path) -> None:
    rows = "image,Fold,tags\na,train,dog\nb, train ,cat\nc,held out,dog\nd,held out,\n"
    table, problems = read(tmp_path, rows, split_column="fold")
    assert not problems
    assert splits_of(table) == {"a": "train", "b": "train", "c": "held out", "d": "held out"}
    assert tags_of(table)["d"] is None
    table, problems = read(
        tmp_path, "image,fold,dog\na,train,1\nb,val,0\n", "a b", split_column="fold", untagged="negative"
    )
    assert not problems
    assert tags_of(table) == {"a": ("dog",), "b": ()}
    rows_json = [{"image": "a", "tags": "dog", "fold": "train"}, {"image": "b", "tags": "dog", "fold": "val"}]
    table, problems = read(tmp_path, rows_json, "a b", "tags.json", split_column="fold")
    assert splits_of(table) == {"a": "train", "b": "val"}


def test_problems_of_the_split_column(tmp_path: Path) -> None:
    _, problems = read(tmp_path, PETS_CSV, split_column="fold")
    assert "tags.csv: has no column 'fold' (its columns: 'image, tags'). Correct data.split_column" in only(problems)
    _, problems = read(tmp_path, PETS_CSV.removeprefix("image,tags\n"), split_column="fold")
    assert "tags.csv: has no header, so no column 'fold'. Add" in only(problems)
    rows = "image,tag,fold\na,dog,train\na,cat,val\nb,dog,\n"
    _, problems = read(tmp_path, rows, "a b", split_column="fold")
    text = "\n".join(fatal(problems))
    assert "line 3: 'a' is in split 'train' too. Keep" in text
    assert "line 4: 'b' has no split. Write" in text
    _, problems = read(tmp_path, {"a": "dog"}, "a", "tags.json", split_column="fold")
    assert "is a map, so it has no column 'fold'" in only(problems)
    _, problems = read(tmp_path, [{"image": "a", "tags": "dog"}], "a", "tags.json", split_column="fold")
    assert "entry 1: 'a' has no 'fold'" in fatal(problems)[0]


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


# ----------------------------------------------------------------------------------------------------------- masks


def test_masks(tmp_path: Path) -> None:
    names = ["a", "x/b", "y/c", "d", "y/e", "f"]
    there = ["a.png", "x/b.PNG", "c.png", "other.png", "d.jpg", "deep/y/e.png", "deep/f.png"]
    assert masks_of(tmp_path, names, there) == {
        "a": "a.png", "d": None, "f": "deep/f.png", "x/b": "x/b.PNG", "y/c": "c.png", "y/e": "deep/y/e.png",
    }  # fmt: skip


def test_masks_of_images_that_are_called_alike(tmp_path: Path) -> None:
    names = ["fox/1", "rabbit/1"]
    assert masks_of(tmp_path, names, ["rabbit/1.png"]) == {"fox/1": None, "rabbit/1": "rabbit/1.png"}
    assert masks_of(tmp_path, names, ["rabbit/1.png", "1.png"]) == {"fox/1": "1.png", "rabbit/1": "rabbit/1.png"}
    assert masks_of(tmp_path, ["1", "fox/1"], ["fox/1.png"]) == {"1": None, "fox/1": "fox/1.png"}
    deeper = masks_of(tmp_path, ["1", *names], ["m/fox/1.png", "m/rabbit/1.png", "1.png"])
    assert deeper == {"1": "1.png", "fox/1": "m/fox/1.png", "rabbit/1": "m/rabbit/1.png"}
    longest = masks_of(tmp_path, ["a/fox/1"], ["1.png", "fox/1.png", "b/fox/1.png"])
    assert longest == {"a/fox/1": "fox/1.png"}


def test_masks_of_another_folder_are_of_another_image(tmp_path: Path) -> None:
    masks = images(tmp_path / "masks", ["rabbit/1.png", "xfox/2.png"])
    table, problems = read(tmp_path, None, ["fox/1", "fox/2"], masks=masks)
    assert table is not None and not any(table.masks)
    assert "masks: no mask fits any image. Store masks as ID.png, e.g. fox/1.png" in only(problems)


def test_masks_in_several_folders(tmp_path: Path) -> None:
    first, second = images(tmp_path / "m", ["1.png"]), images(tmp_path / "n", ["fox/1.png", "rabbit/1.png"])
    table, problems = read(tmp_path, None, ["fox/1"], masks=(first, second))
    assert not problems
    assert table is not None and table.masks == (first / "1.png",)
    table, problems = read(tmp_path, None, ["fox/1", "rabbit/1"], masks=(second, first))
    assert "1 image seems" in only(problems, is_fatal=False) and not fatal(problems)
    assert table is not None and table.masks == (second / "fox" / "1.png", second / "rabbit" / "1.png")


def test_problems_of_masks(tmp_path: Path) -> None:
    rows = "image,tags\nx/a,dog\ny/a,dog\nb,dog\n"
    names = ["x/a", "y/a", "b"]
    masks = images(tmp_path / "masks", ["a.png", "p/b.png", "q/b.png"])
    _, problems = read(tmp_path, rows, names, masks=masks)
    text = "\n".join(fatal(problems))
    assert "a.png: fits the images x/a and y/a. Store masks as ID.png" in text
    assert "masks: several masks fit image 'b'. Keep the one at ID.png" in text
    _, problems = read(tmp_path, rows, names, masks=images(tmp_path / "empty", ["z.png"]))
    assert "empty: no mask fits any image. Store masks as ID.png, e.g. b.png" in only(problems)


# ----------------------------------------------------------------------------------------------------------- scale


def test_problems_of_one_kind_are_counted_after_a_thousand(tmp_path: Path) -> None:
    rows = "image,tags\na,dog\n" + "".join(f"missing{i},dog\n" for i in range(5000))
    _, problems = read(tmp_path, rows, "a")
    assert len(problems) == ProblemList.MOST + 1
    assert problems[0].value == "there is no image 'missing0'"
    assert problems[-1].value == "… and 4000 more problems of this kind"
    assert all(problem.fatal for problem in problems)


def test_time_is_linear(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def seconds(count: int) -> float:
        """The least of three, of this process alone, so that neither its neighbours nor its garbage count."""
        files = [tmp_path / "images" / f"{i:07}.jpg" for i in range(count)]
        monkeypatch.setattr(file_index, "find_pictures", lambda folder: (files, []))
        tags = write(
            tmp_path / "tags.csv", "image,tags\n" + "".join(f"{i:07}.jpg,c{i % 20};c{i % 7}\n" for i in range(count))
        )
        taken = []
        for _ in range(3):
            gc.collect()
            gc.disable()
            start = time.process_time()
            table, problems = read_dataset(DataConfig(images=tmp_path / "images", tags=tags, val_fraction=0.1), seed=0)
            taken.append(time.process_time() - start)
            gc.enable()
            assert table is not None
            assert len(table) == count
            assert not problems
        return min(taken)

    assert seconds(30_000) < 40 * seconds(3000)  # quadratic would be 100 times


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


def test_paths_of_another_machine(tmp_path: Path) -> None:
    """What ends in the path of an image here is that image; one of the same name in another folder is not."""
    for name in ("C:\\Users\\me\\photos\\a.jpg", "../media/upload/1/a.jpg", "images/a.jpg", "/data/images/a"):
        table, problems = read(tmp_path, f"image,tags\n{name},dog\nb,cat\n", "a b")
        assert tags_of(table) == {"a": ("dog",), "b": ("cat",)} and not fatal(problems), name
    _, problems = read(tmp_path / "d", "image,tags\ntrain/a.jpg,dog\n", ["val/a"])
    assert any("there is no image 'train/a.jpg'" in text for text in fatal(problems))


def test_masks_among_the_pictures(tmp_path: Path) -> None:
    folder = images(tmp_path / "images", ["fox/1"])
    masks = images(folder / "masks", ["fox/1.png"])
    table, problems = read_dataset(DataConfig(images=folder, masks=masks, min_images=1), seed=0)
    assert not fatal(problems) and table is not None
    assert table.ids == ("fox/1",) and table.classes == ("fox",) and table.masks == (masks / "fox/1.png",)


def test_pictures_of_no_class_beside_class_folders(tmp_path: Path) -> None:
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


def test_unused_columns_are_said(tmp_path: Path) -> None:
    for name, content in (
        ("tags.csv", "image,tags,split\na,dog,train\nb,cat,val\n"),
        (
            "tags.json",
            '[{"image": "a", "tags": ["dog"], "split": "train"}, {"image": "b", "tags": ["cat"], "split": "val"}]',
        ),
    ):
        folder = images(tmp_path / "images", "a b")
        _, problems = read_dataset(
            DataConfig(images=folder, tags=write(tmp_path / name, content), min_images=1), seed=0
        )
        (note,) = [str(problem) for problem in problems]
        assert f"{name}: these columns are not used: 'split'. If one of them says which images are held out" in note
