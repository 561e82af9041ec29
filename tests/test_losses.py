from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from cian.losses import cian_loss, completion_target, label_loss
from tests.helpers import shared


@pytest.fixture(scope="module")
def reference():
    file = np.load(shared("reference/affinity_and_losses.npz"))
    return {name: torch.from_numpy(file[name]) for name in file}


def test_seed_gradient_equals_the_authors(reference):
    logits = reference["loss_logit_self"].clone().requires_grad_()
    label_loss(logits, reference["loss_label"]).backward()
    torch.testing.assert_close(logits.grad, reference["loss_segment_grad"], rtol=0, atol=1e-7)


def test_completion_gradient_equals_the_authors(reference):
    logits = reference["loss_logit_self"].clone().requires_grad_()
    target = completion_target(reference["loss_logit_cross"], reference["loss_label"])
    label_loss(logits, target).backward()
    torch.testing.assert_close(logits.grad, reference["loss_completion_grad"], rtol=0, atol=1e-7)


def test_hand_computed():
    """Two labelled cells of three: softmax of (0, ln 3) is (1/4, 3/4)."""
    logits = torch.tensor([0.0, math.log(3)]).view(1, 2, 1, 1).expand(1, 2, 1, 3)
    seeds = torch.tensor([[[0, 1, 255]]])
    assert label_loss(logits, seeds).item() == pytest.approx((math.log(4) + math.log(4 / 3)) / 2)


def test_no_valid_cell_gives_zero_loss_and_gradient():
    logits = torch.randn(2, 3, 4, 4, requires_grad=True)
    loss = label_loss(logits, torch.full((2, 4, 4), 255))
    loss.backward()
    assert loss.item() == 0 and logits.grad.abs().sum() == 0


def test_balanced_is_the_mean_of_foreground_and_background():
    """Three background cells and one of foreground; softmax of (0, ln 3) is (1/4, 3/4)."""
    logits = torch.tensor([0.0, math.log(3)]).view(1, 2, 1, 1).expand(1, 2, 1, 4)
    seeds = torch.tensor([[[0, 0, 0, 1]]])
    assert label_loss(logits, seeds, balanced=True).item() == pytest.approx((math.log(4) + math.log(4 / 3)) / 2)
    assert label_loss(logits, seeds).item() == pytest.approx((3 * math.log(4) + math.log(4 / 3)) / 4)


@pytest.mark.parametrize("balanced", [False, True])
def test_robust_by_hand(balanced):
    """(1 - p^q) / q; softmax of (0, ln 3) is (1/4, 3/4)."""
    logits = torch.tensor([0.0, math.log(3)]).view(1, 2, 1, 1).expand(1, 2, 1, 4)
    seeds = torch.tensor([[[0, 0, 0, 1]]])
    unlikely, likely = ((1 - p**0.7) / 0.7 for p in (1 / 4, 3 / 4))
    expected = (unlikely + likely) / 2 if balanced else (3 * unlikely + likely) / 4
    assert label_loss(logits, seeds, balanced, robust=0.7).item() == pytest.approx(expected)
    assert label_loss(logits, seeds, balanced, robust=1).item() == pytest.approx(0.5 if balanced else 0.625)


def test_robust_weighs_labels_by_how_likely_they_are():
    torch.manual_seed(0)
    logits = torch.randn(1, 4, 1, 1, dtype=torch.float64, requires_grad=True)
    seeds = torch.tensor([[[2]]])
    gradients = [torch.autograd.grad(label_loss(logits, seeds, robust=q), logits)[0] for q in (0, 0.7)]
    likely = logits.detach().softmax(1)[0, 2, 0, 0]
    torch.testing.assert_close(gradients[1], gradients[0] * likely**0.7)


def test_robust_ignores_what_is_open():
    logits = torch.randn(1, 3, 2, 2, requires_grad=True)
    loss = label_loss(logits, torch.full((1, 2, 2), 255), robust=0.7)
    loss.backward()
    assert loss.item() == 0 and logits.grad.abs().sum() == 0


def test_completion_keeps_only_seeded_classes():
    logits = torch.zeros(2, 3, 1, 3)
    logits[:, 0, 0, 0] = logits[:, 1, 0, 1] = logits[:, 2, 0, 2] = 5  # arg-max 0, 1, 2
    seeds = torch.tensor([[[0, 1, 255]], [[2, 255, 255]]])
    assert completion_target(logits, seeds).tolist() == [[[0, 1, 255]], [[255, 255, 2]]]


def test_completion_takes_the_best_allowed_class():
    logits = torch.tensor([1.0, 2.0, 3.0]).view(1, 3, 1, 1)
    seeds = torch.tensor([[[1]]])
    assert completion_target(logits, seeds).item() == 255
    assert completion_target(logits, seeds, torch.tensor([[True, True, False]])).item() == 1


def test_completion_has_no_gradient():
    logits = torch.randn(1, 3, 2, 2, requires_grad=True)
    assert not completion_target(logits, torch.zeros(1, 2, 2, dtype=torch.long)).requires_grad


def test_total_is_the_sum_of_its_terms():
    torch.manual_seed(0)
    self_logits, cross_logits = torch.randn(2, 2, 3, 4, 4)
    seeds = torch.randint(0, 3, (2, 4, 4))
    losses = cian_loss(self_logits, cross_logits, seeds)
    assert set(losses) == {"total", "self_seed", "cross_seed", "self_completion", "cross_completion"}
    torch.testing.assert_close(losses["total"], sum(v for k, v in losses.items() if k != "total"))
    target = completion_target(cross_logits, seeds)
    torch.testing.assert_close(losses["self_completion"], label_loss(self_logits, target))
    torch.testing.assert_close(losses["cross_completion"], label_loss(cross_logits, target))
    assert set(cian_loss(self_logits, cross_logits, seeds, completion=False)) == {"total", "self_seed", "cross_seed"}
    assert set(cian_loss(self_logits, None, seeds)) == {"total", "self_seed"}


def test_other_size_names_the_cure():
    with pytest.raises(ValueError, match="nearest"):
        label_loss(torch.randn(1, 3, 4, 4), torch.zeros(1, 8, 8, dtype=torch.long))


def test_gradcheck():
    logits = torch.randn(1, 3, 2, 2, dtype=torch.float64, requires_grad=True)
    seeds = torch.tensor([[[0, 255], [2, 1]]])
    assert torch.autograd.gradcheck(lambda x: label_loss(x, seeds), logits)


@pytest.mark.parametrize("robust", [0, 0.7])
@pytest.mark.parametrize(
    ("balanced", "seeds_balanced", "completion_balanced"),
    [
        ("none", False, False),
        ("seeds", True, False),
        ("all", True, True),
    ],
)
def test_which_terms_are_balanced(balanced, seeds_balanced, completion_balanced, robust):
    torch.manual_seed(0)
    self_logits, cross_logits = torch.randn(2, 2, 3, 4, 4)
    seeds = torch.randint(0, 3, (2, 4, 4))
    target = completion_target(cross_logits, seeds)
    losses = cian_loss(self_logits, cross_logits, seeds, balance=balanced, robust=robust)
    assert losses["cross_seed"] == label_loss(cross_logits, seeds, seeds_balanced, robust)
    assert losses["self_completion"] == label_loss(self_logits, target, completion_balanced, robust)


def test_labels_of_people_are_not_discounted():
    """Softmax of (0, ln 3) is (1/4, 3/4). The first cell, labelled by a person, costs ln 4; the other is discounted."""
    logits = torch.tensor([0.0, math.log(3)]).view(1, 2, 1, 1).expand(1, 2, 1, 2)
    seeds, known = torch.tensor([[[0, 0]]]), torch.tensor([[[True, False]]])
    discounted = (1 - 0.25**0.5) / 0.5
    assert label_loss(logits, seeds, robust=0.5, known=known).item() == pytest.approx((math.log(4) + discounted) / 2)


def test_completion_leaves_out_labels_of_people():
    """The cross branch prefers class 1 everywhere. Only the second cell may learn that."""
    self_logits = torch.zeros(1, 2, 1, 2, requires_grad=True)
    cross_logits = torch.tensor([0.0, 9.0]).view(1, 2, 1, 1).expand(1, 2, 1, 2)
    seeds, known = torch.tensor([[[0, 1]]]), torch.tensor([[[True, False]]])
    terms = cian_loss(self_logits, cross_logits, seeds, known=known)
    terms["self_completion"].backward()
    assert self_logits.grad[..., 0].abs().sum() == 0 and self_logits.grad[0, 1, 0, 1] < 0
