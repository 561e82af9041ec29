"""Networks as a configuration describes them: weights loaded, and made fast at the end (see `cian.fast`)."""

from __future__ import annotations

from cian.affinity import CrossImageAffinity
from cian.backbone.dense import Backbone
from cian.backbone.pretrained import build_backbone
from cian.config import Config
from cian.fast import speed_up
from cian.network import CIAN


def build_network(config: Config, num_classes: int, *, weights: str | None = None, fast: bool = True) -> CIAN:
    """The segmentation network.

    Args:
        num_classes: K, with background.
        weights: replaces `config.backbone.weights`; "random" where weights of the whole network are loaded next.
        fast: False leaves the network plain PyTorch, for export.
    """
    backbone = backbone_of(config, weights)
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
    network = CIAN(backbone, num_classes, affinity, config.train.head_dilation)
    return speed_up(network) if fast else network


def backbone_of(config: Config, weights: str | None) -> Backbone:
    """The backbone that the settings name. For `weights`, see `build_network`."""
    settings = config.backbone
    return build_backbone(settings.name, settings.output_stride, weights or settings.weights, settings.frozen_stages)
