"""A multi-label classifier on the backbone, and its class activation maps (Zhou et al. 2016, arXiv 1512.04150)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cian.backbones import Backbone
from cian.folding import Conv2d
from cian.grid import as_input, scaled, upsample
from cian.seeds.cells import CellScores
from cian.seeds.spread import spread


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
        self.cells = CellScores(backbone.channels, num_tags)

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
    """CAMs of an image's own tags, which tell the classes apart, and object maps, which tell objects from what is
    around them: the mean of the cells' scores (see `CellScores`) and of these spread over what looks alike (`spread`).

    All are averaged over scales and mirror images, and each is divided by its maximum.

    Shape:
        image: (H, W, 3) uint8; tags: (T,) class ids from 1. Returns two (T, H, W) float32 in [0, 1].
    """
    size = image.shape[:2]
    if not len(tags):
        return np.zeros((0, *size), np.float32), np.zeros((0, *size), np.float32)
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
        # CAMs and scores side by side: (1, 2, T, h, w) each
        found = [torch.stack((model.head(v).relu()[:, channels], model.cells(v)[:, channels]), 1) for v in views]
        maps.append((found[0] + found[1].flip(4)) / 2 if mirror else found[0])
    finest = max((view.shape[3:] for view in maps), key=lambda shape: shape[0] * shape[1])
    cams, scores = torch.stack([upsample(view[0], finest, model.backbone) for view in maps]).mean(0)  # (T, h, w) each
    alike = spread(scores, detail[0], pixels[0], model.backbone.grid == "corner")
    cams, scores, alike = (_to_one(upsample(part[None], size, model.backbone)[0]) for part in (cams, scores, alike))
    return cams.cpu().numpy(), _to_one(scores + alike).cpu().numpy()


def _to_one(maps: Tensor) -> Tensor:
    """(T, H, W) ≥ 0, each divided by its maximum."""
    return maps / maps.amax((1, 2), keepdim=True).clamp(min=1e-6)
