"""Gradients of depthwise convolutions against PyTorch's own."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from cian.depthwise import depthwise_conv2d, pays
from cian.folding import convolve


@pytest.mark.parametrize(
    ("channels", "size", "kernel", "padding", "dilation"),
    [
        (5, (9, 11), 5, (2, 2), 1),
        (130, (9, 7), 3, (2, 2), 2),  # more than one block of channels
        (16, (17, 17), 5, (4, 4), 2),
        (3, (12, 13), 3, (0, 0), 4),  # no padding: smaller output
        (4, (8, 8), 3, (4, 2), 2),  # more padding than keeps the size
        (2, (3, 3), 5, (8, 8), 4),  # hardly a tap inside
    ],
)
@pytest.mark.parametrize("threads", [1, 3])
def test_gradients_are_pytorchs(channels, size, kernel, padding, dilation, threads):
    torch.manual_seed(0)
    x = torch.randn(3, channels, *size).contiguous(memory_format=torch.channels_last)
    inputs = [x, torch.randn(channels, 1, kernel, kernel), torch.randn(channels)]
    ours, theirs = ([t.clone().requires_grad_() for t in inputs] for _ in range(2))
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        out = depthwise_conv2d(*ours, padding, dilation)
        expected = F.conv2d(*theirs, 1, padding, dilation, channels)
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
    x, weight = torch.randn(4, 200, 9, 9), torch.randn(200, 1, 3, 3, requires_grad=True)
    before = torch.get_num_threads()
    grads = []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        grads += torch.autograd.grad(depthwise_conv2d(x, weight, None, (2, 2), 2).square().sum(), weight)
    torch.set_num_threads(before)
    assert all(torch.equal(grad, grads[0]) for grad in grads)


def test_frozen_weights_cost_no_gradient():
    x = torch.randn(1, 4, 5, 5, requires_grad=True)
    weight = torch.randn(4, 1, 3, 3)
    depthwise_conv2d(x, weight, None, (2, 2), 2).sum().backward()
    assert x.grad is not None and weight.grad is None


def test_where_it_is_used():
    x, weight = torch.zeros(1, 4, 9, 9), torch.zeros(4, 1, 3, 3, requires_grad=True)
    assert pays(x, weight, (2, 2), 2)
    assert not pays(x, weight, (1, 1), 1)  # PyTorch is as fast
    assert not pays(x, weight, (5, 5), 2)  # beyond the reach of the kernel
    assert not pays(x.double(), weight.double(), (2, 2), 2)
    with torch.no_grad():  # prediction and export see plain convolutions
        assert not pays(x, weight, (2, 2), 2)
    with torch.autocast("cpu", torch.bfloat16):
        assert not pays(x, weight, (2, 2), 2)
    conv = torch.nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=4)
    assert "DepthwiseConv2d" in type(convolve(conv, x, conv.weight, conv.bias).grad_fn).__name__
    plain = torch.nn.Conv2d(4, 4, 3, padding=2, dilation=2)
    assert "DepthwiseConv2d" not in type(convolve(plain, x, plain.weight, plain.bias).grad_fn).__name__
