"""The cross-image affinity module (Fan et al., "CIAN: Cross-Image Affinity Net", AAAI 2020, arXiv 1811.10842).

A group is a few images that share a tag. Each cell of an image's features X retrieves messages from similar cells: in
the self branch from the image itself, in the cross branch also from the other images of its group, its references.

    Q    = W_q X                           query; every W is a 1×1 convolution without a bias
    K, V = pool(W_k X), pool(W_v X)        key and value; pooling (3×3 maximum, stride 2) keeps a quarter of the cells
    a_ij = softmax over i of K_i · Q_j     affinity of key cell i and query cell j; no division by sqrt(d)
    m_j  = sum over i of a_ij V_i          message to query cell j; the cross branch takes the maximum over the images
    X^   = X + r, r = BN(W_o m)            the scale γ of BN starts at 0: the module starts as the identity

Shapes: N images, C channels of X, d of Q, K and V, H × W cells, H' × W' cells after pooling.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, reduce
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Similarity = Literal["dot", "cosine"]
Merge = Literal["max", "mean"]


def affinity_map(query: Tensor, key: Tensor, similarity: Similarity = "dot") -> Tensor:
    """The affinity a_ij: where each cell of `query` looks in `key`.

    Shape: query (N, d, H, W), key (N, d, H', W') → (N, H, W, H', W'), which sums to 1 over (H', W').
    """
    if similarity == "cosine":
        query, key = F.normalize(query, dim=1), F.normalize(key, dim=1)  # (N, d, H, W), (N, d, H', W')
    affinity = torch.einsum("ndq,ndk->nqk", query.flatten(2), key.flatten(2)).softmax(2)  # (N, HW, H'W')
    return affinity.unflatten(2, key.shape[2:]).unflatten(1, query.shape[2:])  # (N, H, W, H', W')


def retrieve(query: Tensor, key: Tensor, value: Tensor, similarity: Similarity = "dot") -> Tensor:
    """The messages m_j. Shape: query (N, d, H, W), key and value (N, d, H', W') → (N, d, H, W)."""
    return torch.einsum("nhwij,ndij->ndhw", affinity_map(query, key, similarity), value)  # (N, d, H, W)


def cross_image_affinity(
    query: Tensor, key: Tensor, value: Tensor, *, group_size: int = 2,
    similarity: Similarity = "dot", merge: Merge = "max", include_self: bool = True,
    retrieve: Callable[..., Tensor] = retrieve,
) -> tuple[Tensor, Tensor | None]:  # fmt: skip
    """The messages in a batch of groups: each image is the query once, and a reference for the others of its group.

    The batch is `group_size` chunks, one after the other; image j of each chunk belongs to group j. The references of
    chunk c are taken in the order c + 1, c + 2, … (mod group_size).

    Args:
        similarity: "dot" (the paper's) or "cosine".
        merge: how the messages of several references become one, element by element: "max" (the paper's) or "mean".
        include_self: whether the image's own message is merged with them.
        retrieve: the function that computes the messages of all queries from one key and value each.

    Shape: query (N, d, H, W), key and value (N, d, H', W') → the self message and the merged cross message, both
        (N, d, H, W); cross is None for group_size 1. Raises ValueError for an incomplete group or an unknown option.
    """
    if merge not in ("max", "mean") or similarity not in ("dot", "cosine"):
        raise ValueError(f"merge={merge!r}, similarity={similarity!r}: use max or mean, and dot or cosine")
    n = query.shape[0]
    if group_size < 1 or n % group_size:
        raise ValueError(f"{n} images do not make groups of {group_size}; use a multiple of the group size")
    messages = [retrieve(query, key, value, similarity)]  # (N, d, H, W)
    for offset in range(1, group_size):
        shift = -offset * (n // group_size)  # brings chunk c + offset to the place of chunk c
        messages.append(retrieve(query, key.roll(shift, 0), value.roll(shift, 0), similarity))  # (N, d, H, W)
    if group_size == 1:
        return messages[0], None
    merged = messages if include_self else messages[1:]
    cross = reduce(torch.maximum, merged) if merge == "max" else torch.stack(merged).mean(0)  # (N, d, H, W)
    return messages[0], cross


class CrossImageAffinity(nn.Module):
    """The module, for the features of any backbone: C = `channels`, d = `hidden` (default C / 2).

    `pool` says whether keys and values are pooled. The other arguments are those of `cross_image_affinity`.
    """

    def __init__(
        self, channels: int, hidden: int | None = None,
        similarity: Similarity = "dot", merge: Merge = "max", include_self: bool = True, pool: bool = True,
    ):  # fmt: skip
        super().__init__()
        hidden, self.similarity = hidden or channels // 2, similarity
        self.attend = partial(cross_image_affinity, similarity=similarity, merge=merge, include_self=include_self)
        self.query = nn.Conv2d(channels, hidden, 1, bias=False)  # W_q
        self.key = nn.Conv2d(channels, hidden, 1, bias=False)  # W_k
        self.value = nn.Conv2d(channels, hidden, 1, bias=False)  # W_v
        self.project = nn.Conv2d(hidden, channels, 1, bias=False)  # W_o
        self.pool = nn.MaxPool2d(3, 2, 1) if pool else nn.Identity()
        self.norm = nn.BatchNorm2d(channels)  # BN, whose scale γ is norm.weight
        for conv in (self.query, self.key, self.value, self.project):
            nn.init.normal_(conv.weight, std=0.01)
        nn.init.zeros_(self.norm.weight)

    def forward(self, features: Tensor, group_size: int = 2) -> tuple[Tensor, Tensor | None]:
        """X^ of the self branch and of the cross branch. They share W_o and BN, which normalises each by itself.

        Shape: X (N, C, H, W), in chunks as `cross_image_affinity` says → two (N, C, H, W), or one and None.
        """
        self_message, cross_message = self.messages(features, group_size)  # m, (N, d, H, W) each
        cross = None if cross_message is None else features + self.norm(self.project(cross_message))  # (N, C, H, W)
        return features + self.norm(self.project(self_message)), cross  # X^, (N, C, H, W) each

    def messages(self, features: Tensor, group_size: int = 2) -> tuple[Tensor, Tensor | None]:
        """m of the self branch and of the cross branch. Shape: X (N, C, H, W) → two (N, d, H, W), or one and None."""
        query = self.query(features)  # Q, (N, d, H, W)
        key, value = self.pool(self.key(features)), self.pool(self.value(features))  # K, V, (N, d, H', W') each
        return self.attend(query, key, value, group_size=group_size)  # m, (N, d, H, W) each

    @torch.no_grad()
    def look(self, features: Tensor, reference: Tensor) -> Tensor:
        """Where the cells of images X look in references Y. Shape: two (N, C, ·, ·) → (N, H, W, H', W')."""
        return affinity_map(self.query(features), self.pool(self.key(reference)), self.similarity)  # (N, H, W, H', W')
