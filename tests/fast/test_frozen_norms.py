"""Frozen batch norms that are folded into convolutions."""

from __future__ import annotations

import pytest
import torch
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn

from cian.backbone.dense import Backbone
from cian.fast.frozen_norms import _pairs, exchanges
from tests.fast.helpers import assert_equal, stir, twin


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize(
    ("name", "stride"),
    [("test_efficientnet", 8), ("test_resnet", 8), ("tf_efficientnet_lite0", 16), ("resnet50", 8)],
)
def test_folded_backbones_equal_plain_ones(name, stride, train):
    """Values and gradients; every norm of these is folded."""
    torch.manual_seed(0)
    plain = Backbone(name, stride).train(train)
    stir(plain)
    fast = twin(plain)
    found = list(exchanges(fast))
    for module, attribute, function in found:
        setattr(module, attribute, function)
    norms = [module for module in fast.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(found) == 2 * len(norms) > 0
    plain.double(), fast.double()
    images = torch.randn(2, 3, 65, 65, dtype=torch.float64)
    assert_equal(plain, fast, lambda backbone: backbone(images), 1e-5)
    assert_equal(plain, fast, lambda backbone: backbone.forward_detail(images), 1e-5)


def test_backbones_without_batch_norm_are_left_alone():
    assert not list(exchanges(Backbone("test_vit", 16)))


class Odd(nn.Module):
    """Convolutions and norms that are pairs, and some that only look so."""

    def __init__(self) -> None:
        super().__init__()
        self.good, self.read_twice, self.called_twice, self.changed = (nn.Conv2d(3, 3, 1) for _ in range(4))
        self.norms = nn.ModuleList([BatchNormAct2d(3), *(nn.BatchNorm2d(3) for _ in range(4))])

    def forward(self, x: Tensor) -> Tensor:
        good = self.norms[0](self.good(x))
        read_twice = self.read_twice(good)
        x = self.norms[1](read_twice) + read_twice
        x = self.norms[2](self.called_twice(x)) + self.norms[3](self.called_twice(x + 1))
        return self.norms[4](self.changed(x).add_(1))


def test_only_a_convolution_that_the_norm_alone_reads_is_folded():
    model = Odd()
    assert _pairs(model) == [(model.good, model.norms[0])]
    assert model.training


def test_weights_that_are_loaded_later_count():
    """The norm's statistics are read at each call."""
    torch.manual_seed(0)
    plain = Backbone("test_resnet", 8).eval()
    fast = twin(plain)
    for module, attribute, function in exchanges(fast):
        setattr(module, attribute, function)
    stir(plain)
    fast.load_state_dict(plain.state_dict())
    images = torch.randn(1, 3, 33, 33)
    torch.testing.assert_close(fast(images), plain(images), rtol=1e-4, atol=1e-5)
