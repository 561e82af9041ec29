"""From logits to probabilities and a mask."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from cian.config import CrfConfig
from cian.crf.dense import dense_crf
from cian.inference import decide
from cian.inference.decide import border, label_map, probabilities


def test_probabilities_without_crf_are_the_softmax(image):
    logits = torch.randn(3, 41, 60)
    np.testing.assert_allclose(probabilities(logits, image, None, 0, None), logits.softmax(0).numpy(), atol=1e-6)
    off = CrfConfig(iterations=0)
    np.testing.assert_allclose(probabilities(logits, image, None, 0, off), logits.softmax(0).numpy(), atol=1e-6)


def unsure(object_odds: float, ground_odds: float) -> torch.Tensor:
    """Logits (3, 41, 60) of an image whose left quarter is more like an object than the rest."""
    odds = torch.full((41, 60), ground_odds)
    odds[:, :15] = object_odds
    return torch.stack([torch.zeros(41, 60), odds, torch.full((41, 60), -50.0)])


def test_border_is_where_the_image_divides():
    """It lies between the two kinds of pixels, within the given range, and is 0 if no pixel is surely an object."""
    assert -1 < border(unsure(1.6, -1.0), 2.5) < 1.6
    assert 0.5 < border(unsure(2.0, 0.5), 2.5) < 2.0
    assert -2 <= border(unsure(9.0, -9.0), 2) <= 2
    assert border(unsure(-0.5, -2.0), 2.5) == border(unsure(1.4, -2.0), 2.5) == 0  # no pixel is surely an object
    assert border(unsure(1.0, -1.0)[:1], 2.5) == 0  # background alone


def test_own_threshold_moves_the_border(image):
    logits = unsure(2.0, 0.5)
    assert (probabilities(logits, image, None, 0, None).argmax(0) == 1).all()
    mask = probabilities(logits, image, None, 2.5, None).argmax(0)
    assert (mask[:, :15] == 1).all() and (mask[:, 15:] == 0).all()
    crf = CrfConfig(iterations=5)
    moved = logits.clone()
    moved[0] += border(logits, 2.5)
    expected = probabilities(moved, image, None, 0, crf)
    np.testing.assert_allclose(probabilities(logits, image, None, 2.5, crf), expected, atol=1e-6)
    assert logits[0].max() == 0  # the logits of the caller are not changed
    logits[2] = 5.0  # a class that is not among the tags does not count
    mask = probabilities(logits, image, np.array([True, True, False]), 2.5, None).argmax(0)
    assert (mask[:, :15] == 1).all() and (mask[:, 15:] == 0).all()


def test_crf_leaves_out_hopeless_classes_alone(image):
    """Half of the classes are hopeless at every pixel. The CRF without them gives the result of the CRF of all."""
    crf = CrfConfig(iterations=5)
    coarse = torch.randn(1, 8, 4, 6, generator=torch.Generator().manual_seed(0)) * 6
    logits = torch.nn.functional.interpolate(coarse, image.shape[:2], mode="bilinear")[0]
    top = logits[:4].amax(0)
    logits[4:] = torch.minimum(logits[4:], top - 5.6)
    logits[7, 20, 30] = top[20, 30] - 5.4  # not hopeless at one pixel
    found = probabilities(logits, image, None, 0, crf)
    expected = dense_crf(image, -logits.numpy(), gaussian=crf.gaussian, bilateral=crf.bilateral, iterations=5)
    assert expected[4:].any(axis=(1, 2)).all()
    assert found.any(axis=(1, 2)).tolist() == [True] * 4 + [False] * 3 + [True]
    assert np.abs(found - expected).mean() < 1e-3
    assert (found.argmax(0) == expected.argmax(0)).mean() > 0.999
    logits[7] = logits[0] - 9  # allowed, but hopeless
    allowed = np.array([True] + [False] * 6 + [True])
    assert probabilities(logits, image, allowed, 0, crf)[1:7].max() == 0
    assert allowed.tolist() == [True] + [False] * 6 + [True]


def test_label_map_enlarges_without_blending_classes():
    result = np.zeros((3, 2, 2), np.float32)
    result[0, :, 0] = result[2, :, 1] = 1
    assert np.array_equal(label_map(result, (2, 2)), [[0, 2], [0, 2]])
    assert np.array_equal(label_map(result, (4, 8)), [[0] * 4 + [2] * 4] * 4)


def test_label_map_is_that_of_the_whole_maps(monkeypatch):
    """It is made from a few columns at a time. The probabilities are those that Pillow gives for the whole map."""
    monkeypatch.setattr(decide, "_PART", 5000)
    result = np.random.default_rng(0).random((4, 37, 53), np.float32)
    result[2] = 0
    size = (411, 602)
    whole = [np.asarray(Image.fromarray(each).resize(size[::-1], Image.Resampling.BILINEAR)) for each in result]
    assert np.array_equal(label_map(result, size), np.argmax(whole, 0))
    for each, expected in zip(result, whole, strict=True):
        assert np.array_equal(np.concatenate([part for _, part in decide._enlarged(each, size)], 1), expected)
