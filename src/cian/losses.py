"""The training loss of CIAN (arXiv 1811.10842, section 3 of its method).

    L = CE(self, seed) + CE(cross, seed) + CE(self, T) + CE(cross, T)

T is the completion target: what the cross branch, which has seen other images, says about the cells.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from cian.training import distributed

IGNORE = 255


def seed_loss(logits: Tensor, seeds: Tensor, balanced: bool = False, robust: float = 0.0) -> Tensor:
    """Mean cross-entropy over the labelled cells of the batch; 0 where no cell is labelled, never NaN.

    The batch is that of all processes of a distributed run (see `cian.training.distributed`).

    Args:
        balanced: the mean of the foreground's mean and the background's, so that sparse foreground is not drowned (the
            balanced seeding loss of Huang et al., CVPR 2018).
        robust: q of the generalised cross-entropy (1 - p^q) / q (Zhang & Sabuncu, NeurIPS 2018, arXiv 1805.07836): a
            cell whose label has the probability p counts p^q as much as with cross-entropy, so that wrong labels are
            learned less. 0 is cross-entropy, 1 the absolute error.

    Shape:
        logits: (N, K, H, W) float; seeds: (N, H, W) integer class ids, 255 = ignore. Returns a scalar, in nats.

    Raises:
        ValueError: the shapes do not fit; down-sample the seeds to the logits' grid with nearest first.
    """
    if logits.shape[:1] + logits.shape[2:] != seeds.shape:
        raise ValueError(
            f"logits {tuple(logits.shape)} and seeds {tuple(seeds.shape)} do not fit; bring the seeds to the logits' "
            f"grid {tuple(logits.shape[2:])} by nearest-neighbour sampling"
        )
    seeds = seeds.long()
    if balanced:
        background, foreground = seeds.masked_fill(seeds != 0, IGNORE), seeds.masked_fill(seeds == 0, IGNORE)
        return (seed_loss(logits, background, robust=robust) + seed_loss(logits, foreground, robust=robust)) / 2
    if robust:
        each = F.cross_entropy(_at_least_float32(logits), seeds, ignore_index=IGNORE, reduction="none")
        total = (-torch.expm1(-robust * each) / robust).sum()
    else:
        total = F.cross_entropy(_at_least_float32(logits), seeds, ignore_index=IGNORE, reduction="sum")
    labelled = distributed.all_reduce_sum((seeds != IGNORE).sum())
    return total * distributed.world() / labelled.clamp(min=1)


def _at_least_float32(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


@torch.no_grad()
def completion_target(cross_logits: Tensor, seeds: Tensor, allowed: Tensor | None = None) -> Tensor:
    """The arg-max of the cross logits, kept where its class occurs in that image's seeds, 255 elsewhere.

    Shape:
        cross_logits: (N, K, H, W); seeds: (N, H, W), 255 = ignore; allowed: (N, K) bool, the classes among an
        image's tags (background included): the arg-max is then taken over these alone. Returns (N, H, W) int64.
    """
    if allowed is not None:
        cross_logits = cross_logits.masked_fill(~allowed[:, :, None, None], -torch.inf)
    target = cross_logits.argmax(1)  # (N, H, W)
    n, classes = cross_logits.shape[:2]
    present = torch.zeros(n, 256, dtype=torch.bool, device=seeds.device)
    present.scatter_(1, seeds.long().flatten(1), True)  # (N, 256)
    seeded = present[:, :classes].gather(1, target.flatten(1)).view_as(target)  # (N, H, W)
    return target.masked_fill(~seeded, IGNORE)


def cian_loss(
    self_logits: Tensor,
    cross_logits: Tensor | None,
    seeds: Tensor,
    *,
    completion: bool = True,
    allowed: Tensor | None = None,
    balanced: Literal["none", "seeds", "all"] = "none",
    robust: float = 0.0,
) -> dict[str, Tensor]:
    """The training loss and its terms, all weights 1. Without a cross branch it is the seed loss of the self branch.

    Args:
        balanced: the terms that are balanced (see `seed_loss`): none, as in the paper, those of the seeds, or all.
        robust: see `seed_loss`; of all terms. 0, as in the paper, is cross-entropy.

    Shape:
        self_logits, cross_logits: (N, K, H, W); seeds: (N, H, W), 255 = ignore; allowed: see `completion_target`.
        Returns scalars by name: "total" and the terms it sums.
    """
    terms = {"self_seed": seed_loss(self_logits, seeds, balanced != "none", robust)}
    if cross_logits is not None:
        terms["cross_seed"] = seed_loss(cross_logits, seeds, balanced != "none", robust)
        if completion:
            target = completion_target(cross_logits, seeds, allowed)
            terms["self_completion"] = seed_loss(self_logits, target, balanced == "all", robust)
            terms["cross_completion"] = seed_loss(cross_logits, target, balanced == "all", robust)
    return {"total": torch.stack(list(terms.values())).sum(), **terms}
