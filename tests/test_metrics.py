from __future__ import annotations

import numpy as np
import pytest
import torch

from cian.metrics import Confusion


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
    [([[0, 1]], [[0]], "differ in size"), ([[7]], [[0]], "prediction holds class id 7"), ([[0]], [[9]], "truth holds")],
)
def test_refuses_what_is_no_mask(prediction, truth, message):
    with pytest.raises(ValueError, match=message):
        Confusion(3).add(np.array(prediction, np.uint8), np.array(truth, np.uint8))
