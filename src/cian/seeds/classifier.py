"""The multi-label classifier whose class activation maps become seeds."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from cian.backbone.dense import Backbone
from cian.build import backbone_of
from cian.config import Config
from cian.fast import speed_up
from cian.seeds.cell_scores import CellScores


class Classifier(nn.Module):
    """Backbone, global average pooling and a linear layer; and scores of cells, which are estimated after training.

    Args:
        backbone: the network that computes the features.
        num_tags: number of classes without background.
    """

    def __init__(self, backbone: Backbone, num_tags: int):
        super().__init__()
        self.backbone = backbone
        self.head = nn.Conv2d(backbone.channels, num_tags, 1, bias=False)
        nn.init.normal_(self.head.weight, std=0.01)
        self.cells = CellScores(backbone.channels, backbone.detail_channels, num_tags)

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W), normalised → logits (N, num_tags)."""
        return self.head(self.backbone(images).mean((2, 3), keepdim=True)).flatten(1)


def build_classifier(config: Config, num_tags: int, *, weights: str | None = None) -> Classifier:
    """The classifier as the settings describe it.

    Args:
        num_tags: number of classes without background.
        weights: see `cian.build.build_network`.
    """
    return speed_up(Classifier(backbone_of(config, weights), num_tags))


def classification_loss(logits: Tensor, tags: Tensor) -> Tensor:
    """Multi-label binary cross-entropy.

    Shape:
        logits: (N, num_tags); tags: (N, 1 + num_tags) bool, background first, which is not classified. Returns a
            scalar, in nats.
    """
    return F.binary_cross_entropy_with_logits(logits.float(), tags[:, 1:].float())
