"""The cross-image affinity module (Fan et al., "CIAN: Cross-Image Affinity Net", AAAI 2020, arXiv 1811.10842).

Every cell of an image looks up similar cells, in the image itself and in other images that share a tag, and takes a
message home:

    a_ij = softmax over keys i of  K_i · Q_j          affinity of query cell j and key cell i
    m_j  = sum_i a_ij V_i                             the message that query cell j retrieves
    X^   = X + BN(W_o m)                              residual; BN's scale starts at 0: the module starts as identity
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cian.fast.frozen_norms import Conv2d, convolve
from cian.training.distributed import BatchNorm, all_reduce_sum, scale_and_shift, world

MOST_HELD = 2**26  # affinities of a batch, 128 MB in bfloat16: 321 px at stride 8 in batches of 16 have 2**23.5
MOST_FUSED = 256  # channels that a GPU's fast fused kernels take

Similarity = Literal["dot", "cosine"]
Merge = Literal["max", "mean"]


def retrieve(query: Tensor, key: Tensor, value: Tensor, similarity: Similarity = "dot") -> Tensor:
    """The messages that the cells of `query` retrieve from the cells of `key`.

    The dot product is not divided by sqrt(d). The (queries × keys) matrix is not held where PyTorch has a fused kernel,
    except where holding it is faster (see `_holds_matrix`).

    Shape:
        query: (N, d, H, W); key, value: (N, d, H', W'). Returns (N, d, H, W).
    """
    if similarity == "cosine":
        query, key = F.normalize(query, dim=1), F.normalize(key, dim=1)
    q, k, v = (x.flatten(2).transpose(1, 2).unsqueeze(1) for x in (query, key, value))  # (N, 1, cells, d)
    if _holds_matrix(q, k):
        message = (q @ k.transpose(2, 3)).softmax(3) @ v  # (N, 1, HW, d)
    else:
        message = F.scaled_dot_product_attention(q, k, v, scale=1.0)
    return message.squeeze(1).transpose(1, 2).reshape(query.shape)


def _holds_matrix(query: Tensor, key: Tensor) -> bool:
    """Whether the affinity is to be computed as a matrix, as long as that is small: in bfloat16 on a CPU, whose fused
    kernel is three times as slow as its matrix products, and of many channels on a GPU."""
    if len(query) * query.shape[2] * key.shape[2] > MOST_HELD:
        return False
    return query.shape[3] > MOST_FUSED if query.is_cuda else query.dtype == torch.bfloat16


def affinity_map(query: Tensor, key: Tensor, similarity: Similarity = "dot") -> Tensor:
    """Where each cell of `query` looks in `key`, for inspection: the affinity that `retrieve` uses.

    Shape:
        query: (N, d, H, W); key: (N, d, H', W'). Returns (N, H, W, H', W'), sums to 1 over (H', W').
    """
    if similarity == "cosine":
        query, key = F.normalize(query, dim=1), F.normalize(key, dim=1)
    affinity = torch.einsum("ndq,ndk->nqk", query.flatten(2), key.flatten(2)).softmax(2)  # (N, HW, H'W')
    return affinity.reshape(len(query), *query.shape[2:], *key.shape[2:])


def cross_image_affinity(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    group_size: int = 2,
    similarity: Similarity = "dot",
    merge: Merge = "max",
    include_self: bool = True,
) -> tuple[Tensor, Tensor | None]:
    """Messages of a batch of image groups: each image is the query once and a reference for the others of its group.

    The batch is laid out as `group_size` consecutive chunks; image j of each chunk is in group j. The references of
    chunk c are taken in the order c + 1, c + 2, … (mod group_size).

    Shape:
        query: (N, d, H, W); key, value: (N, d, H', W').
        Returns the self message and the merged cross message, both (N, d, H, W); cross is None for group_size 1.

    Raises:
        ValueError: the batch does not consist of whole groups, or an option is unknown.
    """
    if merge not in ("max", "mean") or similarity not in ("dot", "cosine"):
        raise ValueError(f"merge={merge!r}, similarity={similarity!r}: use max or mean, and dot or cosine")
    n = len(query)
    if group_size < 1 or n % group_size:
        raise ValueError(f"batch of {n} images is not made of groups of {group_size}; use a multiple of the group size")
    self_message = retrieve(query, key, value, similarity)  # (N, d, H, W)
    if group_size == 1:
        return self_message, None
    messages = [self_message] if include_self else []
    for offset in range(1, group_size):
        shift = -offset * (n // group_size)  # image j of chunk c now stands where image j of chunk c - offset was
        messages.append(retrieve(query, key.roll(shift, 0), value.roll(shift, 0), similarity))
    merged = messages[0]
    for message in messages[1:]:
        merged = torch.maximum(merged, message) if merge == "max" else merged + message
    return self_message, merged if merge == "max" else merged / len(messages)


class CrossImageAffinity(nn.Module):
    """The module around `cross_image_affinity`: usable on the features of any backbone.

    Args:
        channels: C, channels of the features.
        hidden: d, channels of query, key and value; default C / 2.
        similarity: "dot" (the paper's) or "cosine".
        merge: "max" (the paper's) or "mean" of the messages of several references.
        include_self: whether the image's own message is merged into the cross branch.
        pool: max-pool keys and values, 3×3, stride 2, padding 1.
    """

    def __init__(
        self,
        channels: int,
        hidden: int | None = None,
        similarity: Similarity = "dot",
        merge: Merge = "max",
        include_self: bool = True,
        pool: bool = True,
    ):
        super().__init__()
        hidden = hidden or channels // 2
        self.similarity, self.merge, self.include_self = similarity, merge, include_self
        self.query = Conv2d(channels, hidden, 1, bias=False)
        self.key = Conv2d(channels, hidden, 1, bias=False)
        self.value = Conv2d(channels, hidden, 1, bias=False)
        self.project = Conv2d(hidden, channels, 1, bias=False)
        self.pool = nn.MaxPool2d(3, 2, 1) if pool else nn.Identity()
        self.norm = BatchNorm(channels)
        for conv in (self.query, self.key, self.value, self.project):
            nn.init.normal_(conv.weight, std=0.01)
        nn.init.zeros_(self.norm.weight)

    def forward(self, features: Tensor, group_size: int = 2) -> tuple[Tensor, Tensor | None]:
        """Features with what was retrieved from the image itself, and with what was retrieved from its group.

        Both branches share `project` and `norm`; in training, each is normalised by its own batch statistics (over
        all processes of a distributed run).

        Shape:
            features: X, (N, C, H, W), laid out as `cross_image_affinity` says.
            Returns X + r of the self branch and of the cross branch, (N, C, H, W); cross is None for group_size 1.
        """
        self_message, cross_message = self.messages(features, group_size)
        cross = None if cross_message is None else features + self.norm(self.project(cross_message))
        return features + self.norm(self.project(self_message)), cross

    def messages(self, features: Tensor, group_size: int = 2) -> tuple[Tensor, Tensor | None]:
        """What is retrieved: m of the self branch and of the cross branch, before `project` and `norm`.

        Shape:
            features: X, (N, C, H, W). Returns two (N, d, H, W); cross is None for group_size 1.
        """
        query = self.query(features)  # (N, d, H, W)
        key, value = self.pool(self.key(features)), self.pool(self.value(features))  # (N, d, H', W')
        return cross_image_affinity(
            query,
            key,
            value,
            group_size=group_size,
            similarity=self.similarity,
            merge=self.merge,
            include_self=self.include_self,
        )

    def convolve_residual(self, message: Tensor, conv: nn.Conv2d) -> Tensor:
        """conv(r) of the residual r = BN(W_o m), without its C channels ever being computed.

        W_o, the norm and the convolution are linear one after the other, so that one convolution of the d channels of m
        does; the statistics of W_o m follow from the mean μ and the covariance Σ of m: W_o μ and diag(W_o Σ W_o^T).

        Args:
            conv: a convolution of C channels to few, padded with zeros, without a bias.

        Shape:
            message: m, (N, d, H, W). Returns (N, K, H', W').
        """
        with torch.autocast(message.device.type, enabled=False):
            precise = torch.promote_types(message.dtype, torch.float32)
            project = self.project.weight.flatten(1).to(precise)  # (C, d)
            scale, shift = self._normalisation(message, project)  # (C,) each
            weight = torch.einsum("kcyx,c,cd->kdyx", conv.weight.to(precise), scale, project)
            # The shift is a constant map, of which cells at the border see less.
            constant = torch.einsum("kcyx,c->kyx", conv.weight.to(precise), shift)[:, None]
        ones = message.new_ones(1, 1, *message.shape[2:])
        weight, constant = weight.to(message.dtype), constant.to(message.dtype)
        return convolve(conv, message, weight, None) + convolve(conv, ones, constant, None)

    def _normalisation(self, message: Tensor, project: Tensor) -> tuple[Tensor, Tensor]:
        """Scale and shift (C,) of the norm of `project` (C, d) times the messages (N, d, H, W).

        The product of all cells is taken in the messages' own precision, as that with `project` would be.
        """
        if not self.training:
            assert self.norm.running_mean is not None and self.norm.running_var is not None
            return scale_and_shift(self.norm, self.norm.running_mean, self.norm.running_var)
        cells = message.transpose(0, 1).flatten(1)  # (d, cells)
        mean = all_reduce_sum(cells.mean(1, dtype=project.dtype)) / world()
        centred = (cells - mean[:, None].to(cells.dtype)) * cells.shape[1] ** -0.5
        covariance = all_reduce_sum((centred @ centred.T).to(project.dtype)) / world()  # (d, d)
        var = ((project @ covariance) * project).sum(1)
        mean = project @ mean
        self.norm.track(mean, var, world() * cells.shape[1])
        return scale_and_shift(self.norm, mean, var)

    @torch.no_grad()
    def look(self, features: Tensor, reference: Tensor) -> Tensor:
        """Where the cells of some images look in others (see `affinity_map`).

        Shape:
            features: (N, C, H, W); reference: (N, C, H2, W2). Returns (N, H, W, H', W') with the pooled key grid.
        """
        return affinity_map(self.query(features), self.pool(self.key(reference)), self.similarity)
