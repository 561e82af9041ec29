"""Sums over all processes of a distributed training, so that together they compute what one computes alone.

Each process has a part of the batch. `DistributedDataParallel` averages the gradients over the processes. So a loss
that is a mean over the whole batch is, in each process, its own sum times the number of processes, divided by the count
of all.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from cian.errors import CianError, ReportedByMain

if TYPE_CHECKING:
    from accelerate import Accelerator  # slow to import; loading a model needs this file

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
    outcome: list[Any] = [result, failure is not None]
    if world() > 1:
        dist.broadcast_object_list(outcome)
    if failure is not None:
        raise failure
    result, failed = outcome
    if failed:
        raise ReportedByMain("The main process of this run reports an error.")
    return result


def leave() -> None:
    """Ends this process's part in a distributed run that went well, before the interpreter ends: during its end,
    threads of the process group sometimes abort it."""
    if world() > 1:
        dist.destroy_process_group()


def all_reduce_sum(x: Tensor) -> Tensor:
    """The sum of `x` over all processes, in each of them. Gradients flow back into all of them."""
    return x if world() == 1 else _AllReduceSum.apply(x)


class _AllReduceSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = x.clone()
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return _AllReduceSum.apply(grad)


def average(total: Tensor, count: Tensor) -> Tensor:
    """As `losses.average`, over the values of all processes: this process's part of their mean. Shape: scalars."""
    return total * world() / all_reduce_sum(count).clamp(min=1)


def join_batch_norms(model: nn.Module) -> None:
    """Lets batch norms that train normalise by the statistics of all processes' images, on any device.

    Every process must hold as many cells as the others.
    """
    if world() > 1:
        for norm in model.modules():
            if isinstance(norm, nn.BatchNorm2d) and norm.training:
                norm.forward = partial(_batch_norm, norm)  # type: ignore[method-assign]


def _batch_norm(norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """Shape: (N, C, H, W) → (N, C, H, W)."""
    if not norm.training:
        return nn.BatchNorm2d.forward(norm, x)
    precise = x.to(torch.promote_types(x.dtype, torch.float32))
    mean = all_reduce_sum(precise.mean((0, 2, 3))) / world()  # (C,)
    centred = precise - mean[:, None, None]  # (N, C, H, W)
    var = all_reduce_sum(centred.square().mean((0, 2, 3))) / world()  # (C,)
    track(norm, mean, var, world() * x.numel() // x.shape[1])
    scale = norm.weight * torch.rsqrt(var + norm.eps)  # (C,)
    return (centred * scale[:, None, None] + norm.bias[:, None, None]).to(x.dtype)


def track(norm: nn.BatchNorm2d, mean: Tensor, var: Tensor, count: int) -> None:
    """Moves the running statistics of a batch norm towards those of a batch.

    Args:
        mean, var: (C,), over `count` cells; `var` is divided by `count`.
    """
    assert norm.running_mean is not None and norm.running_var is not None and norm.num_batches_tracked is not None
    assert norm.momentum is not None
    with torch.no_grad():
        norm.num_batches_tracked += 1
        norm.running_mean.lerp_(mean, norm.momentum)
        norm.running_var.lerp_(var * count / (count - 1), norm.momentum)
