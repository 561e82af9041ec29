"""CIAN: backbone + affinity module + head (arXiv 1811.10842)."""

from __future__ import annotations

from torch import Tensor, nn

from cian.affinity import CrossImageAffinity
from cian.backbone.dense import Backbone
from cian.backbone.pretrained import build_backbone
from cian.config import Config


class CIAN(nn.Module):
    """The segmentation network.

    Args:
        backbone: features; a `Backbone`, or timm's name of one (with ImageNet weights).
        num_classes: K, with background.
        affinity: the module, or None for the same network without it.
        head_dilation: dilation of the head's 3×3 convolution; default 96 px of the image (12 cells at stride 8).
    """

    def __init__(
        self,
        backbone: Backbone | str,
        num_classes: int,
        affinity: CrossImageAffinity | None = None,
        head_dilation: int | None = None,
    ):
        super().__init__()
        self.backbone = build_backbone(backbone) if isinstance(backbone, str) else backbone
        self.affinity = affinity
        dilation = head_dilation or max(1, 96 // self.backbone.grid.stride)
        self.head = nn.Conv2d(
            self.backbone.channels, num_classes, 3, padding=dilation, dilation=dilation, bias=False
        )  # DeepLab-LargeFOV
        nn.init.normal_(self.head.weight, std=0.01)

    @property
    def num_classes(self) -> int:
        return self.head.out_channels

    def forward(self, images: Tensor, group_size: int = 1) -> tuple[Tensor, Tensor | None]:
        """Logits of the self branch and of the cross branch.

        At test time an image is alone, its own reference: group_size 1 gives the self branch only.

        Shape:
            images: (N, 3, H, W), normalised; N consists of `group_size` chunks, see `cross_image_affinity`.
            Returns two (N, K, h, w) at the backbone's stride; the second is None for group_size 1 or without affinity.
        """
        features = self.backbone(images)  # (N, C, h, w)
        logits = self.head(features)
        affinity = self.affinity
        if affinity is None:
            return logits, None
        self_message, cross_message = affinity.messages(features, group_size)  # (N, d, h, w) each

        def with_residual(message: Tensor) -> Tensor:
            """head(X + r) = head(X) + head(r)"""
            return logits + affinity.convolve_residual(message, self.head)

        cross_logits = None if cross_message is None else with_residual(cross_message)
        return with_residual(self_message), cross_logits

    def parameter_groups(self, lr: float, new_lr_factor: float) -> list[dict]:
        """Optimiser groups: the backbone at `lr`, the affinity module and the head at `lr · new_lr_factor`."""
        old = [p for p in self.backbone.parameters() if p.requires_grad]
        new = [p for module in (self.affinity, self.head) if module is not None for p in module.parameters()]
        return [{"params": old, "lr": lr}, {"params": new, "lr": lr * new_lr_factor}]


def build_network(config: Config, num_classes: int, *, weights: str | None = None) -> CIAN:
    """The network that a configuration describes.

    Args:
        num_classes: K, with background.
        weights: overrides `config.backbone.weights`, e.g. "random" where a state is loaded right after.
    """
    backbone = build_backbone(
        config.backbone.name,
        config.backbone.output_stride,
        weights or config.backbone.weights,
        config.backbone.frozen_stages,
    )
    settings = config.affinity
    affinity = None
    if settings.mode != "none":
        affinity = CrossImageAffinity(
            backbone.channels,
            settings.hidden,
            settings.similarity,
            settings.merge,
            settings.include_self,
            settings.pool,
        )
        if settings.tied_start:
            affinity.key.load_state_dict(affinity.query.state_dict())
    return CIAN(backbone, num_classes, affinity, config.train.head_dilation)
