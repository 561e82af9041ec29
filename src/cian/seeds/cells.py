"""Which cells of a picture are likely to belong to an object that its tags name.

Class activation maps say which class is where, but less well what belongs to the object at all: a classifier also looks
at what goes with a class, such as the sky behind an aeroplane, and not at all of the object. Here the feature cells of
all training pictures are compared with each other instead. What most cells have in common (grass, sky, walls) is
background; a cell counts the more, the less it shares of that and the more of what cells of pictures with the tag have
in common.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TAG = 0.1  # weight of what pictures with the tag have in common, beside that of what all have in common
RIDGE = 3.0  # added to the covariance's diagonal, in units of its mean


class CellScores(nn.Module):
    """Scores of single feature cells by one linear function per tag.

    With z = (x - μ) / |x - μ| of a cell's features x and their mean μ, the mean m of z over all cells, its mean m_c
    over the cells of pictures with tag c, and its second moments Σ, the score is max(0, w_c · z) with
    w_c = (Σ + λI)⁻¹ (0.1 m_c - m): a linear discriminant that leads away from what is common.

    Args:
        channels: of the features.
        num_tags: number of classes without background.
    """

    center: Tensor
    weight: Tensor

    def __init__(self, channels: int, num_tags: int):
        super().__init__()
        self.register_buffer("center", torch.zeros(channels))
        self.register_buffer("weight", torch.zeros(num_tags, channels))

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, h, w) → (N, num_tags, h, w), not negative."""
        directions = F.normalize(features - self.center[:, None, None], dim=1)
        return F.conv2d(directions, self.weight[:, :, None, None]).relu()

    def estimate(self, cells: Sequence[Tensor], tags: Tensor) -> None:
        """Sets the linear functions from cells of the training pictures.

        Shape:
            cells: for each picture (n, C), n may differ; tags: (pictures, num_tags) float, 0 or 1.
        """
        counts = torch.tensor([len(part) for part in cells])
        x = torch.cat([part.float() for part in cells])
        center = x.mean(0)
        z = F.normalize(x - center, dim=1)
        mean = z.mean(0)
        moments = z.T @ z / len(z)
        moments += RIDGE * moments.diagonal().mean().clamp(min=1e-12) * torch.eye(len(moments))
        sums = torch.stack([part.sum(0) for part in z.split(counts.tolist())])  # (pictures, C)
        number = tags.T @ counts[:, None].float()  # (num_tags, 1), of cells
        per_tag = torch.where(number > 0, tags.T @ sums / number.clamp(min=1), mean)  # (num_tags, C)
        self.center.copy_(center)
        self.weight.copy_(torch.linalg.solve(moments, (TAG * per_tag - mean).T).T)
