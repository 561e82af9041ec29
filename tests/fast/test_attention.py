"""Messages with and without the affinity matrix in memory."""

from __future__ import annotations

import pytest
import torch

from cian import affinity
from cian.affinity import CrossImageAffinity
from cian.fast import attention
from cian.fast.attention import exchanges
from tests.fast.helpers import assert_equal, twin


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("group_size", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_the_plain_module(similarity, train, group_size, dtype):
    """In float64 also the gradients of cosine similarity, which float32 rounds by up to 5e-4, whichever way."""
    torch.manual_seed(0)
    plain = CrossImageAffinity(8, 16, similarity).train(train)
    for parameter in plain.parameters():
        torch.nn.init.normal_(parameter)
    plain.to(dtype)
    fast = twin(plain)
    for module, name, function in exchanges(fast):
        setattr(module, name, function)
    assert fast.attend.keywords["attention"] is attention.retrieve
    x = torch.randn(4, 8, 9, 7, dtype=dtype)
    rounding = 1e-11 if dtype == torch.float64 else 1e-5 if similarity == "dot" else 1e-3
    assert_equal(plain, fast, lambda module: module(x, group_size), rounding)


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
@pytest.mark.parametrize("held", [True, False])
def test_bfloat16_is_as_near_to_the_truth_either_way(monkeypatch, held, similarity):
    """Messages and gradients, with the matrix and by the fused kernel; the plain function rounds as much."""
    if not held:
        monkeypatch.setattr(attention, "MOST_HELD", 0)
    torch.manual_seed(0)
    exact = [torch.randn(2, 16, side, side, dtype=torch.float64, requires_grad=True) for side in (9, 5, 5)]
    weight = torch.randn(2, 16, 9, 9, dtype=torch.float64)
    expected = affinity.retrieve(*exact, similarity)
    truth = [expected, *torch.autograd.grad((expected * weight).sum(), exact)]
    for retrieve in (attention.retrieve, affinity.retrieve):
        rough = [x.detach().bfloat16().requires_grad_() for x in exact]
        found = retrieve(*rough, similarity)
        assert found.dtype == torch.bfloat16
        for a, b in zip((found, *torch.autograd.grad((found * weight).sum(), rough)), truth, strict=True):
            assert (a.double() - b).norm() < 0.02 * b.norm()
