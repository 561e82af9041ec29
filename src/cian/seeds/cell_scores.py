"""Which cells of an image are likely to belong to an object that its tags name.

Class activation maps tell classes apart, but they show objects badly. A classifier uses only parts of an object, and
also what comes with it, such as the sky behind an aeroplane. So the feature cells of all training images are compared,
in two steps:

1. What most cells have in common (grass, sky, walls) is background. A cell scores high for a tag if it has little of
   that, and much of what the cells of images with the tag have in common.
2. The cells found in step 1 are compared with all others, whatever their class. The sky behind aeroplanes is
   background now, because it is background in the images of most classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TAG = 0.1  # weight of what images with the tag have in common, beside that of what all have in common
RIDGE = 3.0  # added to the covariance's diagonal, in units of its mean
DETAIL = 2.0  # weight of fine features beside the last ones, in objectness


class CellScores(nn.Module):
    """Scores of single feature cells by one linear function per tag, and objectness by one for all.

    With z = (x - μ) / |x - μ| of a cell's features x and their mean μ, the mean m of z over all cells, its mean m_c
    over the cells of images with tag c, and its second moments Σ, the score is max(0, w_c · z) with
    w_c = (Σ + λI)⁻¹ (0.1 m_c - m): a linear discriminant that leads away from what is common.

    Objectness is learned from cells that are known to be objects (`estimate_objectness`), from z and fine features d of
    the same cell, treated likewise: y = (z, 2 d). With the means m_1 of y over objects and m_0 over all other cells, it
    is (v · y - v · m_0) / (v · m_1 - v · m_0), v = (Σ + λI)⁻¹ (m_1 - m_0): 0 for an average cell of the background, 1
    for one of an object. Until then it is 0.

    Args:
        channels: C, of the features.
        detail_channels: C', of the fine features.
        num_tags: number of classes without background.
    """

    center: Tensor
    weight: Tensor
    detail_center: Tensor
    object_weight: Tensor
    object_bias: Tensor

    def __init__(self, channels: int, detail_channels: int, num_tags: int):
        super().__init__()
        self.register_buffer("center", torch.zeros(channels))
        self.register_buffer("weight", torch.zeros(num_tags, channels))
        self.register_buffer("detail_center", torch.zeros(detail_channels))
        self.register_buffer("object_weight", torch.zeros(1, channels + detail_channels))
        self.register_buffer("object_bias", torch.zeros(1))

    def forward(self, features: Tensor, detail: Tensor) -> tuple[Tensor, Tensor]:
        """
        Shape:
            features: (N, C, h, w); detail: (N, C', h, w), see `at_cells`. Returns scores (N, num_tags, h, w), not
            negative, and objectness (N, 1, h, w) in [0, 1].
        """
        directions = _directions(features, self.center)
        objectness = F.conv2d(self._both(directions, detail), self.object_weight[:, :, None, None], self.object_bias)
        return F.conv2d(directions, self.weight[:, :, None, None]).relu(), objectness.clamp(0, 1)

    def estimate(self, cells: Sequence[Tensor], tags: Tensor) -> None:
        """Sets the linear functions of the scores from cells of the training images.

        Shape:
            cells: for each image (n, C), n may differ; tags: (images, num_tags) float, 0 or 1.
        """
        counts = torch.tensor([len(part) for part in cells])
        x = torch.cat([part.float() for part in cells])
        self.center.copy_(x.mean(0))
        z = _directions(x, self.center)
        mean = z.mean(0)
        sums = torch.stack([part.sum(0) for part in z.split(counts.tolist())])  # (images, C)
        number = tags.T @ counts[:, None].float()  # (num_tags, 1), of cells
        per_tag = torch.where(number > 0, tags.T @ sums / number.clamp(min=1), mean)  # (num_tags, C)
        self.weight.copy_(torch.linalg.solve(_moments(z), (TAG * per_tag - mean).T).T)

    def estimate_objectness(self, cells: Tensor, detail: Tensor, objects: Tensor) -> None:
        """Sets the linear function of objectness; without objects, or with nothing else, it stays 0.

        Shape:
            cells: (n, C), detail: (n, C'), of the same cells; objects: (n,) bool.
        """
        if not objects.any() or objects.all():
            return
        self.detail_center.copy_(detail.float().mean(0))
        y = self._both(_directions(cells.float(), self.center), detail.float())
        inside, outside = y[objects].mean(0), y[~objects].mean(0)
        direction = torch.linalg.solve(_moments(y), inside - outside)
        span = (direction @ (inside - outside)).clamp(min=1e-12)
        self.object_weight.copy_(direction[None] / span)
        self.object_bias.copy_(-(direction @ outside)[None] / span)

    def _both(self, directions: Tensor, detail: Tensor) -> Tensor:
        """y = (z, 2 d) of directions z (N, C, …) and fine features (N, C', …): (N, C + C', …)."""
        return torch.cat((directions, DETAIL * _directions(detail, self.detail_center)), 1)


def _directions(x: Tensor, center: Tensor) -> Tensor:
    """(N, C, …), less the centre (C,), of length 1."""
    return F.normalize(x - center.view(-1, *[1] * (x.ndim - 2)), dim=1)


def at_cells(detail: Tensor, features: Tensor) -> Tensor:
    """Fine features (N, C', h', w') at the cells of the features (N, C, h, w): (N, C', h, w)."""
    return F.interpolate(detail, features.shape[2:], mode="area")


def _moments(z: Tensor) -> Tensor:
    """(n, C) → Σ + λI, (C, C)"""
    moments = z.T @ z / len(z)
    return moments + RIDGE * moments.diagonal().mean().clamp(min=1e-12) * torch.eye(len(moments))
