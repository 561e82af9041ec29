"""The same network, faster: what is slow is exchanged for what is fast and equal.

`speed_up` is called last by whoever builds a network (see `cian.build`). It sets another function, mostly `forward`, on
some modules of the network: an attribute of the instance, which Python finds before the one of the class. Each function
equals the one that it replaces, in values and gradients, up to rounding. The modules, their parameters and the names of
their parameters stay, so weights and optimisers do not notice.

    frozen_norms    a convolution of the backbone and the frozen batch norm after it: one convolution
    convolution     these, and those outside of the backbone: the faster of PyTorch's kernels
    depthwise       these where they are depthwise: faster gradients
    attention       the messages of the affinity module: a fused kernel, or two matrix products where these are faster
    fused_head      head(X + r): head(X), and one convolution of the messages for head(r)

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
    """Exchanges what is slow in `network` for what is fast and equal, and returns it.

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
