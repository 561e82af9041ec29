"""The cross-image affinity module (Fan et al., "CIAN: Cross-Image Affinity Net", AAAI 2020, arXiv 1811.10842).

A group is a few images that share a tag. Each cell of an image's features X retrieves a message from similar cells: in
the self branch from those of the same image, in the cross branch from those of the same image and of its references,
the other images of the group.

    Q    = W_q X                           query; every W is a 1×1 convolution without a bias
    K, V = pool(W_k X), pool(W_v X)        key and value; pooling (3×3 maximum, stride 2) keeps a quarter of the cells
    a_ij = softmax over i of K_i · Q_j     affinity of key cell i to query cell j; no division by sqrt(d)
    m_j  = sum over i of a_ij V_i          message to query cell j; the cross branch takes the maximum over the images
    X^   = X + r, r = BN(W_o m)            the scale γ of BN starts at 0: the module starts as the identity

Shapes: N images, C channels of X, d of Q, K and V, h × w cells, h' × w' cells after pooling.
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
    """The affinity: where each cell of image n of `query` looks in image n of `key`.

    Shape: query (N, d, h, w), key (N, d, h', w') → (N, h, w, h', w'), which sums to 1 over (h', w').
    """
    if similarity == "cosine":
        query, key = F.normalize(query, dim=1), F.normalize(key, dim=1)  # (N, d, h, w), (N, d, h', w')
    affinity = torch.einsum("ndq,ndk->nqk", query.flatten(2), key.flatten(2)).softmax(2)  # (N, hw, h'w')
    return affinity.unflatten(2, key.shape[2:]).unflatten(1, query.shape[2:])  # (N, h, w, h', w')


def retrieve(query: Tensor, key: Tensor, value: Tensor, similarity: Similarity = "dot") -> Tensor:
    """The messages m. Shape: query (N, d, h, w), key and value (N, d, h', w') → (N, d, h, w)."""
    affinity = affinity_map(query, key, similarity).flatten(3)  # (N, h, w, h'w')
    return torch.einsum("nhwk,ndk->ndhw", affinity, value.flatten(2))  # (N, d, h, w)


def cross_image_affinity(
    query: Tensor, key: Tensor, value: Tensor, *, group_size: int = 2,
    similarity: Similarity = "dot", merge: Merge = "max", include_self: bool = True,
    attention: Callable[..., Tensor] = retrieve,
) -> tuple[Tensor, Tensor | None]:  # fmt: skip
    """The messages in a batch of groups: each image is the query once, and a reference for the others of its group.

    The groups lie across the batch: with G = N / group_size groups, images g, g + G, g + 2G, … are group g. Of four
    images in groups of two, images 0 and 2 are a group, and images 1 and 3.

    Args:
        similarity: "dot" (the paper's), or "cosine", with which no cell has more than e² times the affinity of another.
        merge: how the messages of several images become one, element by element: "max" (the paper's) or "mean".
        include_self: whether the image's own message is merged with those from its references.
        attention: the function that computes the messages. `cian.fast` puts a faster one in the place of `retrieve`.

    Shape: query (N, d, h, w), key and value (N, d, h', w') → the self message and the merged cross message, both
        (N, d, h, w); cross is None for group_size 1. Raises ValueError for an incomplete group or an unknown option.
    """
    if merge not in ("max", "mean") or similarity not in ("dot", "cosine"):
        raise ValueError(f"merge={merge!r}, similarity={similarity!r}: use max or mean, and dot or cosine")
    n = query.shape[0]  # N; `len` would keep torch.export from other batches
    if group_size < 1 or n % group_size:
        raise ValueError(f"{n} images do not make groups of {group_size}; use a multiple of the group size")
    messages = [attention(query, key, value, similarity)]  # from the image itself, (N, d, h, w)
    if group_size == 1:
        return messages[0], None
    groups = n // group_size  # G
    for other in range(1, group_size):
        reference = key.roll(-other * groups, 0), value.roll(-other * groups, 0)  # image n + other · G in place n
        messages.append(attention(query, *reference, similarity))  # (N, d, h, w)
    merged = messages if include_self else messages[1:]
    cross = reduce(torch.maximum, merged) if merge == "max" else torch.stack(merged).mean(0)  # (N, d, h, w)
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
        hidden = hidden or channels // 2  # d
        self.similarity = similarity
        self.attend = partial(cross_image_affinity, similarity=similarity, merge=merge, include_self=include_self)
        self.query = nn.Conv2d(channels, hidden, 1, bias=False)  # W_q
        self.key = nn.Conv2d(channels, hidden, 1, bias=False)  # W_k
        self.value = nn.Conv2d(channels, hidden, 1, bias=False)  # W_v
        self.project = nn.Conv2d(hidden, channels, 1, bias=False)  # W_o
        self.pool = nn.MaxPool2d(3, 2, 1) if pool else nn.Identity()
        self.norm = nn.BatchNorm2d(channels)  # BN, whose scale γ is norm.weight
        for conv in (self.query, self.key, self.value, self.project):
            nn.init.normal_(conv.weight, std=0.01)  # as in the paper
        nn.init.zeros_(self.norm.weight)

    def forward(self, features: Tensor, group_size: int = 2) -> tuple[Tensor, Tensor | None]:
        """X^ of the self branch and of the cross branch. They share W_o and BN. While it trains, BN normalises each by
        the statistics of its own messages; afterwards, both by the running statistics of the two.

        Shape: X (N, C, h, w), groups as in `cross_image_affinity` → two (N, C, h, w), or one and None.
        """
        self_message, cross_message = self.messages(features, group_size)  # m, (N, d, h, w) each
        cross = None if cross_message is None else features + self.norm(self.project(cross_message))  # (N, C, h, w)
        return features + self.norm(self.project(self_message)), cross  # X^, (N, C, h, w) each

    def messages(self, features: Tensor, group_size: int = 2) -> tuple[Tensor, Tensor | None]:
        """m of the self branch and of the cross branch. Shape: X (N, C, h, w) → two (N, d, h, w), or one and None."""
        query = self.query(features)  # Q, (N, d, h, w)
        key, value = self.pool(self.key(features)), self.pool(self.value(features))  # K, V, (N, d, h', w') each
        return self.attend(query, key, value, group_size=group_size)  # m, (N, d, h, w) each

    @torch.no_grad()
    def look(self, features: Tensor, reference: Tensor) -> Tensor:
        """Where the cells of X look in Y, image n in image n. Shape: X (N, C, h, w), Y (N, C, any, any) → as
        `affinity_map`."""
        return affinity_map(self.query(features), self.pool(self.key(reference)), self.similarity)  # (N, h, w, h', w')
