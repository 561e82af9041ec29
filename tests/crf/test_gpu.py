"""The CRF for GPUs, here on the CPU and, where there is one, on a GPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cian.crf import gpu
from cian.crf.dense import dense_crf
from tests.crf.helpers import assert_agrees, scene, softmax

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=needs_gpu)])
@pytest.mark.parametrize(("classes", "height", "width"), [(1, 20, 32), (3, 48, 64), (21, 60, 84), (3, 1, 64)])
def test_agrees(device, classes, height, width):
    image, unary = scene(classes, classes, height, width)
    actual = gpu.dense_crf(image, torch.from_numpy(unary).to(device)).cpu().numpy()
    assert_agrees(actual, dense_crf(image, unary))


def test_parameters_and_impossible_classes():
    image, unary = scene(0, 4, 60, 80)
    unary[2] = np.inf
    settings = {"gaussian": (1.5, 4), "bilateral": (30, 5, 6.5), "iterations": 4}
    actual = gpu.dense_crf(image, torch.from_numpy(unary), **settings).numpy()
    assert_agrees(actual, dense_crf(image, unary, **settings))
    assert (actual[2] == 0).all()


def test_no_iteration_is_softmax():
    image, unary = scene(0, 3, 12, 16)
    actual = gpu.dense_crf(image, torch.from_numpy(unary), iterations=0).numpy()
    np.testing.assert_allclose(actual, softmax(-unary), atol=1e-6)


def test_errors():
    image, unary = scene(0, 3, 12, 16)
    with pytest.raises(ValueError, match=r"unary is torch.int64 of shape \(3, 12, 16\)"):
        gpu.dense_crf(image, torch.from_numpy(unary).long())
    with pytest.raises(ValueError, match="image is float64"):
        gpu.dense_crf(image / 255, torch.from_numpy(unary))
