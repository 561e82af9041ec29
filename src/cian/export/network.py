"""The network as it is exported: plain PyTorch, from pixels in 0 … 255 to logits."""

from __future__ import annotations

from functools import partial

import torch
from timm.layers import Conv2dSame
from torch import Tensor, nn

from cian.build import build_network
from cian.errors import CianError
from cian.inference.onnx_network import OnnxNetwork
from cian.inference.segmenter import Segmenter

NODES = "/network/backbone/"  # how the names of the backbone's nodes begin in the ONNX file


class ExportedNetwork(nn.Module):
    """A model's network with the normalisation of its pixels.

    Raises:
        CianError: the model is an ONNX file already.
    """

    def __init__(self, segmenter: Segmenter):
        super().__init__()
        if isinstance(segmenter.network, OnnxNetwork):
            raise CianError(f"{segmenter.network.path}: is exported already. Give a run or its model.")
        self.network = build_network(segmenter.config, len(segmenter.class_names), weights="random", fast=False)
        self.network.load_state_dict(segmenter.network.state_dict())
        self.grid = self.network.backbone.grid
        self.eval()
        if self.grid.corner:
            _fix_padding(self.network)
        self.mean, self.std = (torch.tensor(value).view(3, 1, 1) for value in (self.grid.mean, self.grid.std))

    def forward(self, images: Tensor) -> Tensor:
        """Shape: (N, 3, H, W) RGB in 0 … 255, of a size that fits the grid → logits (N, K, h, w)."""
        pixels = (images / 255 - self.mean) / self.std  # (N, 3, H, W)
        return self.network(pixels, group_size=1)[0]

    def example(self, rows: int = 5, columns: int = 8, batch: int = 2) -> Tensor:
        """Noise of a size that fits the grid. Shape: (N, 3, H, W)."""
        size = self.grid.size((rows - 1) * self.grid.stride + 1, (columns - 1) * self.grid.stride + 1)
        return 255 * torch.rand(batch, 3, *size, generator=torch.Generator().manual_seed(0))


def _fix_padding(network: nn.Module) -> None:
    """Replaces TensorFlow's "same" padding, which depends on the size of the image, by a fixed one.

    On sizes stride · n + 1 both are equal: what is left over is symmetric. Exporters cannot follow the sizes.
    """
    for module in network.modules():
        if isinstance(module, Conv2dSame):
            module.padding = tuple((k - 1) * d // 2 for k, d in zip(module.kernel_size, module.dilation, strict=True))
            setattr(module, "forward", partial(nn.Conv2d.forward, module))  # noqa: B010 (mypy allows it)
