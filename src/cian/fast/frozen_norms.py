"""The same function, faster: frozen batch norms folded into their convolutions, depthwise convolutions with faster
gradients, and the faster of two libraries.

A frozen batch norm is a scale and a shift per channel. Multiplied into the convolution's weights it costs nothing,
where a pass over the activations, and another for the gradient, would be bound by memory. The modules and the names of
their parameters stay; gradients reach the convolution's own weights.
"""

from __future__ import annotations

import threading
from functools import partial

import torch
import torch.nn.functional as F
from timm.layers.padding import pad_same
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from cian.fast.depthwise import Geometry, depthwise_conv2d, pays
from cian.training.distributed import scale_and_shift

_CUDNN = threading.Lock()  # whether cuDNN is used is one switch for all threads


def fold_frozen_norms(model: nn.Module, example: Tensor) -> int:
    """Folds each frozen batch norm of `model` into the convolution before it.

    Pairs are found by running `example` once; if the outputs were to change, nothing is folded.

    Args:
        model: in evaluation mode; its batch norms must stay frozen from now on.
        example: an input, (N, 3, H, W).

    Returns:
        The number of norms folded.
    """
    makers: dict[int, tuple[nn.Conv2d, Tensor]] = {}
    pairs: list[tuple[nn.Conv2d, _BatchNorm]] = []

    def made(conv: nn.Module, _: tuple, output: Tensor) -> None:
        makers[id(output)] = conv, output  # type: ignore[assignment]  # kept alive, or its id is given away again

    def used(norm: nn.Module, inputs: tuple) -> None:
        if id(inputs[0]) in makers:
            pairs.append((makers.pop(id(inputs[0]))[0], norm))  # type: ignore[arg-type]

    hooks = []
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            hooks.append(module.register_forward_hook(made))
        elif isinstance(module, _BatchNorm):
            hooks.append(module.register_forward_pre_hook(used))
    with torch.no_grad():
        before = model(example)
        for hook in hooks:
            hook.remove()
        for conv, norm in pairs:
            conv.forward = partial(_folded, conv, norm)  # type: ignore[method-assign]
            norm.forward = getattr(norm, "act", nn.Identity()).forward  # type: ignore[method-assign]  # timm's activate
        if not torch.allclose(model(example), before, rtol=1e-3, atol=1e-3 * float(before.abs().max())):
            for module in (module for pair in pairs for module in pair):
                del module.forward
            return 0
    return len(pairs)


def _folded(conv: nn.Conv2d, norm: _BatchNorm, x: Tensor) -> Tensor:
    """norm(conv(x)) as one convolution."""
    assert norm.running_mean is not None and norm.running_var is not None
    scale, shift = scale_and_shift(norm, norm.running_mean, norm.running_var)
    if conv.bias is not None:
        shift = shift + conv.bias * scale
    return convolve(conv, x, conv.weight * scale[:, None, None, None], shift)


def convolve(conv: nn.Conv2d, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """What `conv` does, with another weight and bias."""
    padding = conv.padding
    if type(conv).__name__ == "Conv2dSame":  # TensorFlow's padding, which depends on the size
        x = pad_same(x, list(conv.kernel_size), list(conv.stride), list(conv.dilation))
        padding = (0, 0)
    assert not isinstance(padding, str)
    stride, dilation = conv.stride[0], conv.dilation[0]
    even = conv.stride == (stride, stride) and conv.dilation == (dilation, dilation)
    if even and conv.groups == conv.in_channels == conv.out_channels:
        geometry = Geometry(stride, padding[0], padding[1], dilation)
        if pays(x, weight, geometry):
            return depthwise_conv2d(x, weight, bias, geometry)
        if x.is_cuda and not torch.is_grad_enabled() and not torch.compiler.is_compiling():
            # cuDNN compiles such a kernel anew for every size of image: lite0 2 s each; torch has one for all of them.
            with _CUDNN, torch.backends.cudnn.flags(enabled=False):
                return F.conv2d(x, weight, bias, conv.stride, padding, conv.dilation, conv.groups)
    if _wants_onednn(x, weight):
        return torch.mkldnn_convolution(x, weight, bias, padding, conv.stride, conv.dilation, conv.groups)
    return F.conv2d(x, weight, bias, conv.stride, padding, conv.dilation, conv.groups)


class Conv2d(nn.Conv2d):
    """torch's, by `convolve`."""

    def forward(self, input: Tensor) -> Tensor:
        return convolve(self, input, self.weight, self.bias)


def _wants_onednn(x: Tensor, weight: Tensor) -> bool:
    """Whether torch, left alone, would multiply matrices by its slower library: in a thread of its own, as each core's
    image is predicted, it takes oneDNN for large batches and large kernels only."""
    return (
        x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and torch.get_num_threads() == 1
        and torch.backends.mkldnn.is_available()
        and bool(torch.backends.mkldnn.enabled)
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()  # exports know conv2d only
    )
