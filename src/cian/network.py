"""CIAN, the segmentation network: backbone, affinity module, head (arXiv 1811.10842)."""

from __future__ import annotations

from torch import Tensor, nn

from cian.affinity import CrossImageAffinity
from cian.backbone.dense import Backbone
from cian.backbone.pretrained import build_backbone


class CIAN(nn.Module):
    """The segmentation network.

    Args:
        backbone: the network that computes the features X, with C `channels`, or timm's name of one (with ImageNet
            weights). A cell of X is `grid.stride` pixels wide.
        num_classes: K, with background.
        affinity: the affinity module, or None for the same network without it.
        head_dilation: dilation of the head's 3×3 convolution, in cells; default: as many as span 96 pixels.
    """

    def __init__(
        self, backbone: Backbone | str, num_classes: int,
        affinity: CrossImageAffinity | None = None, head_dilation: int | None = None,
    ):  # fmt: skip
        super().__init__()
        self.backbone = build_backbone(backbone) if isinstance(backbone, str) else backbone
        self.affinity, self.num_classes = affinity, num_classes
        d = head_dilation or max(1, 96 // self.backbone.grid.stride)
        self.head = nn.Conv2d(self.backbone.channels, num_classes, 3, padding=d, dilation=d, bias=False)
        nn.init.normal_(self.head.weight, std=0.01)  # the head is that of DeepLab-LargeFOV

    def forward(self, images: Tensor, group_size: int = 1) -> tuple[Tensor, Tensor | None]:
        """Logits of the self branch and of the cross branch, by the same head. For prediction, group_size is 1: an
        image has no references, and only the self branch runs.

        Shape: normalised images (N, 3, H, W), groups as in `cross_image_affinity` → two (N, K, h, w), one value a cell;
            cross is None for group_size 1 and without affinity.
        """
        features = self.backbone(images)  # X, (N, C, h, w)
        if self.affinity is None:
            return self.head(features), None  # (N, K, h, w)
        self_features, cross_features = self.affinity(features, group_size)  # X^, (N, C, h, w) each
        cross_logits = None if cross_features is None else self.head(cross_features)  # (N, K, h, w)
        return self.head(self_features), cross_logits  # (N, K, h, w) each
