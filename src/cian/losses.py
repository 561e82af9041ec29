"""The loss of CIAN (arXiv 1811.10842): mean cross-entropy over the labelled cells, of both branches.

    L = CE(self, seed) + CE(cross, seed) + CE(self, T) + CE(cross, T)

seed is an image's sparse label map, made from its tags. T, the completion target, is the class that the cross branch,
which has seen other images, prefers at each cell. Cells whose class is not in the image's seeds are ignored.
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


def average(total: Tensor, count: Tensor) -> Tensor:
    """The mean of `count` values, given their sum; 0 without values, never NaN."""
    return total / count.clamp(min=1)  # ()


def seed_loss(
    logits: Tensor, seeds: Tensor, balanced: bool = False, robust: float = 0.0, average: Average = average,
    known: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """CE, for the seeds or T: mean cross-entropy over the labelled cells of the batch, in nats; 0 if there are none.

    Args:
        balanced: average foreground and background separately, then both, so that sparse foreground has the same weight
            (the balanced seeding loss of Huang et al., CVPR 2018).
        robust: q of the generalised cross-entropy (1 - p^q) / q (Zhang & Sabuncu, NeurIPS 2018, arXiv 1805.07836):
            unlikely labels, which may be wrong, count less. 0 is cross-entropy, 1 the absolute error.
        known: (N, H, W) bool, cells that a person has labelled: always cross-entropy. None: there are none.
        average: computes the mean from the sum over the labelled cells and their number.

    Shape: logits (N, K, H, W), seeds (N, H, W) class ids, 255 = ignore → scalar. Raises ValueError for other shapes.
    """
    if logits.shape[:1] + logits.shape[2:] != seeds.shape:
        raise ValueError(f"seeds {tuple(seeds.shape)} do not fit logits {tuple(logits.shape)}: resample them (nearest)")
    seeds = seeds.long()  # (N, H, W)
    if balanced:
        parts = seeds.masked_fill(seeds != 0, IGNORE), seeds.masked_fill(seeds == 0, IGNORE)  # (N, H, W) each
        return torch.stack([seed_loss(logits, part, False, robust, average, known) for part in parts]).mean()  # ()
    loss = F.cross_entropy(logits, seeds, ignore_index=IGNORE, reduction="none" if robust else "sum")  # (N, H, W) or ()
    if robust:
        discounted = -torch.expm1(-robust * loss) / robust  # (N, H, W)
        loss = (discounted if known is None else torch.where(known, loss, discounted)).sum()  # ()
    return average(loss, (seeds != IGNORE).sum())  # ()


@torch.no_grad()
def completion_target(cross_logits: Tensor, seeds: Tensor, allowed: Tensor | None = None) -> Tensor:
    """T: the class that the cross branch prefers, if that class occurs in the image's seeds; else 255. No gradient.

    Shape: cross_logits (N, K, H, W), seeds (N, H, W) with 255 = ignore, allowed (N, K) bool: the classes that can be
        preferred, those of the image's tags and background (None: all) → (N, H, W) int64.
    """
    if allowed is not None:
        cross_logits = cross_logits.masked_fill(~allowed[:, :, None, None], -torch.inf)  # (N, K, H, W)
    target = cross_logits.argmax(1)  # (N, H, W)
    seeded = torch.zeros(len(seeds), 256, dtype=torch.bool, device=seeds.device)  # (N, 256): class occurs in the seeds
    seeded.scatter_(1, seeds.long().flatten(1), True)
    return target.masked_fill(~seeded.gather(1, target.flatten(1)).view_as(target), IGNORE)  # (N, H, W)


def cian_loss(
    self_logits: Tensor, cross_logits: Tensor | None, seeds: Tensor, *,
    completion: bool = True, allowed: Tensor | None = None, known: Tensor | None = None,
    balanced: Literal["none", "seeds", "all"] = "none", robust: float = 0.0, average: Average = average,
) -> dict[str, Tensor]:  # fmt: skip
    """L and its terms, each with weight 1. Without a cross branch it is CE(self, seed).

    Args:
        completion: whether the terms of T are added; `allowed`: see `completion_target`.
        known: (N, H, W) bool, cells that a person has labelled: their labels are not discounted, and T leaves them out.
        balanced: the terms that are balanced: none, as in the paper, those of the seeds, or all.
        robust: see `seed_loss`; for all terms.
        average: see `seed_loss`; for all terms.

    Shape: logits (N, K, H, W), seeds (N, H, W) with 255 = ignore → scalars by name: "total", and the terms it sums.
    """
    seed_ce = partial(seed_loss, balanced=balanced != "none", robust=robust, average=average, known=known)
    target_ce = partial(seed_loss, balanced=balanced == "all", robust=robust, average=average)
    terms = {"self_seed": seed_ce(self_logits, seeds)}  # ()
    if cross_logits is not None:
        terms["cross_seed"] = seed_ce(cross_logits, seeds)  # ()
        if completion:
            target = completion_target(cross_logits, seeds, allowed)  # T, (N, H, W)
            target = target if known is None else target.masked_fill(known, IGNORE)  # (N, H, W)
            terms["self_completion"] = target_ce(self_logits, target)  # ()
            terms["cross_completion"] = target_ce(cross_logits, target)  # ()
    return {"total": torch.stack(list(terms.values())).sum(), **terms}  # () each
