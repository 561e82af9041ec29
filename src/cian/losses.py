"""The loss of CIAN (arXiv 1811.10842): mean cross-entropy over the labelled cells, of both branches.

    L = CE(self, S) + CE(cross, S) + CE(self, T) + CE(cross, T)

S, the seeds, is an image's sparse label map, made from its tags. T, the completion target, is the class that the cross
branch, which has seen other images, prefers at each cell; where this class does not occur in S, T is 255, not labelled.
Both branches learn T, the cross branch its own choice.

Shapes: N images, K classes with background, h × w cells.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

IGNORE = 255
Average = Callable[[Tensor, Tensor], Tensor]


def mean(total: Tensor, count: Tensor) -> Tensor:
    """The mean of `count` values, given their sum; 0 without values, never NaN."""
    return total / count.clamp(min=1)  # scalar


def label_loss(
    logits: Tensor, labels: Tensor, balanced: bool = False, robust: float = 0.0,
    known: Tensor | None = None, average: Average = mean,
) -> Tensor:  # fmt: skip
    """CE: the mean cross-entropy over the labelled cells of the batch, in nats; 0 if there are none.

    Args:
        balanced: average foreground and background separately, then the two, so that sparse foreground has the same
            weight (the balanced seeding loss of Huang et al., CVPR 2018). A part without labels counts as 0.
        robust: q of the generalised cross-entropy (1 - p^q) / q (Zhang & Sabuncu, NeurIPS 2018, arXiv 1805.07836):
            unlikely labels, which may be wrong, count less. 0 is cross-entropy, 1 the absolute error.
        known: (N, h, w) bool, cells that a person has labelled: always cross-entropy. None: there are none.
        average: computes the mean from the sum over the labelled cells and their number. Several processes average
            over the cells of all.

    Shape: logits (N, K, h, w), labels (N, h, w) class ids, 255 = not labelled → scalar. Raises ValueError for others.
    """
    if logits.shape[:1] + logits.shape[2:] != labels.shape:
        raise ValueError(f"labels {tuple(labels.shape)} do not fit logits {tuple(logits.shape)}: resize them (nearest)")
    labels = labels.long()  # (N, h, w)
    if balanced:
        parts = labels.masked_fill(labels != 0, IGNORE), labels.masked_fill(labels == 0, IGNORE)  # (N, h, w) each
        losses = [label_loss(logits, part, robust=robust, known=known, average=average) for part in parts]  # scalars
        return torch.stack(losses).mean()  # scalar
    if robust:
        loss = F.cross_entropy(logits, labels, ignore_index=IGNORE, reduction="none")  # -log p; 0 if ignored, (N, h, w)
        discounted = -torch.expm1(-robust * loss) / robust  # (1 - p^q) / q, (N, h, w)
        total = (discounted if known is None else torch.where(known, loss, discounted)).sum()  # scalar
    else:
        total = F.cross_entropy(logits, labels, ignore_index=IGNORE, reduction="sum")  # scalar
    return average(total, (labels != IGNORE).sum())  # scalar


@torch.no_grad()
def completion_target(cross_logits: Tensor, seeds: Tensor, allowed: Tensor | None = None) -> Tensor:
    """T: the class that the cross branch prefers, if that class occurs in the image's seeds; else 255. No gradient.

    Args:
        allowed: (N, K) bool, the classes to choose from, those of the image's tags and background. None: all; a cell
            whose best class is no tag is then 255, and does not get the best of the tags.

    Shape: cross_logits (N, K, h, w), seeds (N, h, w) with 255 = not labelled → (N, h, w) int64.
    """
    if allowed is not None:
        cross_logits = cross_logits.masked_fill(~allowed[:, :, None, None], -torch.inf)  # (N, K, h, w)
    target = cross_logits.argmax(1)  # (N, h, w)
    seeded = torch.zeros(len(seeds), 256, dtype=torch.bool, device=seeds.device)  # class k occurs in S, (N, 256)
    seeded.scatter_(1, seeds.long().flatten(1), True)
    return target.masked_fill(~seeded.gather(1, target.flatten(1)).view_as(target), IGNORE)  # (N, h, w)


def cian_loss(
    self_logits: Tensor, cross_logits: Tensor | None, seeds: Tensor, *,
    completion: bool = True, allowed: Tensor | None = None, known: Tensor | None = None,
    balance: Literal["none", "seeds", "all"] = "none", robust: float = 0.0, average: Average = mean,
) -> dict[str, Tensor]:  # fmt: skip
    """L and its terms, each with weight 1. Without a cross branch it is CE(self, S).

    Args:
        completion: whether the terms of T are added.
        allowed: see `completion_target`.
        known: (N, h, w) bool, cells that a person has labelled: not subject to `robust`, and left out of T.
        balance: the terms that are balanced (see `label_loss`): none, as in the paper, those of the seeds, or all.
        robust: see `label_loss`; for all terms.
        average: see `label_loss`; for all terms.

    Shape: logits (N, K, h, w), seeds (N, h, w) with 255 = not labelled → scalars by name: "total", and the terms in it.
    """
    seed_ce = partial(label_loss, balanced=balance != "none", robust=robust, known=known, average=average)
    target_ce = partial(label_loss, balanced=balance == "all", robust=robust, average=average)
    terms = {"self_seed": seed_ce(self_logits, seeds)}  # scalar
    if cross_logits is not None:
        terms["cross_seed"] = seed_ce(cross_logits, seeds)  # scalar
        if completion:
            target = completion_target(cross_logits, seeds, allowed)  # T, (N, h, w)
            target = target if known is None else target.masked_fill(known, IGNORE)  # (N, h, w)
            terms["self_completion"] = target_ce(self_logits, target)  # scalar
            terms["cross_completion"] = target_ce(cross_logits, target)  # scalar
    return {"total": torch.stack(list(terms.values())).sum(), **terms}  # scalars
