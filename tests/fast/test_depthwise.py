"""Gradients of depthwise convolutions against PyTorch's own."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from cian.fast.depthwise import Geometry, depthwise_conv2d, pays


@pytest.mark.parametrize(
    ("channels", "size", "kernel", "stride", "padding", "dilation"),
    [
        (5, (9, 11), 5, 1, (2, 2), 1),
        (130, (9, 7), 3, 1, (2, 2), 2),  # more than one block of channels
        (16, (17, 17), 5, 1, (4, 4), 2),
        (3, (12, 13), 3, 1, (0, 0), 4),  # no padding: smaller output
        (4, (8, 8), 3, 1, (4, 2), 2),  # more padding than keeps the size
        (2, (3, 3), 5, 1, (8, 8), 4),  # hardly a tap inside
        (6, (9, 12), 3, 2, (1, 1), 1),
        (6, (10, 13), 5, 3, (2, 0), 2),
    ],
)
@pytest.mark.parametrize("threads", [1, 3])
def test_gradients_are_pytorchs(channels, size, kernel, stride, padding, dilation, threads):
    torch.manual_seed(0)
    x = torch.randn(3, channels, *size).contiguous(memory_format=torch.channels_last)
    inputs = [x, torch.randn(channels, 1, kernel, kernel), torch.randn(channels)]
    ours, theirs = ([t.clone().requires_grad_() for t in inputs] for _ in range(2))
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        out = depthwise_conv2d(*ours, Geometry(stride, *padding, dilation))
        expected = F.conv2d(*theirs, stride, padding, dilation, channels)
        upstream = torch.randn_like(expected)
        assert torch.equal(out, expected)
        for mine, other in zip(
            torch.autograd.grad(out, ours, upstream), torch.autograd.grad(expected, theirs, upstream), strict=True
        ):
            assert mine.shape == other.shape
            torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-4)
    finally:
        torch.set_num_threads(before)


def test_the_number_of_threads_changes_no_bit():
    torch.manual_seed(0)
    x = torch.randn(4, 200, 9, 9, requires_grad=True)
    weight = torch.randn(200, 1, 3, 3, requires_grad=True)
    before = torch.get_num_threads()
    grads = []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        for geometry in (Geometry(1, 2, 2, 2), Geometry(2, 1, 1, 1)):
            out = depthwise_conv2d(x, weight, None, geometry)
            grads += torch.autograd.grad(out.square().sum(), (x, weight))
    torch.set_num_threads(before)
    for start in range(4):
        assert all(torch.equal(grad, grads[start]) for grad in grads[start::4])


def test_frozen_weights_cost_no_gradient():
    x = torch.randn(1, 4, 5, 5, requires_grad=True)
    weight = torch.randn(4, 1, 3, 3)
    depthwise_conv2d(x, weight, None, Geometry(1, 2, 2, 2)).sum().backward()
    assert x.grad is not None and weight.grad is None


def test_where_it_is_used():
    x, weight = torch.zeros(1, 4, 9, 9), torch.zeros(4, 1, 3, 3, requires_grad=True)
    assert pays(x, weight, Geometry(1, 2, 2, 2))
    assert not pays(x, weight, Geometry(1, 1, 1, 1))  # PyTorch is as fast
    assert pays(x, weight, Geometry(2, 1, 1, 1))
    assert not pays(x, weight, Geometry(1, 5, 5, 2))  # beyond the reach of the kernel
    assert not pays(x.double(), weight.double(), Geometry(1, 2, 2, 2))
    with torch.no_grad():  # in prediction
        assert not pays(x, weight, Geometry(1, 2, 2, 2))
    with torch.autocast("cpu", torch.bfloat16):
        assert not pays(x, weight, Geometry(1, 2, 2, 2))
