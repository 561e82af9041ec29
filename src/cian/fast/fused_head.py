"""Logits without the features X + r: head(X + r) = head(X) + head(r).

head(r) = head(BN(W_o m)) is a chain of linear functions, so one convolution of the messages m does it. The residual r,
which has many more channels than m, is never computed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from cian.affinity import CrossImageAffinity
from cian.distributed import all_reduce_sum, track, world
from cian.fast.convolution import convolve
from cian.fast.frozen_norms import scale_and_shift
from cian.network import CIAN


def exchanges(network: nn.Module) -> Iterator[tuple[nn.Module, str, Callable[..., Any]]]:
    """`forward` of a CIAN with an affinity module."""
    if isinstance(network, CIAN) and network.affinity is not None:
        yield network, "forward", partial(_forward, network, network.affinity)


def _forward(
    network: CIAN, affinity: CrossImageAffinity, images: Tensor, group_size: int = 1
) -> tuple[Tensor, Tensor | None]:
    """As `CIAN.forward`. Shape: (N, 3, H, W) → two (N, K, h, w), or one and None."""
    features = network.backbone(images)  # X, (N, C, h, w)
    logits = network.head(features)  # (N, K, h, w)
    self_message, cross_message = affinity.messages(features, group_size)  # m, (N, d, h, w) each
    cross_logits = None
    if cross_message is not None:
        cross_logits = logits + convolve_residual(affinity, cross_message, network.head)
    return logits + convolve_residual(affinity, self_message, network.head), cross_logits


def convolve_residual(affinity: CrossImageAffinity, message: Tensor, conv: nn.Conv2d) -> Tensor:
    """conv(r) of the residual r = BN(W_o m).

    The batch's statistics of W_o m follow from the mean μ and the covariance Σ of m: W_o μ and diag(W_o Σ W_o^T).

    Args:
        conv: a convolution of C channels to few, padded with zeros, without a bias.

    Shape:
        message: m, (N, d, H, W). Returns (N, K, H', W').
    """
    with torch.autocast(message.device.type, enabled=False):
        precise = torch.promote_types(message.dtype, torch.float32)
        project = affinity.project.weight.flatten(1).to(precise)  # (C, d)
        scale, shift = _scale_and_shift_of_messages(affinity, message, project)  # (C,) each
        weight = torch.einsum("kcyx,c,cd->kdyx", conv.weight.to(precise), scale, project)
        # The shift is a constant map. Cells at the border see less of it, because the convolution pads with zeros.
        constant = torch.einsum("kcyx,c->kyx", conv.weight.to(precise), shift)[:, None]
    ones = message.new_ones(1, 1, *message.shape[2:])
    weight, constant = weight.to(message.dtype), constant.to(message.dtype)
    return convolve(conv, message, weight, None) + convolve(conv, ones, constant, None)


def _scale_and_shift_of_messages(
    affinity: CrossImageAffinity, message: Tensor, project: Tensor
) -> tuple[Tensor, Tensor]:
    """Scale and shift (C,) of BN for W_o m, `project` (C, d) times `message` (N, d, H, W).

    The covariance is computed in the precision of the messages, as W_o m would be.
    """
    norm = affinity.norm
    if not affinity.training:
        assert norm.running_mean is not None and norm.running_var is not None
        return scale_and_shift(norm, norm.running_mean, norm.running_var)
    cells = message.transpose(0, 1).flatten(1)  # (d, cells)
    mean = all_reduce_sum(cells.mean(1, dtype=project.dtype)) / world()  # (d,)
    centred = (cells - mean[:, None].to(cells.dtype)) * cells.shape[1] ** -0.5  # (d, cells)
    covariance = all_reduce_sum((centred @ centred.T).to(project.dtype)) / world()  # (d, d)
    var = ((project @ covariance) * project).sum(1)  # (C,)
    mean = project @ mean  # (C,)
    track(norm, mean, var, world() * cells.shape[1])
    return scale_and_shift(norm, mean, var)
