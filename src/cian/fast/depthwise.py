"""Depthwise convolution whose gradients are fast on CPUs.

PyTorch's CPU kernels (oneDNN) compute a depthwise convolution as fast as memory allows. The gradients of some take many
times longer: of dilated ones, strided ones, and those wider than 3×3. Without a stride, the input's gradient is another
convolution, with the kernel turned by 180 degrees. The other gradients are short compiled loops.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from cian.compiled import jit_fast

_CHANNELS = 128  # handled together, so that their sums stay in the first-level cache


class Geometry(NamedTuple):
    """Which input an output cell reads: tap a of cell h reads row h · stride + a · dilation - padding."""

    stride: int
    top: int  # padding
    left: int
    dilation: int


def pays(x: Tensor, weight: Tensor, geometry: Geometry) -> bool:
    """Whether `depthwise_conv2d` is possible, and its gradients are faster than PyTorch's."""
    stride, top, left, dilation = geometry
    return (
        torch.is_grad_enabled()
        and weight.requires_grad
        and x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and (stride > 1 or dilation > 1 or weight.shape[2] > 3)
        and all(pad <= dilation * (side - 1) for pad, side in zip((top, left), weight.shape[2:], strict=True))
    )


def depthwise_conv2d(x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
    """As `torch.nn.functional.conv2d` with as many groups as channels, on a CPU in float32.

    Shape:
        x: (N, C, H, W); weight: (C, 1, k, k); bias: (C,) or None. Returns (N, C, H', W').
    """
    return _DepthwiseConv2d.apply(x, weight, bias, geometry)


class _DepthwiseConv2d(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.geometry = geometry
        stride, top, left, dilation = geometry
        return F.conv2d(x, weight, bias, stride, (top, left), dilation, len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        grad_x = grad_weight = grad_bias = None
        if ctx.needs_input_grad[0]:
            grad_x = _input_gradient(x, grad, weight, ctx.geometry)
        if ctx.needs_input_grad[1]:
            grad_weight = _weight_gradient(x, grad, weight, ctx.geometry)
        if ctx.needs_input_grad[2]:
            grad_bias = grad.sum((0, 2, 3))
        return grad_x, grad_weight, grad_bias, None


def _input_gradient(x: Tensor, grad: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
    """(N, C, H, W)"""
    stride, top, left, dilation = geometry
    if stride == 1:
        reach = [dilation * (side - 1) - pad for side, pad in zip(weight.shape[2:], (top, left), strict=True)]
        return F.conv2d(grad, weight.flip(2, 3), None, 1, reach, dilation, len(weight))
    out = torch.empty_like(x, memory_format=torch.channels_last)
    taps = weight[:, 0].permute(1, 2, 0).contiguous().detach().numpy()  # (k, k, C)
    _in_parts(_scatter, len(x), _nhwc(grad), taps, _nhwc(out), tuple(geometry))
    return out


def _weight_gradient(x: Tensor, grad: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
    """(C, 1, k, k). Each image is summed separately, so that the number of threads does not change the result."""
    sums = np.empty((len(x), *weight.shape[2:], len(weight)), np.float32)
    jobs = len(x) * -(-len(weight) // _CHANNELS)
    _in_parts(_correlate, jobs, _nhwc(x), _nhwc(grad), sums, tuple(geometry))
    return torch.from_numpy(sums.sum(0)).permute(2, 0, 1)[:, None]


def _nhwc(x: Tensor) -> np.ndarray:
    """(N, H, W, C), without a copy where `x` is channels-last."""
    return x.permute(0, 2, 3, 1).contiguous().numpy()


def _in_parts(work: Callable[..., None], jobs: int, *args: Any) -> None:
    """Calls `work(*args, start, stop)` for as many parts of the jobs as PyTorch has threads."""
    threads = min(torch.get_num_threads(), jobs)
    cuts = [jobs * part // threads for part in range(threads + 1)]
    if threads == 1:
        work(*args, 0, jobs)
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda part: work(*args, cuts[part], cuts[part + 1]), range(threads)))


@jit_fast
def _correlate(x, grad, sums, geometry, start, stop):
    """sums[n, a, b, c] = sum over cells (h, w) of grad[n, h, w, c] · x[n, what tap (a, b) of the cell reads, c].

    Does the jobs `start` … `stop`. A job is _CHANNELS channels of an image.
    """
    stride, top, left, dilation = geometry
    _, height, width, channels = x.shape
    _, out_h, out_w, _ = grad.shape
    _, kernel_h, kernel_w, _ = sums.shape
    blocks = (channels + _CHANNELS - 1) // _CHANNELS
    for job in range(start, stop):
        n = job // blocks
        first = job % blocks * _CHANNELS
        last = min(channels, first + _CHANNELS)
        total = np.zeros((kernel_h, kernel_w, last - first), np.float32)
        for h in range(out_h):
            for a in range(kernel_h):
                row = h * stride + a * dilation - top
                if row < 0 or row >= height:
                    continue
                for b in range(kernel_w):
                    sum_ab = total[a, b]
                    for w in range(out_w):
                        col = w * stride + b * dilation - left
                        if col < 0 or col >= width:
                            continue
                        grad_w, x_w = grad[n, h, w, first:last], x[n, row, col, first:last]
                        for c in range(last - first):
                            sum_ab[c] += grad_w[c] * x_w[c]
        sums[n, :, :, first:last] = total


@jit_fast
def _scatter(grad, taps, out, geometry, start, stop):
    """out[n, what tap (a, b) of cell (h, w) reads, c] = sum of grad[n, h, w, c] · taps[a, b, c].

    Does the images `start` … `stop`.
    """
    stride, top, left, dilation = geometry
    _, height, width, channels = out.shape
    _, out_h, out_w, _ = grad.shape
    kernel_h, kernel_w, _ = taps.shape
    for n in range(start, stop):
        out[n] = 0
        for h in range(out_h):
            for a in range(kernel_h):
                row = h * stride + a * dilation - top
                if row < 0 or row >= height:
                    continue
                for w in range(out_w):
                    for b in range(kernel_w):
                        col = w * stride + b * dilation - left
                        if col < 0 or col >= width:
                            continue
                        target, grad_w, tap = out[n, row, col], grad[n, h, w], taps[a, b]
                        for c in range(channels):
                            target[c] += grad_w[c] * tap[c]
