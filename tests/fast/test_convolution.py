"""Convolutions by the faster kernel equal PyTorch's own."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.std_conv import StdConv2d
from torch import nn

from cian.fast.convolution import convolve, exchanges
from tests.fast.helpers import assert_equal, threads, twin

CONVOLUTIONS = {
    "1×1": nn.Conv2d(6, 4, 1),
    "dilated depthwise": nn.Conv2d(6, 6, 3, padding=2, dilation=2, groups=6),
    "5×5 depthwise without bias": nn.Conv2d(6, 6, 5, padding=2, groups=6, bias=False),
    "strided depthwise": nn.Conv2d(6, 6, 3, stride=2, padding=1, groups=6),
    "grouped": nn.Conv2d(6, 4, (3, 1), stride=2, padding=(2, 0), groups=2),
    "TensorFlow's padding": Conv2dSame(6, 4, 3, stride=2),
    "depthwise, TensorFlow's padding": Conv2dSame(6, 6, 5, stride=2, groups=6),
}


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_equals_pytorchs(name, train, number):
    torch.manual_seed(0)
    plain = nn.Sequential(CONVOLUTIONS[name]).train(train)
    fast = twin(plain)
    for module, attribute, function in exchanges(fast):
        setattr(module, attribute, function)
    assert "forward" in fast[0].__dict__
    x = torch.randn(2, 6, 9, 8)
    with threads(number):
        assert_equal(plain, fast, lambda model: model(x), 1e-5)


def test_depthwise_gradients_are_ours_where_they_pay():
    x = torch.zeros(1, 4, 9, 9)
    depthwise = nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=4)
    assert "DepthwiseConv2d" in type(convolve(depthwise, x, depthwise.weight, depthwise.bias).grad_fn).__name__
    dense = nn.Conv2d(4, 4, 3, padding=2, dilation=2)
    assert "DepthwiseConv2d" not in type(convolve(dense, x, dense.weight, dense.bias).grad_fn).__name__


def test_one_thread_takes_the_fast_library():
    """In float32 alone. The arguments of the two functions stand in another order."""
    torch.manual_seed(0)
    conv = nn.Conv2d(6, 4, (3, 1), stride=2, padding=(2, 0), groups=2)
    x = torch.randn(2, 6, 9, 7)
    with threads(1):
        out = convolve(conv, x, conv.weight, conv.bias)
        assert "Mkldnn" in type(out.grad_fn).__name__
        torch.testing.assert_close(out, F.conv2d(x, conv.weight, conv.bias, conv.stride, conv.padding, 1, 2))
        with torch.autocast("cpu", torch.bfloat16):
            assert convolve(conv, x, conv.weight, conv.bias).dtype == torch.bfloat16
        double = conv.double()
        assert "Mkldnn" not in type(convolve(double, x.double(), double.weight, double.bias).grad_fn).__name__


@pytest.mark.parametrize(
    "conv",
    [StdConv2d(6, 4, 3), nn.Conv2d(6, 4, 3, padding=1, padding_mode="reflect"), nn.Conv2d(6, 4, 3, padding="same")],
)
def test_convolutions_of_another_kind_stay(conv):
    """Those that change their weights, and those that pad otherwise."""
    assert not list(exchanges(nn.Sequential(conv)))
