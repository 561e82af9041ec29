"""All exchanges together, and the plain network, which is exported as it is."""

from __future__ import annotations

import copy

import pytest
import torch
from packaging.version import Version
from torch.export import Dim, export

from cian.build import build_network
from cian.config import load_config
from cian.fast import speed_up
from cian.network import CIAN
from cian.seeds.classifier import build_classifier
from tests.fast.helpers import assert_equal, stir, threads
from tests.helpers import TINY

CONFIG = load_config(None, TINY)


def plain_network(monkeypatch: pytest.MonkeyPatch, build=build_network):
    """As `build` makes it with CIAN_PLAIN=1, its batch norms stirred."""
    monkeypatch.setenv("CIAN_PLAIN", "1")
    torch.manual_seed(0)
    network = build(CONFIG, 3)
    monkeypatch.delenv("CIAN_PLAIN")
    stir(network)
    return network


@pytest.mark.parametrize("train", [True, False])
def test_fast_network_equals_the_plain_one(monkeypatch, train):
    plain = plain_network(monkeypatch).double().train(train)
    assert not any("forward" in module.__dict__ for module in plain.modules())
    fast = speed_up(copy.deepcopy(plain))
    assert "forward" in fast.__dict__
    assert plain.state_dict().keys() == fast.state_dict().keys()
    images = torch.randn(4, 3, 49, 65, dtype=torch.float64)
    assert_equal(plain, fast, lambda network: network(images, 2), 1e-6)


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("number", [1, 2])
def test_fast_network_is_as_near_to_the_truth_as_the_plain_one(monkeypatch, train, number):
    """Logits in float32, which choose other kernels, against the plain network in float64."""
    plain = plain_network(monkeypatch).train(train)
    fast = speed_up(copy.deepcopy(plain))
    images = torch.randn(4, 3, 49, 65)
    with torch.no_grad(), threads(number):
        found, rough = fast(images, 2), plain(images, 2)
        exact = plain_network(monkeypatch).train(train).double()(images.double(), 2)
    for a, b, truth in zip(found, rough, exact, strict=True):
        allowed = max(1e-5 * truth.norm(), 3 * (b - truth).norm())
        assert (a - truth).norm() < allowed


@pytest.mark.parametrize("train", [True, False])
def test_fast_classifier_equals_the_plain_one(monkeypatch, train):
    plain = plain_network(monkeypatch, build_classifier).train(train)
    fast = speed_up(copy.deepcopy(plain))
    images = torch.randn(4, 3, 49, 65)
    assert_equal(plain, fast, lambda network: network(images), 1e-5)


def test_a_copy_of_a_fast_network_is_independent(monkeypatch):
    """The functions that were exchanged belong to the copy's own modules."""
    fast = speed_up(plain_network(monkeypatch)).eval()
    other = copy.deepcopy(fast)
    images = torch.randn(2, 3, 49, 49)
    before = fast(images)[0]
    for parameter in other.parameters():
        torch.nn.init.zeros_(parameter)
    assert torch.equal(fast(images)[0], before)
    assert not torch.equal(other(images)[0], before)


# torch.export of 2.10 and before allows only sizes that all strides divide; 2.14 allows any.
@pytest.mark.skipif(Version(torch.__version__) < Version("2.14"), reason="torch.export of before 2.14 fixes sizes")
@pytest.mark.parametrize(("name", "extent"), [("test_efficientnet", 1), ("test_resnet", 8)])
def test_plain_network_is_exported_with_any_batch_and_size(monkeypatch, name, extent):
    """As it is. A residual network takes the sizes that fit its grid, 8 n + 1."""
    monkeypatch.setenv("CIAN_PLAIN", "1")
    torch.manual_seed(0)
    network = build_network(load_config(None, {**TINY, "backbone.name": name, "backbone.output_stride": 8}), 3).eval()
    stir(network)
    if extent == 8:
        height, width = 8 * Dim("rows", min=4, max=256) + 1, 8 * Dim("columns", min=4, max=256) + 1
    else:
        height, width = Dim("height", min=33, max=2049), Dim("width", min=33, max=2049)
    sizes = {"images": {0: Dim("batch", max=64), 2: height, 3: width}}
    exported = export(network, (torch.randn(2, 3, 65, 97),), dynamic_shapes=sizes).module()
    for size in ((2, 3, 65, 97), (1, 3, 129, 65), (3, 3, 49, 57)):
        images = torch.randn(size)
        with torch.no_grad():
            torch.testing.assert_close(exported(images)[0], network(images)[0], rtol=1e-5, atol=1e-6)


def test_the_plain_forward_pass_goes_through_the_module(monkeypatch):
    """What is tested against the authors' numbers is what the plain network runs."""
    network = plain_network(monkeypatch).eval()
    assert isinstance(network, CIAN) and network.affinity is not None
    images = torch.randn(2, 3, 49, 49)
    expected = [network.head(features) for features in network.affinity(network.backbone(images), 2)]
    torch.testing.assert_close(network(images, 2), tuple(expected))
