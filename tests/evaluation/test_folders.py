"""Any folder of masks is scored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cian.config import DataConfig
from cian.data.masks import write_mask
from cian.errors import CianError, DataError
from cian.evaluation.folders import evaluate_folders
from tests.formats.helpers import write


@pytest.fixture
def scenes(tmp_path: Path) -> tuple[Path, Path]:
    """Predictions and masks of scenes without background: 0 = road, 1 = sky, 2 = tree, 255 = void."""
    truth = np.zeros((10, 10), np.uint8)
    truth[:4], truth[4:6], truth[:, 0] = 1, 2, 255
    prediction = np.where(truth == 255, 0, truth).astype(np.uint8)
    prediction[3] = 2
    write_mask(tmp_path / "predictions" / "a.png", prediction)
    write_mask(tmp_path / "masks" / "a.png", truth)
    return tmp_path / "predictions", tmp_path / "masks"


@pytest.mark.parametrize("text", ["road\nsky\ntree\n", "0 road\n1 sky\n2 tree\n"])
def test_without_background(tmp_path: Path, scenes: tuple[Path, Path], text: str) -> None:
    """Each class has the score of its own pixels."""
    scores = evaluate_folders(*scenes, write(tmp_path / "classes.txt", text), background=False)
    assert scores["iou"] == {"road": 100.0, "sky": 75.0, "tree": 66.67}
    assert scores["miou"] == 80.56


def test_classes_that_may_be_shifted(
    tmp_path: Path, scenes: tuple[Path, Path], capfd: pytest.CaptureFixture[str]
) -> None:
    classes = write(tmp_path / "classes.txt", "road\nsky\ntree\n")
    assert evaluate_folders(*scenes, classes)["iou"]["road"] == 75.0
    text = " ".join(capfd.readouterr().err.split())
    assert f"{classes}: no mask holds 'tree'; id 0 is read as background, 1 as 'road'. If 0 is 'road', give" in text
    evaluate_folders(*scenes, write(classes, "background\nroad\nsky\ntree\n"))
    assert "no mask holds" not in capfd.readouterr().err
    with pytest.raises(DataError, match=r"class 'road' has the id 0, which is that of background.*--no-background"):
        evaluate_folders(*scenes, write(classes, "0 road\n1 sky\n2 tree\n"))


def two_objects(tmp_path: Path) -> tuple[Path, Path]:
    """Predictions, and a cat of 8 pixels and a dog of 4 as COCO JSON. The prediction misses half of the cat."""
    prediction = np.zeros((8, 8), np.uint8)
    prediction[0, :4], prediction[4, :4] = 1, 2
    write_mask(tmp_path / "predictions" / "sub" / "a.png", prediction)
    boxes = {1: [[0, 0, 8, 0, 8, 1, 0, 1]], 2: [[0, 4, 4, 4, 4, 5, 0, 5]]}
    content = {
        "images": [{"id": 1, "file_name": "sub/a.jpg", "width": 8, "height": 8}, {"id": 2, "file_name": "b.jpg"}],
        "annotations": [{"id": i, "image_id": 1, "category_id": i, "segmentation": boxes[i]} for i in boxes],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    }
    return tmp_path / "predictions", write(tmp_path / "coco.json", content)


def test_masks_of_other_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Images without any object are not labelled, so they need no prediction."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    predictions, coco = two_objects(tmp_path)
    scores = evaluate_folders(predictions, coco, write(tmp_path / "classes.txt", "cat\ndog\n"))
    assert scores["iou"] == {"background": round(100 * 52 / 56, 2), "cat": 50.0, "dog": 100.0}
    listed = evaluate_folders(predictions, coco, tmp_path / "classes.txt", write(tmp_path / "list.txt", "sub/a\n"))
    assert listed == scores
    with pytest.raises(DataError, match=r"coco.json: class 'dog' is not in .*classes.txt. Add it"):
        evaluate_folders(predictions, coco, write(tmp_path / "classes.txt", "cat\n"))
    (predictions / "sub" / "a.png").rename(predictions / "other.png")
    with pytest.raises(CianError, match=r"no prediction for 'sub/a'; 1 of 1 are missing"):
        evaluate_folders(predictions, coco, write(tmp_path / "classes.txt", "cat\ndog\n"))


@pytest.mark.parametrize("as_folder", [True, False])
def test_dropped_and_merged_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, as_folder: bool) -> None:
    """Masks keep their ids. Predictions have the ids of the classes that are left."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    predictions, masks = two_objects(tmp_path)
    classes = write(tmp_path / "classes.txt", "cat\ndog\n")
    if as_folder:
        masks = tmp_path / "masks"
        truth = np.zeros((8, 8), np.uint8)
        truth[0], truth[4, :4] = 1, 2
        write_mask(masks / "sub" / "a.png", truth)
    only_dogs = np.where(np.arange(64).reshape(8, 8) // 8 == 4, 1, 0).astype(np.uint8)
    write_mask(predictions / "sub" / "a.png", only_dogs)  # 8 pixels of the row of the dog, which has 4
    scores = evaluate_folders(predictions, masks, classes, config=DataConfig(drop=("cat",)))
    assert scores["iou"] == {"background": round(100 * 48 / 52, 2), "dog": 50.0}
    scores = evaluate_folders(predictions, masks, classes, config=DataConfig(merge={"cat": "dog"}))
    assert scores["iou"] == {"background": 80.0, "dog": 25.0}
    with pytest.raises(DataError, match=r"data\.drop names 'cow', which is no class of the data"):
        evaluate_folders(predictions, masks, classes, config=DataConfig(drop=("cow",)))
