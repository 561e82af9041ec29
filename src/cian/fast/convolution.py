"""Convolutions by the faster of PyTorch's kernels."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import TypeGuard

import torch
import torch.nn.functional as F
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.padding import pad_same
from torch import Tensor, nn

from cian.backbone.dense import Backbone
from cian.fast.depthwise import Geometry, depthwise_conv2d, pays

_CUDNN = threading.Lock()  # cuDNN has one switch for all threads


def exchanges(network: nn.Module) -> Iterator[tuple[nn.Module, str, Callable[[Tensor], Tensor]]]:
    """`forward` of the plain convolutions outside of backbones. (For those inside, see `frozen_norms`.)"""
    inside = {part for module in network.modules() if isinstance(module, Backbone) for part in module.modules()}
    for module in network.modules():
        if is_plain(module) and module not in inside:
            yield module, "forward", partial(_forward, module)


def is_plain(module: nn.Module) -> TypeGuard[nn.Conv2d]:
    """Whether `convolve` does what a module does: PyTorch's own convolution or timm's with TensorFlow's padding, which
    pad with zeros. Other subclasses may change their weights."""
    return (
        isinstance(module, nn.Conv2d)
        and type(module) in (nn.Conv2d, Conv2dSame)
        and module.padding_mode == "zeros"
        and not isinstance(module.padding, str)
    )


def _forward(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """conv(x). Shape: (N, C, H, W) → (N, C', H', W')."""
    return convolve(conv, x, conv.weight, conv.bias)


def convolve(conv: nn.Conv2d, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """What `conv` does, with another weight and bias.

    Shape:
        x: (N, C, H, W); weight: (C', C / groups, k, k); bias: (C',). Returns (N, C', H', W').
    """
    padding = conv.padding
    if type(conv) is Conv2dSame:  # TensorFlow's padding, which depends on the image's size
        x = pad_same(x, list(conv.kernel_size), list(conv.stride), list(conv.dilation))
        padding = (0, 0)
    assert not isinstance(padding, str)
    stride, dilation = conv.stride[0], conv.dilation[0]
    even = conv.stride == (stride, stride) and conv.dilation == (dilation, dilation)
    if even and conv.groups == conv.in_channels == conv.out_channels:
        geometry = Geometry(stride, padding[0], padding[1], dilation)
        if pays(x, weight, geometry):
            return depthwise_conv2d(x, weight, bias, geometry)
        if x.is_cuda and not torch.is_grad_enabled():
            # cuDNN compiles such a kernel for every new size of image (lite0: 2 s each); torch has one for all sizes.
            with _CUDNN, torch.backends.cudnn.flags(enabled=False):
                return F.conv2d(x, weight, bias, conv.stride, padding, conv.dilation, conv.groups)
    if _wants_onednn(x, weight):
        return torch.mkldnn_convolution(x, weight, bias, padding, conv.stride, conv.dilation, conv.groups)
    return F.conv2d(x, weight, bias, conv.stride, padding, conv.dilation, conv.groups)


def _wants_onednn(x: Tensor, weight: Tensor) -> bool:
    """Whether PyTorch might choose its slower library: with one thread, as in prediction, where each core takes an
    image of its own, it uses oneDNN only for large batches and large kernels."""
    return (
        x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and torch.get_num_threads() == 1
        and torch.backends.mkldnn.is_available()
        and bool(torch.backends.mkldnn.enabled)
        and not torch.is_autocast_enabled("cpu")
    )
