"""Depthwise convolution whose gradients are fast on CPUs.

PyTorch's CPU kernels (oneDNN) run a dilated depthwise convolution forwards as fast as memory allows, but backwards many
times slower, and so is the weights' gradient of kernels wider than 3×3. The input's gradient is a forward convolution
again, with the kernel turned around; the weights' is a short loop. benchmarks/depthwise.py measures both.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from cian.compiled import jit_fast

_CHANNELS = 128  # summed together, so that their sums stay in the first-level cache


def pays(x: Tensor, weight: Tensor, padding: tuple[int, int], dilation: int) -> bool:
    """Whether `depthwise_conv2d` can do a depthwise convolution of stride 1, and is faster than PyTorch's gradients."""
    return (
        torch.is_grad_enabled()
        and weight.requires_grad
        and x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and (dilation > 1 or weight.shape[2] > 3)
        and all(pad <= dilation * (side - 1) for pad, side in zip(padding, weight.shape[2:], strict=True))
    )


def depthwise_conv2d(x: Tensor, weight: Tensor, bias: Tensor | None, padding: tuple[int, int], dilation: int) -> Tensor:
    """`torch.nn.functional.conv2d` of stride 1 with as many groups as channels, on a CPU in float32.

    Shape:
        x: (N, C, H, W); weight: (C, 1, k, k); bias: (C,) or None. Returns (N, C, H', W').
    """
    return _DepthwiseConv2d.apply(x, weight, bias, padding, dilation)


class _DepthwiseConv2d(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, padding: tuple[int, int], dilation: int
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.padding, ctx.dilation = padding, dilation
        return F.conv2d(x, weight, bias, 1, padding, dilation, len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        grad_x = grad_weight = grad_bias = None
        if ctx.needs_input_grad[0]:
            sides = zip(weight.shape[2:], ctx.padding, strict=True)
            reach = [ctx.dilation * (side - 1) - pad for side, pad in sides]
            grad_x = F.conv2d(grad, weight.flip(2, 3), None, 1, reach, ctx.dilation, len(weight))
        if ctx.needs_input_grad[1]:
            grad_weight = _weight_gradient(x, grad, weight, ctx.padding, ctx.dilation)
        if ctx.needs_input_grad[2]:
            grad_bias = grad.sum((0, 2, 3))
        return grad_x, grad_weight, grad_bias, None, None


def _weight_gradient(x: Tensor, grad: Tensor, weight: Tensor, padding: tuple[int, int], dilation: int) -> Tensor:
    """(C, 1, k, k). Each image is summed by itself, so that the result is the same for any number of threads."""
    n, channels = x.shape[:2]
    kernel = weight.shape[2:]
    inputs, grads = (t.permute(0, 2, 3, 1).contiguous().numpy() for t in (x, grad))  # (N, H, W, C), no copy for nhwc
    sums = np.empty((n, *kernel, channels), np.float32)
    jobs = n * -(-channels // _CHANNELS)
    threads = min(torch.get_num_threads(), jobs)
    cuts = [jobs * part // threads for part in range(threads + 1)]

    def work(part: int) -> None:
        _correlate(inputs, grads, sums, padding, dilation, cuts[part], cuts[part + 1])

    if threads == 1:
        work(0)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(work, range(threads)))
    return torch.from_numpy(sums.sum(0)).permute(2, 0, 1)[:, None]


@jit_fast
def _correlate(x, grad, sums, padding, dilation, start, stop):
    """sums[n, a, b, c] = sum over (h, w) of grad[n, h, w, c] · x[n, h + a · dilation - padding, …, c].

    Does the jobs `start` … `stop`; a job is _CHANNELS channels of an image.
    """
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
                row = h + a * dilation - padding[0]
                if row < 0 or row >= height:
                    continue
                for b in range(kernel_w):
                    sum_ab = total[a, b]
                    for w in range(out_w):
                        col = w + b * dilation - padding[1]
                        if col < 0 or col >= width:
                            continue
                        grad_w, x_w = grad[n, h, w, first:last], x[n, row, col, first:last]
                        for c in range(last - first):
                            sum_ab[c] += grad_w[c] * x_w[c]
        sums[n, :, :, first:last] = total
