"""Files are found by every name that users give them."""

from __future__ import annotations

from pathlib import Path

import pytest

from cian.data import images as image_files
from tests.formats.helpers import PETS_CSV, fatal, only, read, tags_of


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


def test_paths_of_another_machine(tmp_path: Path) -> None:
    """What ends in the path of an image here is that image; one of the same name in another folder is not."""
    for name in ("C:\\Users\\me\\photos\\a.jpg", "../media/upload/1/a.jpg", "images/a.jpg", "/data/images/a"):
        table, problems = read(tmp_path, f"image,tags\n{name},dog\nb,cat\n", "a b")
        assert tags_of(table) == {"a": ("dog",), "b": ("cat",)} and not fatal(problems), name
    _, problems = read(tmp_path / "d", "image,tags\ntrain/a.jpg,dog\n", ["val/a"])
    assert any("there is no image 'train/a.jpg'" in text for text in fatal(problems))


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("Capture_d%C3%A9cran%201.jpg", "Capture_décran 1.jpg"),
        ("http://localhost:8080/data/upload/1/my%20photo%20%283%29.jpg?X-Amz-Date=1", "x/my photo (3).jpg"),
        ("s3://bucket/deep/a.jpg", "x/y/a.jpg"),
        ("/data/upload/4/cb0618f6-a+b 5.jpg", "a+b 5.jpg"),
        ("cb0618f6-my_photo_3.jpg", "my photo (3).jpg"),
        ("my photo.jpg", "cb0618f6-my photo.jpg"),
        ("/data/local-files/?d=photos/100%25_6.jpg", "100%_6.jpg"),
        ("..\\..\\media\\4\\a%20b.jpg", "a b.jpg"),
        ("my photo.jpg", "my%20photo.jpg"),
        ("IMG_1.JPG", "img_1.jpg"),
        ("X/Img_1", "x/IMG_1.jpg"),
        ("a.png", "a.jpg"),
        ("C:\\photos\\A.JPEG", "a.jpg"),
        ("1", "0001.jpg"),
        ("1.0", "x/0001.jpg"),
        ("0001.jpg", "1.jpg"),
    ],
)
def test_names_as_systems_and_programs_change_them(tmp_path: Path, name: str, file: str) -> None:
    table, problems = read(tmp_path, f'image,tags\n"{name}",dog\nother,cat\n', [file, "other"])
    assert tags_of(table) == {file.rpartition(".")[0]: ("dog",), "other": ("cat",)}
    assert f"1 name differs from that of the file: '{name}' is '{file}'. Correct" in only(problems, is_fatal=False)


def test_a_name_that_fits_several_files_is_not_guessed(tmp_path: Path) -> None:
    _, problems = read(tmp_path, "image,tags\nA.JPG,dog\nother,cat\n", ["x/a", "y/a", "other"])
    assert "several images are called 'A.JPG'. Write its folder" in fatal(problems)[0]
    table, problems = read(tmp_path, "image,tags\na,dog\nA,cat\n", ["a", "A"])
    assert not problems and tags_of(table) == {"a": ("dog",), "A": ("cat",)}
    _, problems = read(tmp_path, "image,tags\ncb0618f6-a.jpg,dog\nother,cat\n", ["20240101-a", "other"])
    assert "there is no image 'cb0618f6-a.jpg'. Correct the name or remove the line" in fatal(problems)[0]


def test_the_nearest_name(tmp_path: Path) -> None:
    _, problems = read(tmp_path, "image,tags\nmy-photo 1.jpg,dog\nother,cat\n", ["x/my_photo_1", "other"])
    assert "there is no image 'my-photo 1.jpg', but 'x/my_photo_1.jpg' exists. Correct the name" in fatal(problems)[0]


def test_images_that_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    assert "line 6: 'b.heic' exists, but cian does not read .heic" in text
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


def test_folder_without_images(tmp_path: Path) -> None:
    table, problems = read(tmp_path, PETS_CSV, [])
    assert table is None
    assert "images: no image in this folder. Give a folder with images (JPEG, PNG, TIFF," in only(problems)
