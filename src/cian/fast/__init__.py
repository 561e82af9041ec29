"""Makes a network faster: replaces slow functions by fast ones with equal results.

The code that builds a network calls `speed_up` last (see `cian.build`). It sets another function, mostly `forward`, on
some modules of the network, as an attribute of the instance, which Python finds before the one of the class. Each
function equals the one that it replaces, in values and gradients, up to rounding. The modules, their parameters and the
names of these stay, so weights and optimisers do not notice.

    frozen_norms    folds the frozen batch norms of a backbone into its convolutions
    convolution     computes convolutions with the faster of PyTorch's kernels
    depthwise       computes the gradients of depthwise convolutions faster
    attention       retrieves messages without the affinity matrix in memory, or with it where that is faster
    fused_head      computes head(X + r) as head(X) and one convolution of the messages

A network without `speed_up` is plain PyTorch; `torch.export` takes it as it is. With CIAN_PLAIN=1 in the environment,
`speed_up` does nothing.
"""

from __future__ import annotations

import os
from typing import TypeVar

import torch
from torch import nn

from cian.fast import attention, convolution, frozen_norms, fused_head

Network = TypeVar("Network", bound=nn.Module)


def speed_up(network: Network) -> Network:
    """Replaces slow functions of `network` by fast ones with equal results, and returns the network.

    The batch norms of its backbone must stay frozen from now on.
    """
    if os.environ.get("CIAN_PLAIN") == "1":
        return network
    exchanges = [
        *frozen_norms.exchanges(network),
        *convolution.exchanges(network),
        *attention.exchanges(network),
        *fused_head.exchanges(network),
    ]
    for module, name, function in exchanges:
        setattr(module, name, function)
    return network.to(memory_format=torch.channels_last)
