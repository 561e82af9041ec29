"""The head's convolution of X + r, as one of X and one of the messages."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from cian.affinity import CrossImageAffinity
from cian.backbone.dense import Backbone
from cian.backbone.grid import Grid
from cian.fast.fused_head import convolve_residual, exchanges
from cian.network import CIAN
from tests.fast.helpers import assert_equal, stir, twin

# PyTorch before 2.9 sums in another order: up to 1.5e-5.
TOLERANCE = 1e-5 if tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 9) else 2e-5


class Pixels(nn.Conv2d):
    """In place of a backbone: features that differ from cell to cell, so that rounding is not magnified."""

    channels, grid = 16, Grid(1, "corner", (0, 0, 0), (1, 1, 1))

    def __init__(self) -> None:
        super().__init__(3, self.channels, 1)


def networks(train: bool, **options) -> tuple[CIAN, CIAN]:
    """A plain network and its fast twin."""
    torch.manual_seed(0)
    plain = CIAN(Pixels(), 3, CrossImageAffinity(16, 8, **options), head_dilation=2).train(train)
    for parameter in plain.parameters():
        nn.init.normal_(parameter, std=0.5)
    stir(plain)
    fast = twin(plain)
    for module, name, function in exchanges(fast):
        setattr(module, name, function)
    return plain, fast


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("group_size", [1, 2])
@pytest.mark.parametrize("options", [{}, {"merge": "mean", "pool": False, "include_self": False}])
def test_equals_the_plain_network(train, group_size, options):
    """Logits, gradients and running statistics."""
    plain, fast = networks(train, **options)
    images = torch.randn(4, 3, 9, 11)
    assert_equal(plain, fast, lambda network: network(images, group_size), TOLERANCE)


def test_without_affinity_nothing_is_exchanged():
    assert not list(exchanges(CIAN(Backbone("test_efficientnet", 8), 3)))


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("dilation", [1, 3])
def test_convolution_of_the_residual(train, dilation):
    """In float64; cells at the border, where a dilated convolution sees zeros, are included."""
    torch.manual_seed(0)
    module = nn.ModuleDict({
        "affinity": CrossImageAffinity(6, 3),
        "conv": nn.Conv2d(6, 2, 3, padding=dilation, dilation=dilation, bias=False),
    }).double().train(train)  # fmt: skip
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    nn.init.uniform_(module["affinity"].norm.running_var, 0.5, 2)
    message = torch.randn(4, 3, 5, 7, dtype=torch.float64, requires_grad=True)
    other = twin(module)

    def run(module: nn.ModuleDict, out: Tensor) -> list[Tensor]:
        affinity = module["affinity"]
        inputs = [message, affinity.project.weight, affinity.norm.weight, affinity.norm.bias, module["conv"].weight]
        upstream = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)
        return [out, *torch.autograd.grad(out, inputs, upstream), *affinity.norm.buffers()]

    found = run(module, convolve_residual(module["affinity"], message, module["conv"]))
    affinity = other["affinity"]
    expected = run(other, other["conv"](affinity.norm(affinity.project(message))))
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("train", [True, False])
def test_bfloat16_is_as_near_to_the_truth_as_the_plain_network(train):
    """Logits under autocast, against the plain network in float32."""
    plain, fast = networks(train)
    images = torch.randn(4, 3, 9, 11)
    with torch.no_grad():
        exact = twin(plain)(images, 2)
        with torch.autocast("cpu", torch.bfloat16):
            rough, found = plain(images, 2), fast(images, 2)
    for truth, a, b in zip(exact, rough, found, strict=True):
        assert b.dtype == torch.bfloat16
        assert (b.float() - truth).norm() < max(0.02 * truth.norm(), 2 * (a.float() - truth).norm())
