"""The mask of each image is found by its name."""

from __future__ import annotations

import shutil
from pathlib import Path

from cian.config import DataConfig
from cian.data.problems import ProblemList
from cian.formats.mask_folders import find_masks
from cian.reading.read import read_dataset
from tests.formats.helpers import fatal, images, only, read


def masks_of(tmp_path: Path, names: list[str], there: list[str]) -> dict[str, str | None]:
    """The mask of each image, of those that are there."""
    shutil.rmtree(tmp_path / "masks", ignore_errors=True)
    masks = images(tmp_path / "masks", there)
    table, problems = read(tmp_path, "image,tags\n" + "".join(f"{name},dog\n" for name in names), names, masks=masks)
    assert not fatal(problems)
    assert table is not None
    return {
        name: mask and mask.relative_to(masks).as_posix() for name, mask in zip(table.ids, table.masks, strict=True)
    }


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
    _, problems = read(tmp_path, rows, names, masks=images(tmp_path / "others", ["b.jpg", "a.bmp"]))
    assert "others: holds no PNG file, but .bmp, .jpg. Store masks as ID.png, e.g. b.png. JPEG" in only(problems)


def test_masks_among_the_images(tmp_path: Path) -> None:
    folder = images(tmp_path / "images", ["fox/1"])
    masks = images(folder / "masks", ["fox/1.png"])
    table, problems = read_dataset(DataConfig(images=folder, masks=masks, min_images=1), seed=0)
    assert not fatal(problems) and table is not None
    assert table.ids == ("fox/1",) and table.classes == ("fox",) and table.masks == (masks / "fox/1.png",)


def test_masks_of_several_folders(tmp_path: Path) -> None:
    first, second = images(tmp_path / "first", "a.png"), images(tmp_path / "second", "a.png b.png")
    rows = "image,tags\na,dog\nb,dog\nc,dog\n"
    table, problems = read(tmp_path, rows, "a b c", masks=(first, second))
    assert not problems
    assert table is not None
    assert table.masks == (first / "a.png", second / "b.png", None)
    empty = images(tmp_path / "empty", "z.png")
    _, problems = read(tmp_path, rows, "a b c", masks=(empty, first))
    assert "first: 1 of 2 masks fit no image (z.png). Store masks as ID.png" in only(problems, is_fatal=False)
    _, problems = read(tmp_path, rows, "a b c", masks=(empty, tmp_path / "none"))
    text = "\n".join(fatal(problems))
    assert f"{empty}: no mask fits any image. Store" in text
    assert "none: no such folder" in text


def test_label_maps_that_fit_no_image(tmp_path: Path) -> None:
    _, problems = read(tmp_path, "image,tags\na,dog\n", "a", labels=images(tmp_path / "labels", ["z.png"]))
    assert "labels: no label map fits any image. Store label maps as ID.png, e.g. a.png" in only(problems)


def test_masks_that_fit_no_image_are_noted(tmp_path: Path) -> None:
    names = [f"{i}.png" for i in range(3)] + [f"{i}_object.png" for i in range(3, 24)]
    masks = images(tmp_path / "masks", names)
    ids = [str(i) for i in range(24)]
    problems = ProblemList()
    assert sum(mask is not None for mask in find_masks([masks], ids, problems)) == 3
    text = "masks: 21 of 24 masks fit no image (10_object.png, 11_object.png, 12_object.png, …). Store masks as ID.png"
    assert text in only(problems.all(), is_fatal=False)
    problems = ProblemList()
    masks = images(tmp_path / "all", [f"{i}.png" for i in range(24)])
    find_masks([masks], ids[:3], problems, known=ids)  # images that are not used have masks, too
    assert not problems.all()


def test_masks_that_programs_call_after_the_image(tmp_path: Path) -> None:
    for mask in ("a.jpg.png", "a_mask.png", "A-Mask.png", "mask_a.png", "x/a_gt.png", "a.jpg_seg.png", "A.png"):
        assert masks_of(tmp_path, ["a", "b"], [mask, "b.png"]) == {"a": mask, "b": "b.png"}
    scenes = masks_of(tmp_path, ["u/1_leftImg8bit", "u/2_leftImg8bit"], ["u/1_gtFine_labelTrainIds.png"])
    assert scenes == {"u/1_leftImg8bit": "u/1_gtFine_labelTrainIds.png", "u/2_leftImg8bit": None}
    masks = images(tmp_path / "m", ["a_mask.png", "a.jpg.png"])
    _, problems = read(tmp_path, "image,tags\na,dog\n", "a", masks=masks)
    assert "several masks fit image 'a'. Keep the one at ID.png" in "\n".join(fatal(problems))
