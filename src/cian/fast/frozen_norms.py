"""Frozen batch norms folded into the convolutions before them.

A frozen batch norm is a scale and a shift of each channel. Multiplied into the convolution's weights it costs nothing.
By itself it is a pass over the activations, and another over their gradients, both limited by memory. Gradients still
reach the convolution's own weights.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial

import torch
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn
from torch.autograd.graph import Node

from cian.backbone.dense import Backbone
from cian.fast.convolution import convolve, is_plain


def exchanges(network: nn.Module) -> Iterator[tuple[nn.Module, str, Callable[[Tensor], Tensor]]]:
    """`forward` of the convolutions and batch norms of the network's backbones, where these are pairs."""
    for backbone in network.modules():
        if isinstance(backbone, Backbone):
            for conv, norm in _pairs(backbone.model):
                yield conv, "forward", partial(_folded, conv, norm)
                yield norm, "forward", getattr(norm, "act", nn.Identity()).forward  # the activation in timm's norms


def scale_and_shift(norm: nn.BatchNorm2d, mean: Tensor, var: Tensor) -> tuple[Tensor, Tensor]:
    """What a batch norm multiplies each channel by, and then adds to it, given its statistics. Shape: all (C,)."""
    scale = norm.weight * torch.rsqrt(var + norm.eps)
    return scale, norm.bias - mean * scale


def _folded(conv: nn.Conv2d, norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """norm(conv(x)) as one convolution. Shape: (N, C, H, W) → (N, C', H', W')."""
    assert norm.running_mean is not None and norm.running_var is not None
    scale, shift = scale_and_shift(norm, norm.running_mean, norm.running_var)  # (C',) each
    if conv.bias is not None:
        shift = shift + conv.bias * scale
    return convolve(conv, x, conv.weight * scale[:, None, None, None], shift)


def _pairs(model: nn.Module) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """Convolutions with the batch norm that reads their output, where nothing else reads it.

    They are found in the graph that autograd records while the model runs once.
    """
    if not any(map(_is_norm, model.modules())):
        return []
    made: dict[Node, nn.Module] = {}  # the convolution that made a tensor, by the tensor's place in the graph
    used: dict[nn.Module, list[Node]] = {}  # what a norm read, each time it was called

    def keep_output(conv: nn.Module, _: tuple, output: Tensor) -> None:
        made[_node(output)] = conv

    def keep_input(norm: nn.Module, inputs: tuple[Tensor]) -> None:
        used.setdefault(norm, []).append(_node(inputs[0]))

    hooks = [module.register_forward_hook(keep_output) for module in model.modules() if is_plain(module)]
    hooks += [module.register_forward_pre_hook(keep_input) for module in model.modules() if _is_norm(module)]
    training = model.training
    example = torch.linspace(-1, 1, 3 * 96 * 96).reshape(1, 3, 96, 96).to(next(model.parameters()))
    with torch.enable_grad():
        output = model.eval()(example.requires_grad_())
    model.train(training)
    for hook in hooks:
        hook.remove()
    readers = _readers(_node(output))
    calls = Counter(made.values())
    return [
        (made[nodes[0]], norm)  # type: ignore[misc]
        for norm, nodes in used.items()
        if len(nodes) == 1 and nodes[0] in made and readers[nodes[0]] == calls[made[nodes[0]]] == 1
    ]


def _is_norm(module: nn.Module) -> bool:
    return type(module) in (nn.BatchNorm2d, BatchNormAct2d)


def _node(x: Tensor) -> Node:
    """The place in the graph of a tensor that was computed with gradients."""
    assert x.grad_fn is not None
    return x.grad_fn


def _readers(last: Node) -> Counter[Node]:
    """How many operations read the output of each operation that leads to the last one."""
    readers: Counter[Node] = Counter()
    seen, todo = {last}, [last]
    while todo:
        for node, _ in todo.pop().next_functions:
            if node is not None:
                readers[node] += 1
                if node not in seen:
                    seen.add(node)
                    todo.append(node)
    return readers
