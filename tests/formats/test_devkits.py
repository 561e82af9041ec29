"""The devkits of PASCAL VOC (with SBD) and COCO, as they come."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from cian.config import DataConfig, dump_config, load_config
from cian.data.masks import write_mask
from cian.formats.class_names import class_names
from cian.formats.devkits import COCO_CLASSES
from cian.reading.read import read_dataset
from tests.formats.devkits import NAMES, TEST, coco_devkit, shown, truth, voc_devkit, xml
from tests.formats.helpers import fatal, images, only, splits_of, write
from tests.helpers import here


@pytest.fixture
def devkit(tmp_path: Path) -> DataConfig:
    return voc_devkit(tmp_path)


def texts(config: DataConfig) -> str:
    return "\n".join(fatal(read_dataset(config, 0)[1]))


def test_voc_devkit(devkit: DataConfig) -> None:
    table, problems = read_dataset(devkit, 0)
    assert not problems
    assert table is not None
    assert table.class_names == ("background", *NAMES)
    assert (len(NAMES), NAMES[0], NAMES[14], NAMES[19]) == (20, "aeroplane", "person", "tvmonitor")
    # (SBD train ∪ SBD val ∪ VOC train) − VOC val: without h, which SBD has in val
    assert splits_of(table) == {**dict.fromkeys("abcdefg", "train"), **dict.fromkeys("hij", "val"), "k": "test", "l": "test"}  # fmt: skip  # noqa: E501
    for i, name in enumerate(table.ids):
        assert table.tagged[i] == (name not in TEST)
        assert table.tags(i).tolist() == ([] if name in TEST else sorted(shown(name)))
    assert devkit.voc is not None and devkit.sbd is not None
    own, other = devkit.voc / "SegmentationClass", devkit.sbd / "cls"
    assert table.masks == (
        own / "a.png", own / "b.png", *(other / f"{name}.mat" for name in "cdefg"),
        *(own / f"{name}.png" for name in "hij"), None, None,
    )  # fmt: skip


@pytest.mark.parametrize("name", ["train_aug.txt", "trainaug.txt"])
def test_train_aug_as_listed(devkit: DataConfig, name: str) -> None:
    assert devkit.voc is not None
    lines = [f"/JPEGImages/{image}.jpg /SegmentationClassAug/{image}.png" for image in "abcf"]
    write(devkit.voc / "ImageSets" / "Segmentation" / name, "\n".join(lines))
    write(devkit.voc / "ImageSets" / "Segmentation" / "val.txt", "i 1\nj -1\n")
    write_mask(devkit.voc / "SegmentationClassAug" / "f.png", truth("f"))
    table, problems = read_dataset(devkit.model_copy(update={"classes": None, "sbd": None}), 0)
    assert splits_of(table) == {"a": "train", "b": "train", "c": "train", "f": "train", "i": "val", "j": "val", "k": "test", "l": "test"}  # fmt: skip  # noqa: E501
    assert table is not None
    masks = dict(zip(table.ids, table.masks, strict=True))
    assert masks["f"] == devkit.voc / "SegmentationClassAug" / "f.png"
    assert masks["c"] is None
    assert all("fewer than 1" in text for text in fatal(problems))  # four images do not show all twenty classes


def test_without_train_aug_and_sbd(devkit: DataConfig) -> None:
    table, problems = read_dataset(devkit.model_copy(update={"sbd": None}), 0)
    assert table is None
    assert devkit.voc is not None
    folder = devkit.voc / "ImageSets" / "Segmentation"
    assert only(problems) == (
        f"{folder}: has no train_aug.txt, the list of all training images, and data.sbd is not given to compute it "
        f"from. Give data.sbd=benchmark_RELEASE/dataset, or a list, e.g. data.splits.train={folder / 'train.txt'}"
    )
    cured = devkit.model_copy(update={"sbd": None, "splits": {"train": folder / "train.txt"}})
    assert Counter(splits_of(read_dataset(cured, 0)[0]).values()) == {"train": 2, "val": 3, "test": 2}


def test_without_the_test_images(devkit: DataConfig) -> None:
    assert devkit.voc is not None
    for name in TEST:
        (devkit.voc / "JPEGImages" / f"{name}.jpg").unlink()
    table, problems = read_dataset(devkit, 0)
    assert not problems
    assert set(splits_of(table).values()) == {"train", "val"}


def test_settings_take_precedence_over_the_devkit(devkit: DataConfig, tmp_path: Path) -> None:
    masks = tmp_path / "masks"
    write_mask(masks / "a.png", truth("a"))
    tags = write(tmp_path / "tags.csv", "image,tags\n" + "".join(f"{name},dog\n" for name in "abcdefghij"))
    given = {
        "masks": masks,
        "tags": tags,
        "classes": write(tmp_path / "c.txt", "dog"),
        "splits": {"val": write(tmp_path / "val.txt", "h\n")},
    }
    table, problems = read_dataset(devkit.model_copy(update=given), 0)
    assert not problems
    assert table is not None
    assert table.classes == ("dog",)
    assert [mask for mask in table.masks if mask] == [masks / "a.png"]
    assert {name for name, split in splits_of(table).items() if split == "val"} == {"h"}


def test_only_listed_annotations_are_read(devkit: DataConfig) -> None:
    assert devkit.voc is not None
    write(devkit.voc / "Annotations" / "unlisted.xml", "broken")
    write(devkit.voc / "Annotations" / "z.xml", xml(["unicorn"]))
    images(devkit.voc / "JPEGImages", "z unlisted")
    assert not read_dataset(devkit, 0)[1]
    write(devkit.voc / "Annotations" / "a.xml", "broken")
    assert "a.xml: is not XML (syntax error: line 1, column 0)" in texts(devkit)


def test_problems_of_the_voc_devkit(devkit: DataConfig, tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    assert devkit.voc is not None and devkit.sbd is not None
    for update, message in (
        ({"voc": nowhere}, f"{nowhere}: no such folder. Give the devkit that holds JPEGImages"),
        ({"voc": None}, "settings: data.sbd is given without data.voc. Give both"),
        ({"coco": nowhere}, "settings: data.voc and data.coco are given. Give one of them"),
        ({"sbd": nowhere}, f"{nowhere / 'train.txt'}: no such list. Give SBD's folder with cls/"),
        ({"voc": devkit.voc.parent}, f"{devkit.voc.parent / 'ImageSets' / 'Segmentation' / 'val.txt'}: no such list"),
        ({"val_fraction": 0.1}, "settings: data.voc and data.val_fraction are given. Give one"),
    ):
        assert message in texts(devkit.model_copy(update=update)), message
    write(devkit.voc / "ImageSets" / "Segmentation" / "test.txt", b"\0")
    assert "test.txt: is not a text file" in texts(devkit)
    write(devkit.voc / "ImageSets" / "Segmentation" / "test.txt", "k\n")
    write(devkit.sbd / "val.txt", "f\nmissing\n")
    assert f"{devkit.sbd / 'val.txt'}, line 2: there is no image 'missing'" in texts(devkit)


def test_a_config_with_a_devkit_can_be_loaded_again(devkit: DataConfig, tmp_path: Path) -> None:
    overrides: dict[str, Any] = {"data.voc": str(devkit.voc), "data.masks": ["a", "b"]}
    config = load_config(None, overrides)
    assert config.data.masks == (Path("a"), Path("b"))
    file = write(tmp_path / "config.yaml", yaml.safe_dump(dump_config(config)))
    assert load_config(file) == config
    assert load_config(file).data.images is None


@pytest.mark.parametrize("year", ["2014", "2017"])
def test_coco_devkit(tmp_path: Path, year: str) -> None:
    config = coco_devkit(tmp_path / "COCO", year)
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


def test_check_of_the_coco_devkit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    coco_devkit(tmp_path / "COCO")
    for path in (tmp_path / "COCO").rglob("*.jpg"):
        Image.new("RGB", (32, 24)).save(path)
    small = ["--set", "classify.batch_size=2", "--set", "train.batch_size=2"]
    args = ["check", "--set", f"data.coco={tmp_path / 'COCO'}", *small, "--set"]
    assert here(monkeypatch, *args, "data.untagged=negative") == 0
    text = capsys.readouterr().out
    assert "teddy bear" in text
    assert here(monkeypatch, *args, "data.untagged=error") == 1
    text = capsys.readouterr().err
    assert "COCO_train2014_000000000002.jpg" in text and "data.untagged=negative" in text


def test_problems_of_the_coco_devkit(tmp_path: Path) -> None:
    root = tmp_path / "COCO"
    (problem,) = fatal(read_dataset(DataConfig(coco=root), 0)[1])
    assert f"{root / 'annotations'}: no such folder, or no instances_*.json in it. Give" in problem
    config = coco_devkit(root)
    coco_devkit(root, "2017")
    (problem,) = fatal(read_dataset(config, 0)[1])
    assert "annotations: holds the instances of 2014 and 2017, which label the same images. Keep" in problem
    for path in (root / "annotations").glob("*2014.json"):
        path.unlink()
    (root / "val2017").rename(root / "elsewhere")
    assert f"{root / 'val2017'}: no such folder" in "\n".join(fatal(read_dataset(config, 0)[1]))
