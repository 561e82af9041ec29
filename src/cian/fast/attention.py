"""Messages without the affinity matrix in memory, or with it where that is faster."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cian.affinity import CrossImageAffinity, Similarity

MOST_HELD = 2**26  # affinities of a batch, 128 MB in bfloat16: 321 px at stride 8 in batches of 16 have 2**23.5
_MOST_FUSED = 256  # the most channels that a GPU's fast fused kernels take


def exchanges(network: nn.Module) -> Iterator[tuple[nn.Module, str, Callable[..., Any]]]:
    """`attend` of each affinity module: the same, by the `retrieve` of this file."""
    for module in network.modules():
        if isinstance(module, CrossImageAffinity):
            yield module, "attend", partial(module.attend, attention=retrieve)


def retrieve(query: Tensor, key: Tensor, value: Tensor, similarity: Similarity = "dot") -> Tensor:
    """As `affinity.retrieve`. Shape: query (N, d, H, W), key and value (N, d, H', W') → (N, d, H, W)."""
    if similarity == "cosine":
        query, key = F.normalize(query, dim=1), F.normalize(key, dim=1)
    q, k, v = (x.flatten(2).transpose(1, 2).unsqueeze(1) for x in (query, key, value))  # (N, 1, cells, d)
    if _holds_matrix(q, k):
        message = (q @ k.transpose(2, 3)).softmax(3) @ v  # (N, 1, HW, d)
    else:
        message = F.scaled_dot_product_attention(q, k, v, scale=1.0)  # (N, 1, HW, d)
    return message.squeeze(1).transpose(1, 2).reshape(query.shape)


def _holds_matrix(query: Tensor, key: Tensor) -> bool:
    """Whether to compute the affinity as a matrix, as long as it is small: in bfloat16 on a CPU, whose fused kernel
    takes three times as long as its matrix products, and for many channels on a GPU."""
    if len(query) * query.shape[2] * key.shape[2] > MOST_HELD:
        return False
    return query.shape[3] > _MOST_FUSED if query.is_cuda else query.dtype == torch.bfloat16
