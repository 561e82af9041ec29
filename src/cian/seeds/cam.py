"""A multi-label classifier on the backbone, and its class activation maps (Zhou et al. 2016, arXiv 1512.04150)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cian.backbones import Backbone
from cian.grid import as_input, scaled, upsample
from cian.seeds.spread import spread


class Classifier(nn.Module):
    """Backbone, global average pooling, and one linear layer.

    Args:
        backbone: features.
        num_tags: number of classes without background.
    """

    def __init__(self, backbone: Backbone, num_tags: int):
        super().__init__()
        self.backbone = backbone
        self.head = nn.Conv2d(backbone.channels, num_tags, 1, bias=False)
        nn.init.normal_(self.head.weight, std=0.01)

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


@torch.no_grad()
def class_activation_maps(
    model: Classifier, image: np.ndarray, tags: np.ndarray, scales: Sequence[float], mirror: bool
) -> tuple[np.ndarray, np.ndarray]:
    """CAMs of an image's own tags, averaged over scales and mirror images, each divided by its maximum; and the same
    maps spread over what looks alike (see `spread`).

    Shape:
        image: (H, W, 3) uint8; tags: (T,) class ids from 1. Returns two (T, H, W) float32 in [0, 1].
    """
    height, width = image.shape[:2]
    if not len(tags):
        return np.zeros((0, height, width), np.float32), np.zeros((0, height, width), np.float32)
    channels = torch.as_tensor(tags, dtype=torch.long) - 1
    pixels = as_input(image, model.backbone, next(model.parameters()).device)
    features, detail = model.backbone.forward_detail(scaled(pixels, 1.0, model.backbone))
    maps: list[Tensor] = []
    for scale in scales:
        batch = scaled(pixels, scale, model.backbone)
        views: list[Tensor] = [features] if scale == 1.0 else []  # these are there already
        todo = [batch] * (scale != 1.0) + [batch.flip(3)] * mirror
        if todo:
            views += torch.split(model.backbone(torch.cat(todo)), 1)
        found = [model.head(view).relu()[:, channels] for view in views]  # (1, T, h, w) each
        maps.append((found[0] + found[1].flip(3)) / 2 if mirror else found[0])
    finest = max((cam.shape[2:] for cam in maps), key=lambda size: size[0] * size[1])
    mean = torch.stack([upsample(cam, finest, model.backbone) for cam in maps]).mean(0)  # (1, T, h, w)
    spread_maps = spread(mean[0], detail[0], pixels[0], model.backbone.grid == "corner")
    cams = upsample(mean, (height, width), model.backbone)[0]  # (T, H, W)
    cams = cams / cams.amax((1, 2), keepdim=True).clamp(min=1e-6)
    spread_maps = upsample(spread_maps[None], (height, width), model.backbone)[0]
    return cams.cpu().numpy(), spread_maps.cpu().numpy()
