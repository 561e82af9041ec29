"""PASCAL VOC: its devkit as it comes, SBD's part, the paper's recipe on it, and the archive for its test server."""

from __future__ import annotations

import gzip
import io
import json
import re
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from scipy.io import savemat

from cian.config import DataConfig, dump_config, load_config
from cian.data.check import check_dataset
from cian.data.classes import class_names
from cian.data.masks import palette, read_mask, write_mask
from cian.data.read import read_dataset
from cian.data.table import IGNORE
from cian.errors import CianError
from cian.evaluation.folders import write_submission
from cian.formats.devkits import VOC_CLASSES
from cian.pipeline.run import run
from tests.formats.helpers import fatal, images, only, read, splits_of, tags_of, write
from tests.helpers import cli, fails

CONFIGS = Path(__file__).parents[2] / "configs"
NAMES = class_names(VOC_CLASSES)
SIZE = (40, 48)
VOC_TRAIN, SBD_TRAIN, SBD_VAL, VOC_VAL, TEST = "ab", "acde", "fgh", "hij", "kl"  # one letter an image


def shown(name: str) -> list[int]:
    """The class ids in an image: five of each, so that those to train on show each class twice."""
    return [("abcdefghijkl".index(name) * 5 + k) % 20 + 1 for k in range(5)]


def xml(tags: list[str], difficult: list[str] | tuple[str, ...] = (), filename: str = "wrong.jpg") -> str:
    rows = [(tag, tag in difficult) for tag in tags]
    return f"<annotation><filename>{filename}</filename>" + "".join(
        f"<object><name>{tag}</name><difficult>{int(flag)}</difficult><part><name>head</name></part></object>"
        for tag, flag in rows
    ) + "</annotation>"  # fmt: skip


def truth(name: str) -> np.ndarray:
    """Five stripes, one a class, with a void line and background around."""
    mask = np.zeros(SIZE, np.uint8)
    for k, class_id in enumerate(shown(name)):
        mask[4 + 6 * k : 10 + 6 * k, 6:42] = class_id
        mask[4 + 6 * k, 6:42] = IGNORE
    return mask


@pytest.fixture
def devkit(tmp_path: Path) -> DataConfig:
    """VOCdevkit/VOC2012 with ten tagged images and two of test, and SBD's `dataset`."""
    voc, sbd = tmp_path / "VOCdevkit" / "VOC2012", tmp_path / "benchmark_RELEASE" / "dataset"
    (voc / "JPEGImages").mkdir(parents=True)
    (sbd / "cls").mkdir(parents=True)
    lists = voc / "ImageSets" / "Segmentation"
    for name in "abcdefghijkl":
        colours = palette()[np.where(truth(name) == IGNORE, 0, truth(name))]
        Image.fromarray(colours).save(voc / "JPEGImages" / f"{name}.jpg")
        if name not in TEST:
            write(voc / "Annotations" / f"{name}.xml", xml([NAMES[i - 1] for i in shown(name)]))
        if name in VOC_TRAIN + VOC_VAL:
            write_mask(voc / "SegmentationClass" / f"{name}.png", truth(name))
        if name in SBD_TRAIN + SBD_VAL:
            whole = np.where(truth(name) == IGNORE, 0, truth(name)).astype(np.uint8)
            savemat(sbd / "cls" / f"{name}.mat", {"GTcls": {"Segmentation": whole, "Boundaries": np.zeros(3)}})
    for file, names in ((lists / "train", VOC_TRAIN), (lists / "val", VOC_VAL), (lists / "test", TEST)):
        write(file.with_suffix(".txt"), "".join(f"{name}\n" for name in names))
    write(sbd / "train.txt", "\n".join(SBD_TRAIN))
    write(sbd / "val.txt", "\n".join(SBD_VAL) + "\n")
    return DataConfig(voc=voc, sbd=sbd, min_images=1)


def texts(config: DataConfig) -> str:
    return "\n".join(fatal(read_dataset(config, 0)[1]))


# -------------------------------------------------------------------------------------------------------- devkit


def test_devkit(devkit: DataConfig) -> None:
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


def test_check_opens_matlab_masks(devkit: DataConfig) -> None:
    _, problems = check_dataset(devkit, 0)
    assert not fatal(problems)
    assert devkit.sbd is not None
    path = devkit.sbd / "cls" / "c.mat"
    assert np.array_equal(read_mask(path), np.where(truth("c") == IGNORE, 0, truth("c")))
    savemat(path, {"GTcls": {"Segmentation": np.zeros((3, 4), np.uint8)}})
    _, problems = check_dataset(devkit, 0)
    assert "c.mat: the mask has 4 x 3 pixels, its image 48 x 40" in fatal(problems)[0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"nonsense", "damaged, or no MATLAB file ("),
        (b"", "damaged, or no MATLAB file ("),
        ({"GTinst": {"Segmentation": np.zeros((2, 2), np.uint8)}}, "holds no GTcls. Give SBD's folder `cls`"),
        ({"GTcls": np.zeros(3)}, "damaged, or no MATLAB file ("),
        ({"GTcls": {"Segmentation": np.zeros((2, 2))}}, "its GTcls.Segmentation is no map of 8 bit class ids"),
        (None, "cannot be opened (No such file or directory)"),
    ],
)
def test_broken_matlab_masks(tmp_path: Path, content: Any, message: str) -> None:
    path = tmp_path / "a.mat"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        savemat(path, content)
    with pytest.raises(CianError, match=re.escape(f"{path}: {message}")):
        read_mask(path)


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


def test_what_is_given_wins(devkit: DataConfig, tmp_path: Path) -> None:
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


def test_problems_of_devkits(devkit: DataConfig, tmp_path: Path) -> None:
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


# ----------------------------------------------------------------------------------------------------------- XML


def read_xml(tmp_path: Path, files: dict[str, str], names: str = "a b", **config: Any) -> Any:
    for name, content in files.items():
        write(tmp_path / "labels" / f"{name}.xml", content)
    folder = images(tmp_path / "images", names)
    return read_dataset(DataConfig(images=folder, tags=tmp_path / "labels", min_images=1, **config), 0)


def test_xml_of_any_images(tmp_path: Path) -> None:
    files = {"a": xml(["dog", "cat", "dog"], filename="b.jpg"), "x/b": xml([" red  fox "])}
    table, problems = read_xml(tmp_path, files, "a.png deep/b.jpg")
    assert not problems
    assert tags_of(table) == {"a": ("cat", "dog"), "deep/b": ("red fox",)}


def test_xml_beside_the_images(tmp_path: Path) -> None:
    folder = images(tmp_path / "images", "a x/a")
    write(folder / "a.xml", xml(["dog"]))
    write(folder / "x" / "a.xml", xml(["cat"]))
    table, problems = read_dataset(DataConfig(images=folder, tags=folder, min_images=1), 0)
    assert not problems
    assert tags_of(table) == {"a": ("dog",), "x/a": ("cat",)}


def test_difficult_objects(tmp_path: Path) -> None:
    files = {"a": xml(["dog", "cat"], difficult=["cat"]), "b": xml(["cat", "dog"], difficult=["cat", "dog"])}
    table, _ = read_xml(tmp_path, files)
    assert tags_of(table) == {"a": ("dog",), "b": ("cat", "dog")}
    table, _ = read_xml(tmp_path, files, difficult=True)
    assert tags_of(table) == {"a": ("cat", "dog"), "b": ("cat", "dog")}


def test_an_image_without_objects(tmp_path: Path) -> None:
    files = {"a": xml(["dog"]), "b": xml([])}
    _, problems = read_xml(tmp_path, files)
    assert f"b.jpg: has no tag in {tmp_path / 'labels'}. Tag it, remove it, or set data.untagged" in only(problems)
    table, problems = read_xml(tmp_path, files, untagged="negative")
    assert not problems
    assert tags_of(table) == {"a": ("dog",), "b": ()}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "c.xml: is not XML (no element found: line 1, column 0). Export it again as PASCAL VOC XML, or remove it"),
        ("<annotation>", "c.xml: is not XML ("),
        ('<?xml version="1.0" encoding="nonsense"?><annotation/>', "c.xml: is not XML ("),
        ("<html/>", "c.xml: its root is 'html', not 'annotation'. Export"),
        ("<annotation><object><pose/></object></annotation>", "c.xml: an object has no name. Export"),
        (xml(["background"]), "c.xml: the name 'background' is reserved for class id 0. Remove"),
    ],
)
def test_broken_xml(tmp_path: Path, content: str, message: str) -> None:
    _, problems = read_xml(tmp_path, {"a": xml(["dog"]), "c": content}, "a c")
    assert message in "\n".join(fatal(problems))


def test_xml_without_its_image(tmp_path: Path) -> None:
    files = {"a": xml(["dog"]), "gone": xml(["dog"]), "x/a": xml(["dog"]), "twice": xml(["dog"])}
    _, problems = read_xml(tmp_path, files, "a p/twice q/twice")
    text = "\n".join(fatal(problems))
    assert "gone.xml: there is no image 'gone'. Add its image, or remove the file" in text
    assert f"x/a.xml: belongs to a.jpg, as {tmp_path / 'labels' / 'a.xml'} does. Keep one of them" in text
    assert "twice.xml: several images are called 'twice'. Move it beside its image" in text


def test_folders_of_no_annotations(tmp_path: Path) -> None:
    (tmp_path / "labels").mkdir()
    _, problems = read_xml(tmp_path, {})
    assert "labels: holds no tags in a format that cian reads. Give one of these: " in only(problems)
    _, problems = read_xml(tmp_path, {"a": xml(["dog"])}, split_column="fold")
    assert "labels: is XML, so it has no column 'fold'. Remove data.split_column; give list files" in only(problems)


def test_lists_with_columns(tmp_path: Path) -> None:
    lists = {
        "train": write(tmp_path / "train.txt", "a b.jpg\n/images/c.jpg /masks/c.png\nd 1\n"),
        "val": write(tmp_path / "val.txt", "/x/e.jpg\nno such\n"),
    }
    rows = "image,tags\na b,dog\nc,dog\nd,dog\na,dog\n"
    table, problems = read(tmp_path, rows, ["a b.jpg", "a", "c", "d", "x/e"], splits=lists)
    assert "val.txt, line 2: there is no image 'no such'. Correct" in only(problems)
    assert splits_of(table) == {"a b": "train", "c": "train", "d": "train", "x/e": "val"}


def test_masks_of_several_folders(tmp_path: Path) -> None:
    first, second = images(tmp_path / "first", "a.png"), images(tmp_path / "second", "a.png b.png")
    rows = "image,tags\na,dog\nb,dog\nc,dog\n"
    table, problems = read(tmp_path, rows, "a b c", masks=(first, second))
    assert not problems
    assert table is not None
    assert table.masks == (first / "a.png", second / "b.png", None)
    empty = images(tmp_path / "empty", "z.png")
    assert not read(tmp_path, rows, "a b c", masks=(empty, first))[1]
    _, problems = read(tmp_path, rows, "a b c", masks=(empty, tmp_path / "none"))
    text = "\n".join(fatal(problems))
    assert f"{empty}: no mask fits any image. Store" in text
    assert "none: no such folder" in text


# --------------------------------------------------------------------------------------------------------- paper


@pytest.mark.parametrize("depth", [50, 101])
def test_the_papers_configuration(depth: int) -> None:
    """Value by value what the paper and its release say."""
    config = load_config(CONFIGS / "paper" / f"voc2012-resnet{depth}.yaml")
    assert config.backbone.name.partition(".")[0] == f"resnet{depth}"
    assert (config.backbone.output_stride, config.backbone.weights, config.backbone.frozen_stages) == (8, "imagenet", 0)
    affinity, train, predict = config.affinity, config.train, config.predict
    assert (affinity.mode, affinity.hidden, affinity.similarity, affinity.merge) == ("cross", 1024, "dot", "max")
    assert (affinity.include_self, affinity.pool, affinity.tied_start) == (True, True, False)
    assert (train.labels, train.start, train.epochs, train.min_steps) == ("seeds", "backbone", 20, 0)
    assert (train.batch_size, train.group_size, train.head_dilation) == (16, 2, 12)
    assert (train.balanced, train.robust, train.tag_filter) == ("none", 0, False)
    assert (train.completion, train.completion_after) == (True, 0)
    optimizer = train.optimizer
    assert (optimizer.name, optimizer.lr, optimizer.new_lr_factor, optimizer.weight_decay) == ("sgd", 5e-4, 10, 5e-4)
    assert (optimizer.poly_power, optimizer.poly_per_epoch, optimizer.clip_norm) == (0.9, True, 0)
    assert (train.augment.crop, train.augment.mirror, train.augment.jitter) == (321, True, 0)
    assert train.augment.scales == (0.5, 0.75, 1, 1.25, 1.5)
    assert (config.relabel.crf_iterations, config.relabel.tag_filter) == (10, False)
    assert (config.retrain.enabled, config.retrain.epochs, config.retrain.lr_factor) == (True, None, 1)
    assert (predict.scales, predict.mirror, predict.crf.iterations) == ((0.75, 1, 1.25), True, 5)
    assert (predict.crf.gaussian, predict.crf.bilateral) == ((3, 3), (80, 13, 10))
    assert config.max_side >= 500  # VOC's images are not reduced
    assert (config.runtime.precision, config.runtime.accumulate, config.seed) == ("fp32", 1, 0)


@pytest.mark.parametrize("path", sorted(CONFIGS.rglob("*.yaml")), ids=lambda path: path.name)
def test_configurations_can_be_loaded(path: Path) -> None:
    load_config(path)


def test_the_paper_on_a_small_devkit(devkit: DataConfig, tmp_path: Path) -> None:
    """The whole recipe with ResNet-101, shrunk in time and space only, to the archive for the test server."""
    small = {
        "data": {"voc": str(devkit.voc), "sbd": str(devkit.sbd), "min_images": 1},
        "backbone.weights": "random",
        "affinity.hidden": 32,
        "classify": {"epochs": 1, "min_steps": 0, "batch_size": 4, "augment": {"crop": 65}},
        "seeds.scales": [1.0],
        "train.epochs": 1,
        "train.batch_size": 4,
        "train.augment.crop": 65,
        "predict.scales": [1.0],
        "relabel.crf_iterations": 1,
        "predict.crf.iterations": 1,
        "runtime": {"device": "cpu", "workers": 0},
    }
    result = run(out=tmp_path / "run", config=CONFIGS / "paper" / "voc2012-resnet101.yaml", **small)
    assert result.report_file.exists()
    stages = json.loads(result.stages_file.read_text())
    assert set(stages) == {
        "classify", "seed", "train", "relabel", "retrain", "export", "predict", "compare", "seed-held-out",
        "evaluate", "report",
    }  # fmt: skip
    assert all(stage["done"] for stage in stages.values())
    assert stages["retrain"]["inputs"]["train.optimizer.name"] == "sgd"
    scores = json.loads(result.metrics_file.read_text())["stages"]
    assert set(scores["relabelled masks"]) == {"train"}
    assert set(scores["final, with CRF"]) == {"val"}
    assert {path.stem for path in (result.path / "predictions").glob("*.png")} == set(VOC_VAL + TEST)

    assert devkit.voc is not None
    args = [
        "evaluate", "--predictions", result.path / "predictions", "--submit", tmp_path / "results.tgz",
        "--list", devkit.voc / "ImageSets" / "Segmentation" / "test.txt", "--images", devkit.voc / "JPEGImages",
    ]  # fmt: skip
    printed = cli(*args)
    assert printed.returncode == 0, printed.stderr
    assert "2 masks" in printed.stdout
    packed = unpack(tmp_path / "results.tgz")
    assert list(packed) == [f"results/VOC2012/Segmentation/comp6_test_cls/{name}.png" for name in TEST]
    for name, image in zip(TEST, packed.values(), strict=True):
        assert image.mode == "P"
        assert np.array_equal(np.array(image), read_mask(result.path / "predictions" / f"{name}.png"))


# ---------------------------------------------------------------------------------------------------- submission


def unpack(path: Path) -> dict[str, Image.Image]:
    with tarfile.open(path, "r:gz") as archive:
        contents = {entry.name: archive.extractfile(entry) for entry in archive}
        return {name: Image.open(io.BytesIO(file.read())) for name, file in contents.items() if file is not None}


@pytest.fixture
def predicted(tmp_path: Path) -> Path:
    """Predictions p/a.png, p/b.png of classes 0 … 20, their images i/, and the list of both."""
    rng = np.random.default_rng(0)
    for name in "ab":
        write_mask(tmp_path / "p" / f"{name}.png", rng.integers(0, 21, (8, 9)).astype(np.uint8))
        (tmp_path / "i").mkdir(exist_ok=True)
        Image.new("RGB", (9, 8)).save(tmp_path / "i" / f"{name}.jpg")
    write(tmp_path / "test.txt", "b\na\n\nb\n")
    return tmp_path


def submit(folder: Path, **options: Any) -> dict[str, Image.Image]:
    assert write_submission(folder / "p", folder / "test.txt", folder / "out.tgz", **options) == 2
    return unpack(folder / "out.tgz")


def test_submission(predicted: Path) -> None:
    masks = submit(predicted, images=predicted / "i")
    assert list(masks) == [f"results/VOC2012/Segmentation/comp6_test_cls/{name}.png" for name in "ba"]
    image = masks["results/VOC2012/Segmentation/comp6_test_cls/a.png"]
    assert image.mode == "P"
    assert np.array_equal(np.array(image), read_mask(predicted / "p" / "a.png"))
    assert image.getpalette() == palette().ravel().tolist()
    assert "results/VOC2012/Segmentation/comp5_test_cls/a.png" in submit(predicted, competition="comp5")


def test_submission_is_the_same_every_time(predicted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    submit(predicted)
    first = (predicted / "out.tgz").read_bytes()
    monkeypatch.setattr("time.time", lambda: 2e9)
    (predicted / "p" / "a.png").touch()
    submit(predicted)
    assert (predicted / "out.tgz").read_bytes() == first
    assert gzip.decompress(first)


def test_grey_predictions_become_indexed(predicted: Path) -> None:
    Image.fromarray(np.full((8, 9), 20, np.uint8)).save(predicted / "p" / "a.png")
    image = submit(predicted)["results/VOC2012/Segmentation/comp6_test_cls/a.png"]
    assert image.mode == "P"
    assert np.unique(np.array(image)).tolist() == [20]


def test_all_problems_of_a_submission_at_once(predicted: Path) -> None:
    (predicted / "out.tgz").write_bytes(b"an earlier one")
    write_mask(predicted / "p" / "a.png", np.full((8, 9), IGNORE, np.uint8))
    write_mask(predicted / "p" / "b.png", np.zeros((9, 8), np.uint8))
    with pytest.raises(CianError) as error:
        submit(predicted, images=predicted / "i")
    text = str(error.value)
    assert "a.png: holds the value 255, but class ids are 0 to 20. Give each pixel a class" in text
    assert f"b.png: 8×9 px, but {predicted / 'i' / 'b.jpg'} has 9×8. Predict at the size of the image" in text
    assert (predicted / "out.tgz").read_bytes() == b"an earlier one"
    assert not list(predicted.glob(".cian-tmp-*"))


def test_submissions_that_cannot_be(predicted: Path) -> None:
    with pytest.raises(CianError, match=r"class ids are 0 to 2\. Give"):
        submit(predicted, classes=write(predicted / "classes.txt", "background\ndog\ncat"))
    with pytest.raises(CianError, match="competition comp7: PASCAL VOC has comp5"):
        submit(predicted, competition="comp7")
    (predicted / "i" / "a.jpg").unlink()
    with pytest.raises(CianError, match=r"test\.txt: there is no image 'a'"):
        submit(predicted, images=predicted / "i")
    (predicted / "p" / "a.png").unlink()
    with pytest.raises(CianError, match=r"a\.png: no such prediction; 1 of 2 are missing"):
        submit(predicted)
    write(predicted / "test.txt", "\n")
    with pytest.raises(CianError, match="names no image"):
        submit(predicted)


def test_submission_on_the_command_line(predicted: Path) -> None:
    base = ["evaluate", "--predictions", predicted / "p"]
    fails(cli(*base, "--submit", predicted / "out.tgz"), "--submit", "--list")
    fails(cli(*base), "--masks and --classes: scoring needs both")
    fails(cli(*base, "--masks", predicted / "p"), "--masks and --classes: scoring needs both")
    more = ["--submit", predicted / "out.tgz", "--list", predicted / "test.txt"]
    fails(cli("evaluate", "--predictions", predicted / "none", *more), "no such folder")
