"""The recipes in configs/, value by value and on small devkits."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cian.config import DataConfig, load_config
from cian.data.masks import read_mask
from cian.files import read_json
from cian.formats.class_names import class_names
from cian.formats.coco_masks import write_coco_masks
from cian.formats.devkits import COCO_CLASSES
from cian.pipeline.run import run
from tests.evaluation.test_submission import unpack
from tests.formats.devkits import (
    TEST,
    VOC_VAL,
    coco_devkit,
    voc_devkit,
)
from tests.helpers import cli

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.fixture
def devkit(tmp_path: Path) -> DataConfig:
    return voc_devkit(tmp_path)


@pytest.mark.parametrize("depth", [50, 101])
def test_the_papers_configuration(depth: int) -> None:
    """Value by value what the paper and its release say."""
    config = load_config(CONFIGS / "paper" / f"voc2012-resnet{depth}.yaml")
    assert config.backbone.name.partition(".")[0] == f"resnet{depth}"
    assert (config.backbone.output_stride, config.backbone.weights, config.backbone.frozen_stages) == (8, "imagenet", 0)
    affinity, train, predict = config.affinity, config.train, config.predict
    assert (affinity.mode, affinity.hidden, affinity.similarity, affinity.merge) == ("cross", 1024, "dot", "max")
    assert (affinity.include_self, affinity.pool, affinity.tied_start) == (True, True, False)
    assert (train.start, train.epochs, train.min_steps) == ("backbone", 20, 0)
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
        "statistics", "evaluate", "report",
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


def test_the_coco_recipe_on_a_small_devkit(tmp_path: Path) -> None:
    """From COCO's folder to scored masks of its 80 classes; shrunk in time and space only."""
    size = (32, 40)
    coco_devkit(tmp_path / "COCO", size=size)
    rng = np.random.default_rng(0)
    for path in (tmp_path / "COCO").rglob("*.jpg"):
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)
    write_coco_masks(tmp_path / "COCO" / "annotations", tmp_path / "COCO" / "masks")
    small = {
        "data": {"coco": str(tmp_path / "COCO"), "min_images": 1},
        "backbone.weights": "random",
        "classify": {"epochs": 1, "min_steps": 0, "batch_size": 2, "augment": {"crop": 65}},
        "seeds.scales": [1.0],
        "train": {"epochs": 1, "min_steps": 0, "batch_size": 2, "augment": {"crop": 65}},
        "predict.scales": [1.0],
        "runtime": {"device": "cpu", "workers": 0},
    }
    result = run(out=tmp_path / "run", config=CONFIGS / "coco2014.yaml", **small)
    assert result.report_file.exists()
    stages = read_json(result.metrics_file)["stages"]
    assert set(stages["seeds"]) == {"train", "val"}
    assert set(stages["final, with CRF"]) == {"val"}
    assert list(stages["final, with CRF"]["val"]["iou"]) == ["background", *class_names(COCO_CLASSES)]
    found = [path.relative_to(result.path / "predictions") for path in (result.path / "predictions").rglob("*.png")]
    assert sorted(map(str, found)) == [f"val2014/COCO_val2014_{i:012}.png" for i in range(2)]
    nothing = read_mask(result.path / "seeds" / "train2014" / "COCO_train2014_000000000002.png")  # shows no class
    assert not nothing.any()
