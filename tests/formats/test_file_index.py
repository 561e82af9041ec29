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


def test_folder_without_images(tmp_path: Path) -> None:
    table, problems = read(tmp_path, PETS_CSV, [])
    assert table is None
    assert "images: no image in this folder. Give a folder with images (bmp, gif, jfif," in only(problems)
