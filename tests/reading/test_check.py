"""`check_dataset` opens every file and finds what would stop a run or make it worse. The summary counts images."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from cian.config import DataConfig
from cian.data.images import limit_pixels
from cian.data.known_files import KnownFiles
from cian.data.masks import fits, write_mask
from cian.data.summary import often_together, summary, summary_data
from cian.data.table import Table
from cian.errors import DataError, Problem
from cian.reading import advice
from cian.reading.check import check_dataset


@pytest.fixture
def dataset(tmp_path: Path) -> DataConfig:
    """Four sound images of 40 x 30 pixels with masks, two of each class."""
    (tmp_path / "images").mkdir()
    for name, class_id in zip("abcd", (2, 2, 1, 1), strict=True):
        Image.new("RGB", (40, 30)).save(tmp_path / "images" / f"{name}.jpg")
        write_mask(tmp_path / "masks" / f"{name}.png", np.full((30, 40), class_id, np.uint8))
    (tmp_path / "tags.csv").write_text("image,tags\na,dog\nb,dog\nc,cat\nd,cat\n")
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    return DataConfig(
        images=tmp_path / "images",
        tags=tmp_path / "tags.csv",
        masks=tmp_path / "masks",
        classes=tmp_path / "classes.txt",
    )


def texts(config: DataConfig, is_fatal: bool = True) -> list[str]:
    return [str(problem) for problem in check_dataset(config, 0)[1] if problem.fatal == is_fatal]


def test_sound_data(dataset: DataConfig) -> None:
    calls: list[tuple[int, int]] = []
    table, problems = check_dataset(dataset, 0, progress=lambda *call: calls.append(call))
    assert not any(problem.fatal for problem in problems)
    assert table is not None
    assert len(table) == 4
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_truncated_image(dataset: DataConfig, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (30, 40, 3), np.uint8)
    path = tmp_path / "images" / "b.jpg"
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:900])
    (text,) = texts(dataset)
    assert text.startswith(f"{path}: damaged (")
    assert text.endswith("Replace it by an intact copy, or remove it")


def test_all_problems_at_once(dataset: DataConfig, tmp_path: Path) -> None:
    (tmp_path / "images" / "a.jpg").write_bytes(b"no image")
    Image.new("RGB", (100, 15)).save(tmp_path / "images" / "b.jpg")
    write_mask(tmp_path / "masks" / "b.png", np.zeros((15, 100), np.uint8))
    write_mask(tmp_path / "masks" / "c.png", np.zeros((30, 50), np.uint8))
    (tmp_path / "masks" / "d.png").write_bytes(b"no mask")
    with (tmp_path / "tags.csv").open("a") as file:
        file.write("missing,dog\n")
    found = "\n".join(texts(dataset))
    assert found.count("\n") == 4
    for part in (
        "a.jpg: not an image that can be read",
        "b.jpg: 100 x 15 pixels. Give images of at least 16 x 16 pixels",
        "c.png: the mask has 50 x 30 pixels, its image 40 x 30. Give a mask of the image's size",
        "d.png: not an image",
        "there is no image 'missing'",
    ):
        assert part in found


def test_class_ids_in_masks(dataset: DataConfig, tmp_path: Path) -> None:
    write_mask(
        tmp_path / "masks" / "a.png", np.repeat([[0, 1, 2, 255]], 30, axis=0).repeat(10, axis=1).astype(np.uint8)
    )
    assert not texts(dataset)
    write_mask(tmp_path / "masks" / "b.png", np.arange(1200, dtype=np.uint16).reshape(30, 40).astype(np.uint8))
    write_mask(tmp_path / "masks" / "c.png", np.full((30, 40), 3, np.uint8))
    first, second = texts(dataset)
    assert "b.png: holds the values 3, 4, 5, 6, 7, …, but class ids are 0 to 2, and 255 is ignore. Correct" in first
    assert "c.png: holds the values 3, but" in second


def test_held_out_images_without_masks(dataset: DataConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(advice, "_FEW", 0)
    (tmp_path / "tags.csv").write_text("image,tags,fold\na,dog,train\nb,dog,val\nc,cat,train\nd,cat,train\n")
    split = dataset.model_copy(update={"split_column": "fold", "min_images": 1})
    assert not texts(split, is_fatal=False)
    (tmp_path / "masks" / "b.png").unlink()
    assert texts(split, is_fatal=False) == [
        "data: no held-out image has a mask, so no score shows how good the model is on new images. "
        "Name images with masks in --split val=FILE, or draw masks for held-out images"
    ]
    assert texts(dataset, is_fatal=False) == [
        f"{tmp_path / 'tags.csv'}: these columns are not used: 'fold'. "
        "If one of them says which images are held out, name it with data.split_column"
    ]
    assert not texts(split.model_copy(update={"masks": None}), is_fatal=False)


def test_masks_of_0_and_255(dataset: DataConfig, tmp_path: Path) -> None:
    def draw(names: str, *ids: int) -> None:
        for name in names:
            write_mask(tmp_path / "masks" / f"{name}.png", np.resize(np.array(ids, np.uint8), (30, 40)))

    draw("abcd", 0, 255)
    (text,) = texts(dataset)
    assert text == (
        f"{tmp_path / 'masks' / 'a.png'}: holds 255, which is ignored, but no mask holds a class id from 1 up. "
        "Write the class's id where an object is, e.g. 1 instead of 255"
    )
    draw("d", 0, 1, 255)
    assert not texts(dataset)
    draw("abcd", 0)  # they show nothing
    assert not texts(dataset)


def test_classes_that_no_mask_holds(dataset: DataConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(advice, "_FEW", 0)
    for name in "ab":
        write_mask(tmp_path / "masks" / f"{name}.png", np.ones((30, 40), np.uint8))
    assert texts(dataset, is_fatal=False) == [
        "data: tags that appear in no mask of their images: dog. "
        "Correct the masks, the order of the classes (--classes) or the tags",
        f"data: 2 of 4 masks show a class that their image is not tagged with, e.g. {tmp_path / 'masks' / 'a.png'}. "
        "Correct the order of the classes (--classes), the masks or the tags",
    ]
    for name in "ab":  # its images have no masks
        (tmp_path / "masks" / f"{name}.png").unlink()
    assert not texts(dataset, is_fatal=False)


def test_turned_image(dataset: DataConfig, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 30)).save(tmp_path / "images" / "a.jpg", exif=exif)
    (text,) = texts(dataset)
    assert "a.png: the mask has 40 x 30 pixels, its image 30 x 40." in text
    assert "width and height are swapped" in text


def test_an_image_of_several_pages_is_noted(dataset: DataConfig, tmp_path: Path) -> None:
    (tmp_path / "images" / "a.jpg").unlink()
    pages = [Image.new("RGB", (40, 30)) for _ in range(2)]
    pages[0].save(tmp_path / "images" / "a.tif", save_all=True, append_images=pages[1:])
    (text,) = [text for text in texts(dataset, is_fatal=False) if "pages" in text]
    folder = tmp_path / "images"
    assert text.startswith(f"{folder}: 1 image (a.tif) of several frames or pages, of which the first is read. Save")


def test_images_and_masks_over_the_limit(dataset: DataConfig, tmp_path: Path) -> None:
    record = KnownFiles(tmp_path / "record")
    assert not [problem for problem in check_dataset(dataset, 0, known=record)[1] if problem.fatal]
    record.save()
    low = dataset.model_copy(update={"max_megapixels": 0.001})
    try:
        for known in (None, KnownFiles(tmp_path / "record")):  # files that are known are not read again
            found = [str(problem) for problem in check_dataset(low, 0, known=known)[1] if problem.fatal]
            assert len(found) == 8
            assert all("40 x 30 pixels, over the limit of 0.001 megapixels" in text for text in found)
    finally:
        limit_pixels(100)


def test_without_a_table(tmp_path: Path) -> None:
    table, problems = check_dataset(DataConfig(images=tmp_path / "none"), 0)
    assert table is None
    assert "none: no such folder" in str(problems[0])


def test_few_training_images(dataset: DataConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    assert texts(dataset, is_fatal=False) == [
        "data: few training images: cat 2, dog 2. A few dozen images per class give better masks"
    ]
    monkeypatch.setattr(advice, "_FEW", 2)
    assert not texts(dataset, is_fatal=False)


def test_masks_without_classes(dataset: DataConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(advice, "_FEW", 0)
    alphabetical = dataset.model_copy(update={"classes": None})
    assert texts(alphabetical, is_fatal=False) == [
        "settings: no data.classes (--classes): the ids in masks are taken as 1 = cat, 2 = dog. "
        "Give --classes if the masks have another order"
    ]
    assert not texts(alphabetical.model_copy(update={"masks": None}), is_fatal=False)
    assert not texts(dataset, is_fatal=False)


def test_fits() -> None:
    for height in range(60, 501, 17):
        for width in range(60, 501, 13):
            scale = 320 / max(height, width)
            if scale < 1:
                assert fits((height, width), (round(height * scale), round(width * scale)))
                assert fits((height, width), (int(height * scale), int(width * scale)))
    assert fits((500, 500), (500, 500))
    assert not fits((375, 500), (320, 240))  # turned
    assert not fits((500, 500), (320, 300))
    assert not fits((150, 200), (300, 400))  # smaller than its image
    assert not fits((375, 510), (375, 500))


def _table(num_classes: int = 3) -> Table:
    names = ["[bold]"] + [f"class {i}" for i in range(1, num_classes)]
    tags = [[1], [1, 2], [1, 2, 3], [], None, [3]]
    splits = ["val", "train", "train", "train", "val", "test"]
    masks = [Path("m.png"), None, None, None, Path("n.png"), None]
    ids = [str(i) for i in range(6)]
    return Table.build(names, ids, [Path(f"{i}.jpg") for i in ids], tags, splits, masks)


def _printed(table: Table) -> str:
    file = StringIO()
    Console(width=80, file=file).print(summary(table))
    return file.getvalue()


def test_summary_data() -> None:
    assert summary_data(_table()) == {
        "classes": ["[bold]", "class 1", "class 2"],
        "images": {"train": 3, "val": 2, "test": 1},
        "empty": {"train": 1, "val": 0, "test": 0},
        "untagged": {"train": 0, "val": 1, "test": 0},
        "masks": {"train": 0, "val": 2, "test": 0},
        "counts": {"train": [2, 2, 1], "val": [1, 0, 0], "test": [0, 0, 1]},
        "co_occurrence": [[3, 2, 1], [2, 2, 1], [1, 1, 2]],
    }


def test_classes_that_are_often_together() -> None:
    """1 and 2: together in 4 images, apart in 3. 3 and 4: in 2 and 2. No image shows 5."""
    tags = [*[[1, 2]] * 4, [1], [2], [2], *[[3, 4]] * 2, [3], [4]]
    names = [str(i) for i in range(len(tags))]
    found = often_together(Table.build("abcde", names, [Path(name) for name in names], tags))
    pairs = {(0, 1), (1, 0), *((i, i) for i in range(4))}
    assert set(zip(*(indices.tolist() for indices in np.nonzero(found)), strict=True)) == pairs


def test_summary_data_is_that_of_the_multi_hot_matrix() -> None:
    rng = np.random.default_rng(0)
    hot = rng.random((50, 6)) < 0.3
    tags = [(np.flatnonzero(row) + 1).tolist() for row in hot]
    ids = [str(i) for i in range(50)]
    table = Table.build([f"c{i}" for i in range(6)], ids, [Path(i) for i in ids], tags)
    assert summary_data(table)["co_occurrence"] == (hot.astype(int).T @ hot.astype(int)).tolist()
    assert summary_data(table)["counts"] == {"train": hot.sum(axis=0).tolist()}


def test_summary() -> None:
    text = _printed(_table())
    assert "[bold]" in text
    rows = [line.replace("│", " ").replace("┃", " ").split() for line in text.splitlines()]
    assert ["Images", "per", "class"] in rows
    assert ["Images", "that", "show", "both", "classes,", "by", "id"] in rows
    assert ["id", "class", "train", "val", "test"] in rows
    assert ["1", "[bold]", "2", "1", "0"] in rows
    assert ["no", "class", "1", "0", "0"] in rows
    assert ["untagged", "0", "1", "0"] in rows
    assert ["1", "3", "2", "1"] in rows  # co-occurrence


def test_summary_of_many_classes() -> None:
    text = _printed(_table(num_classes=30))
    assert "The 20 most frequent pairs of classes\n" in text
    rows = [line.replace("│", " ").split() for line in text.splitlines()]
    assert ["[bold]", "+", "class", "1", "2"] in rows
    assert sum("+" in row for row in rows) == 3


def test_summary_of_an_empty_table() -> None:
    table = Table.build(["dog"], [], [], [])
    assert summary_data(table)["co_occurrence"] == [[0]]
    assert "dog" in _printed(table)


def test_problems_that_are_alike_are_shown_as_one() -> None:
    alike = [Problem(f"masks/{i}.png", f"colour ({i}, 0, 0)", "Save ids") for i in range(20)]
    other = [Problem("a.jpg", "damaged", "Replace it"), Problem("b.jpg", "damaged", "Replace it")]
    error = DataError(alike + other)
    assert error.problems == alike + other
    names = "; ".join(f"{i}.png" for i in range(1, 20))
    assert str(error).splitlines() == [
        "22 problems in the data:",
        "  - masks/0.png: colour (0, 0, 0). Save ids",
        f"    … and 19 more like it: {names}",
        "  - a.jpg: damaged. Replace it",
        "  - b.jpg: damaged. Replace it",
    ]
    assert str(DataError(other + alike, shown=1)).endswith("  … and 21 more; `cian check` shows them too.")
    assert str(DataError(alike * 2)).count(".png") == 21
    assert str(DataError(other[:1])).startswith("1 problem in the data:\n")
    lines = [Problem(f"tags.csv, line {i}", f"there is no image '{i}'", "Correct") for i in range(2, 7)]
    assert str(DataError(lines)).endswith("    … and 4 more like it: tags.csv, line 3, 4, 5, 6")


def test_every_problem_says_file_value_and_cure() -> None:
    assert str(Problem("a.csv", "value", "Cure")) == "a.csv: value. Cure"


def test_what_tags_cannot_tell_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(advice, "_FEW", 0)
    (tmp_path / "images").mkdir()
    for name in "abcd":
        Image.new("RGB", (40, 30)).save(tmp_path / "images" / f"{name}.jpg")

    def notes(rows: str) -> list[str]:
        (tmp_path / "tags.csv").write_text("image,tags\n" + rows)
        config = DataConfig(images=tmp_path / "images", tags=tmp_path / "tags.csv", untagged="negative")
        return texts(config, is_fatal=False)

    assert not notes("a,dog\nb,dog;cat\nc,cat\nd,\n") and not notes("a,dog\nb,dog\nc,dog\nd,\n")
    (note,) = notes("a,dog\nb,dog;cat\nc,dog;cat\nd,dog\n")
    assert "every training image shows dog, so nothing tells it from its surroundings" in note
    (note,) = notes("a,dog;cat\nb,dog;cat\nc,yak\nd,yak\n")
    assert "always in the same training images: cat and dog, so nothing tells one from the other" in note
    (note,) = notes("a,dog\nb,dog;cat\nc,dog;cat\nd,\n")
    assert "tags hardly tell classes apart: cat is tagged without dog in 0 of its 2 images. Add images of each" in note


def test_a_class_that_is_nearly_always_beside_another(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for i in range(70):
        Image.new("RGB", (20, 20)).save(tmp_path / "images" / f"{i:02}.bmp")

    def told_apart(tags: Sequence[str]) -> bool:
        rows = [f"{i:02},{tag}" for i, tag in enumerate(tags)]
        (tmp_path / "tags.csv").write_text("\n".join(["image,tags", *rows]))
        found = texts(DataConfig(images=tmp_path / "images", tags=tmp_path / "tags.csv"), is_fatal=False)
        return not any("face is tagged without body" in note for note in found)

    assert not told_apart(["body;face"] * 37 + ["face"] * 3 + ["body"] * 10 + ["dog"] * 20)  # 3 in 40
    assert told_apart(["body;face"] * 35 + ["face"] * 5 + ["body"] * 10 + ["dog"] * 20)  # 5 in 40


def test_ids_in_masks_follow_dropped_and_merged_classes(tmp_path: Path, dataset: DataConfig) -> None:
    """Masks keep the ids of the file of classes. Dropped classes count as 255, merged ones as their new class."""
    write_mask(tmp_path / "masks" / "c.png", np.repeat([[1, 2, 2, 2]], 30, axis=0).repeat(10, axis=1).astype(np.uint8))
    dropped = dataset.model_copy(update={"drop": ("dog",), "labels": dataset.masks})
    table, _ = check_dataset(dropped, 0)
    assert table is not None and table.ids == ("c", "d") and table.whole.tolist() == [False, True]
    write_mask(tmp_path / "masks" / "c.png", np.full((30, 40), 3, np.uint8))
    assert texts(dropped) == [
        f"{tmp_path / 'masks' / 'c.png'}: holds the values 3, but class ids are 0 to 2, and 255 is ignore. "
        "Correct the mask, or give all classes in data.classes"
    ]
    write_mask(tmp_path / "masks" / "c.png", np.full((30, 40), 1, np.uint8))
    merged = dataset.model_copy(update={"merge": {"dog": "cat"}, "labels": dataset.masks})
    table, problems = check_dataset(merged, 0)
    assert table is not None and table.classes == ("cat",) and table.whole.all()
    assert not any("masks show a class" in str(problem) or "label maps with" in str(problem) for problem in problems)
    notes = texts(dropped.model_copy(update={"classes": None}), is_fatal=False)
    assert any("the ids in masks are taken as 1 = cat, 2 = dropped. Give --classes" in note for note in notes)


def test_label_maps_that_contradict_tags(tmp_path: Path, dataset: DataConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(advice, "_FEW", 0)
    write_mask(tmp_path / "labels" / "a.png", np.ones((30, 40), np.uint8))
    given = dataset.model_copy(update={"labels": tmp_path / "labels"})
    assert texts(given, is_fatal=False) == [
        f"data: label maps with a class that their image is not tagged with: {tmp_path / 'labels' / 'a.png'} "
        "(cat). The label maps are used as they are. Correct them, or add the tags"
    ]


def test_the_summary_says_what_the_tags_are(dataset: DataConfig) -> None:
    table, _ = check_dataset(dataset, 0)
    assert table is not None
    assert table.source == f"{dataset.tags} (CSV, a row for each image)"
    assert table.select([0]).source == table.source
    assert "(CSV, a row for each image)" in " ".join(_printed(table).split())


def test_checking_data_imports_no_torch() -> None:
    code = "import sys, cian.reading.check, cian.formats.coco_masks; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
