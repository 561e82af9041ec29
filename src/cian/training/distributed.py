"""Sums over all processes of a distributed run, so that together they compute what one with the whole batch would.

Gradients are averaged over processes (`DistributedDataParallel`), so a loss that is a mean over the whole batch is, in
each process, its share of the sum times the number of processes, divided by the whole count.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from cian.errors import CianError, ReportedByMain

Result = TypeVar("Result")


def world() -> int:
    """The number of processes that train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def on_main(accelerator: Accelerator, work: Callable[[], Result]) -> Result:
    """Calls `work` in the main process and gives its result to all processes.

    Raises:
        CianError, OSError: `work` raised it, in the main process.
        ReportedByMain: `work` failed, in the other processes.
    """
    result: Result | None = None
    failure: CianError | OSError | None = None
    if accelerator.is_main_process:
        try:
            result = work()
        except (CianError, OSError) as error:
            failure = error
    result, failed = broadcast_object_list([result, failure is not None])
    if failure is not None:
        raise failure
    if failed:
        raise ReportedByMain("The main process of this run reports an error.")
    return result


def leave() -> None:
    """Ends this process's part in a distributed run that went well, before the interpreter does: while that goes down,
    threads of the process group now and then abort it."""
    if world() > 1:
        dist.destroy_process_group()


def all_reduce_sum(x: Tensor) -> Tensor:
    """The sum of `x` over all processes, in each of them; gradients flow back into all of them."""
    return x if world() == 1 else _Total.apply(x)


class _Total(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = x.clone()
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return _Total.apply(grad)


class BatchNorm(nn.BatchNorm2d):
    """Batch norm whose statistics in training are those of all processes' images, on any device.

    Every process must hold as many cells as the others.

    Shape:
        (N, C, H, W), as is the result.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or world() == 1:
            return super().forward(x)
        mean = all_reduce_sum(x.float().mean((0, 2, 3))) / world()
        centred = x.float() - mean[:, None, None]
        var = all_reduce_sum(centred.square().mean((0, 2, 3))) / world()
        self.track(mean, var, world() * x.numel() // x.shape[1])
        scale, _ = scale_and_shift(self, mean, var)
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(x.dtype)

    def track(self, mean: Tensor, var: Tensor, count: int) -> None:
        """Lets the statistics of a batch, (C,) over `count` cells each, enter the running ones; `var` is divided by
        `count`."""
        assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
        assert self.momentum is not None
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(var * count / (count - 1), self.momentum)


def scale_and_shift(norm: _BatchNorm, mean: Tensor, var: Tensor) -> tuple[Tensor, Tensor]:
    """What a batch norm with these statistics, (C,), multiplies each channel by, and adds to it."""
    scale = norm.weight * torch.rsqrt(var + norm.eps)
    return scale, norm.bias - mean * scale
