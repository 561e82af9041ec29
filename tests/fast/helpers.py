"""What the tests of the exchanges share: a plain network beside its fast twin."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

Forward = Callable[[nn.Module], Sequence[Tensor | None] | Tensor]


def stir(model: nn.Module) -> None:
    """Gives batch norms random statistics, scales and shifts, so that one left out or applied twice shows."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.8, 1.5)
            module.weight.data.uniform_(0.8, 1.2)
            module.bias.data.normal_(std=0.1)


def values_and_gradients(model: nn.Module, forward: Forward) -> tuple[list[Tensor], dict[str, Tensor]]:
    """Outputs of `forward(model)`; and the gradients of every parameter, and the buffers afterwards, by name."""
    outputs = forward(model)
    outputs = [outputs] if isinstance(outputs, Tensor) else [output for output in outputs if output is not None]
    upstream = [torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out) for out in outputs]
    model.zero_grad()
    torch.autograd.backward(outputs, upstream)
    named = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return [out.detach() for out in outputs], named | {name: b.clone().float() for name, b in model.named_buffers()}


def assert_equal(plain: nn.Module, fast: nn.Module, forward: Forward, tolerance: float) -> None:
    """Values, gradients and buffers are equal up to `tolerance` of the largest number of each tensor."""
    values, named = values_and_gradients(fast, forward)
    expected_values, expected = values_and_gradients(plain, forward)
    assert named.keys() == expected.keys() and len(values) == len(expected_values) > 0
    found = {f"output {i}": value for i, value in enumerate(values)} | named
    wanted = {f"output {i}": value for i, value in enumerate(expected_values)} | expected
    for name, value in found.items():
        scale = float(wanted[name].abs().max()) + 1e-12
        difference = float((value - wanted[name]).abs().max()) / scale
        assert difference <= tolerance, f"{name}: differs by {difference:.1e} of its largest value"


def twin(model: nn.Module) -> nn.Module:
    return copy.deepcopy(model)


@contextmanager
def threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
