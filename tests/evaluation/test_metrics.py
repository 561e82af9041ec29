from __future__ import annotations

import time
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch

from cian import CianError
from cian.data.masks import read_mask, write_mask
from cian.evaluation import folders as evaluation_folders
from cian.evaluation.folders import evaluate_folders, score_pairs
from cian.evaluation.metrics import Confusion
from cian.parallel import cores
from cian.terminal import Ticker


def test_hand_computed():
    """Truth 0 0 1 1 255, prediction 0 1 1 1 1: IoU of class 0 is 1/2, of class 1 is 2/3; class 2 occurs nowhere."""
    confusion = Confusion(3)
    confusion.add(np.array([[0, 1, 1, 1, 1]], np.uint8), np.array([[0, 0, 1, 1, 255]], np.uint8))
    scores = confusion.scores()
    assert scores.miou == pytest.approx(100 * (1 / 2 + 2 / 3) / 2)
    assert scores.accuracy == pytest.approx(75)
    assert scores.coverage == 100
    assert scores.as_dict(("a", "b", "c"))["iou"] == {"a": 50.0, "b": 66.67, "c": None}


def test_open_pixels_are_misses_of_their_class_alone():
    confusion = Confusion(2)
    confusion.add(np.array([[0, 255, 1, 255]], np.uint8), np.array([[0, 0, 1, 1]], np.uint8))
    scores = confusion.scores()
    assert scores.iou.tolist() == [50, 50]
    assert scores.precision.tolist() == [100, 100]
    assert scores.recall.tolist() == [50, 50]
    assert (scores.coverage, scores.miou_labelled) == (50, 100)


def test_equals_torchmetrics_over_a_data_set():
    torchmetrics = pytest.importorskip("torchmetrics.functional.classification")
    rng = np.random.default_rng(0)
    pairs = [
        (rng.integers(0, 5, (9, 11)).astype(np.uint8), rng.integers(0, 5, (9, 11)).astype(np.uint8)) for _ in range(4)
    ]
    for _, truth in pairs:
        truth[rng.random(truth.shape) < 0.2] = 255
    confusion = Confusion(5)
    for pair in pairs:
        confusion.add(*pair)
    prediction, truth = (torch.from_numpy(np.stack(side).astype(np.int64)) for side in zip(*pairs, strict=True))
    expected = torchmetrics.multiclass_confusion_matrix(prediction, truth, 5, ignore_index=255)
    assert np.array_equal(confusion.counts[:, :-1], expected.numpy())
    iou = torchmetrics.multiclass_jaccard_index(prediction, truth, 5, ignore_index=255)
    assert confusion.scores().miou == pytest.approx(100 * float(iou), abs=1e-4)


def test_one_matrix_and_not_a_mean_over_images():
    confusion = Confusion(2)
    confusion.add(np.zeros((1, 9), np.uint8), np.zeros((1, 9), np.uint8))
    confusion.add(np.zeros((1, 1), np.uint8), np.ones((1, 1), np.uint8))
    assert confusion.scores().iou.tolist() == [90, 0]


def test_nothing_to_score_is_nan():
    scores = Confusion(2).scores()
    assert np.isnan(scores.miou) and scores.as_dict(("a", "b"))["miou"] is None


@pytest.mark.parametrize(
    ("prediction", "truth", "message"),
    [
        ([[0, 1]], [[0]], "differ in size"),
        ([[7]], [[0]], "prediction holds class id 7, but there are 3 classes, background included: ids are 0 to 2"),
        ([[0, 7, 3]], [[0, 255, 9]], "prediction holds class id 3"),  # the least; under ignored pixels too
        ([[0]], [[9]], "truth holds class id 9"),
    ],
)
def test_refuses_what_is_no_mask(prediction, truth, message):
    with pytest.raises(ValueError, match=message):
        Confusion(3).add(np.array(prediction, np.uint8), np.array(truth, np.uint8))


def test_class_ids_of_more_bits():
    confusion = Confusion(3)
    confusion.add(np.array([[0, 1, 255]]), np.array([[1, 1, 2]]))
    assert confusion.counts.tolist() == [[0, 0, 0, 0], [1, 1, 0, 0], [0, 0, 0, 1]]
    for wrong in (-1, 256):
        with pytest.raises(ValueError, match="prediction holds values outside 0 to 255"):
            confusion.add(np.array([[wrong]]), np.array([[0]]))


def test_few_masks_are_in_memory_at_a_time(tmp_path, monkeypatch):
    write_mask(tmp_path / "a.png", np.ones((4, 4), np.uint8))
    alive, most = [], []

    def read(path: Path, ids: np.ndarray | None = None) -> np.ndarray:
        mask = read_mask(path, ids)
        alive.append(1)
        weakref.finalize(mask, alive.pop)
        most.append(len(alive))
        return mask

    monkeypatch.setattr(evaluation_folders, "read_mask", read)
    monkeypatch.setattr(Ticker, "advance", lambda ticker: time.sleep(0.002))
    confusion = score_pairs([(tmp_path / "a.png", tmp_path / "a.png")] * 200, 2)
    assert confusion.counts.tolist() == [[0, 0, 0], [0, 200 * 16, 0]]
    assert max(most) <= 4 * cores()


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Masks of a cat in a.png and x/b.PNG, the latter not found; classes.txt."""
    for name, predicted in (("a.png", 1), ("x/b.PNG", 0)):
        write_mask(tmp_path / "truth" / name, np.ones((2, 2), np.uint8))
        write_mask(tmp_path / "predicted" / name.lower(), np.full((2, 2), predicted, np.uint8))
    (tmp_path / "classes.txt").write_text("background\ncat\n")
    return tmp_path


def evaluate(folders: Path, *more: Path) -> dict:
    return evaluate_folders(folders / "predicted", folders / "truth", folders / "classes.txt", *more)


def test_upper_case_suffix_counts(folders):
    scores = evaluate(folders)
    assert scores["images"] == 2 and scores["iou"]["cat"] == 50


def test_an_image_listed_twice_counts_once(folders):
    (folders / "list.txt").write_text("a\nx/b\na.png\n\na\nx/b.PNG\na.jpg\n")
    scores = evaluate(folders, folders / "list.txt")
    assert scores["images"] == 2 and scores["iou"]["cat"] == 50


@pytest.mark.parametrize("first", ["background", "__background__", "_background_", "Background"])
def test_first_class_name_may_be_background(folders, first):
    (folders / "classes.txt").write_text(f"{first}\ncat\n")
    assert list(evaluate(folders)["iou"]) == ["background", "cat"]


def test_masks_of_0_and_255_are_refused(folders):
    for name in ("a.png", "x/b.PNG"):
        write_mask(folders / "truth" / name, np.array([[0, 255]] * 2, np.uint8))
    with pytest.raises(CianError, match=r"truth: holds 255, which is ignored, but no mask holds a class id from 1 up"):
        evaluate(folders)
    write_mask(folders / "truth" / "a.png", np.array([[1, 255]] * 2, np.uint8))
    assert evaluate(folders)["iou"]["cat"] == 100
    for name in ("a.png", "x/b.PNG"):  # they show nothing
        write_mask(folders / "truth" / name, np.zeros((2, 2), np.uint8))
    assert evaluate(folders)["iou"]["cat"] == 0


def test_unknown_ids_are_told_with_both_files(folders):
    write_mask(folders / "predicted" / "a.png", np.full((2, 2), 2, np.uint8))
    message = (
        r"predicted/a\.png against .*truth/a\.png: prediction holds class id 2, but .* ids are 0 to 1\. Check that"
    )
    with pytest.raises(CianError, match=message):
        evaluate(folders)
