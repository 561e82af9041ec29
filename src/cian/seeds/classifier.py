"""The multi-label classifier whose class activation maps become seeds."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from cian.backbone.dense import Backbone
from cian.fast.frozen_norms import Conv2d
from cian.seeds.cell_scores import CellScores


class Classifier(nn.Module):
    """Backbone, global average pooling, and one linear layer; and scores of single cells, estimated after training.

    Args:
        backbone: features.
        num_tags: number of classes without background.
    """

    def __init__(self, backbone: Backbone, num_tags: int):
        super().__init__()
        self.backbone = backbone
        self.head = Conv2d(backbone.channels, num_tags, 1, bias=False)
        nn.init.normal_(self.head.weight, std=0.01)
        self.cells = CellScores(backbone.channels, backbone.detail_channels, num_tags)

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W), normalised → logits (N, num_tags)."""
        return self.head(self.backbone(images).mean((2, 3), keepdim=True)).flatten(1)

    def parameter_groups(self, lr: float, new_lr_factor: float) -> list[dict]:
        old = [p for p in self.backbone.parameters() if p.requires_grad]
        return [{"params": old, "lr": lr}, {"params": self.head.parameters(), "lr": lr * new_lr_factor}]


def classification_loss(logits: Tensor, tags: Tensor) -> Tensor:
    """Multi-label binary cross-entropy.

    Shape:
        logits: (N, num_tags); tags: (N, 1 + num_tags) bool, background first (it is not classified). Scalar, in nats.
    """
    return F.binary_cross_entropy_with_logits(logits.float(), tags[:, 1:].float())
