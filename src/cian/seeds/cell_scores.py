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
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TAG = 0.1  # weight of what images with the tag have in common, beside that of what all have in common
RIDGE = 3.0  # added to the covariance's diagonal, in units of its mean
DETAIL = 2.0  # weight of fine features beside the last ones, in objectness
GUESSES = 10  # the labelled images whose cells count as much as all guesses
FEW = 12  # the labelled cells with which an image counts half: a click is less than a mask


@dataclass(frozen=True)
class LabelledCells:
    """Cells of an image that people have labelled.

    Attributes:
        tags: the class ids of the image's tags.
        inside, outside: (n, D) and (m, D): y of its cells of objects and of background, see `CellScores.described`.
    """

    tags: frozenset[int]
    inside: Tensor
    outside: Tensor


@dataclass(frozen=True)
class Contrast:
    """What objects and background look like.

    Attributes:
        inside, outside: (D,), the means m_1 and m_0 of y over cells of objects and over other cells.
        moments: (D, D), Σ + λI of all cells.
    """

    inside: Tensor
    outside: Tensor
    moments: Tensor

    def function(self) -> tuple[Tensor, Tensor]:
        """The weight (D,) and the bias () of the linear function that is 1 at m_1 and 0 at m_0."""
        direction = torch.linalg.solve(self.moments, self.inside - self.outside)
        span = (direction @ (self.inside - self.outside)).clamp(min=1e-12)
        return direction / span, -(direction @ self.outside) / span

    def moved(self, images: Sequence[LabelledCells]) -> Contrast:
        """With the means moved towards those over labelled cells: half of the way for `GUESSES` images. An image with n
        cells counts n / (n + `FEW`)."""

        def mean(before: Tensor, parts: list[Tensor]) -> Tensor:
            parts = [part for part in parts if len(part)]
            if not parts:
                return before
            images = sum(len(part) / (len(part) + FEW) for part in parts)
            return before.lerp(torch.cat(parts).mean(0), images / (images + GUESSES))

        return replace(
            self,
            inside=mean(self.inside, [image.inside for image in images]),
            outside=mean(self.outside, [image.outside for image in images]),
        )


class CellScores(nn.Module):
    """Scores of single feature cells by one linear function per tag, and objectness by one for all.

    With z = (x - μ) / |x - μ| of a cell's features x and their mean μ, the mean m of z over all cells, its mean m_c
    over the cells of images with tag c, and its second moments Σ, the score is max(0, w_c · z) with
    w_c = (Σ + λI)⁻¹ (0.1 m_c - m): a linear discriminant that leads away from what is common.

    Objectness is learned from cells that are known to be objects (`estimate_objectness`), from z and fine features d of
    the same cell, treated likewise: y = (z, 2 d). With the means m_1 of y over objects and m_0 over all other cells, it
    is (v · y - v · m_0) / (v · m_1 - v · m_0), v = (Σ + λI)⁻¹ (m_1 - m_0): 0 for an average cell of the background, 1
    for one of an object. Until then it is 0.

    Where people have labelled cells (`learn_objectness`), m_1 and m_0 move towards the means over these, and each tag
    gets a function of its own: water is background in images of boats.

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
            negative, and objectness in [0, 1], (N, 1, h, w) or (N, num_tags, h, w).
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

    def estimate_objectness(self, cells: Tensor, detail: Tensor, objects: Tensor) -> Contrast | None:
        """Sets the linear function of objectness; without objects, or with nothing else, it stays 0.

        Shape:
            cells: (n, C), detail: (n, C'), of the same cells; objects: (n,) bool.

        Returns:
            What the function follows from; None if it stays 0.
        """
        if not objects.any() or objects.all():
            return None
        self.detail_center.copy_(detail.float().mean(0))
        y = self.described(cells, detail)
        contrast = Contrast(y[objects].mean(0), y[~objects].mean(0), _moments(y))
        self._set_objectness([contrast])
        return contrast

    def learn_objectness(self, guessed: Contrast, labelled: Sequence[LabelledCells]) -> None:
        """Sets a linear function of objectness for each tag, from cells that people have labelled and from guesses.

        The means over labelled cells count as much as those that were guessed after `GUESSES` whole images: first those
        of all labelled images together, then those of the images with the tag.

        Args:
            guessed: what `estimate_objectness` returned.
            labelled: the labelled cells of each labelled image.
        """
        of_all = guessed.moved(labelled)
        tags = range(1, len(self.weight) + 1)
        self._set_objectness([of_all.moved([image for image in labelled if tag in image.tags]) for tag in tags])

    def described(self, cells: Tensor, detail: Tensor) -> Tensor:
        """y of features (n, C) and fine features (n, C') of the same cells: (n, C + C')."""
        return self._both(_directions(cells.float(), self.center), detail.float())

    def _set_objectness(self, contrasts: Sequence[Contrast]) -> None:
        weights, biases = zip(*(contrast.function() for contrast in contrasts), strict=True)
        self.object_weight, self.object_bias = torch.stack(weights), torch.stack(biases)

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *others: Any) -> None:
        for name in ("object_weight", "object_bias"):  # one function for all tags, or one for each
            found, own = state_dict.get(prefix + name), getattr(self, name)
            if found is not None and len(found) == len(self.weight) and found.shape[1:] == own.shape[1:]:
                setattr(self, name, own.new_zeros(found.shape))
        super()._load_from_state_dict(state_dict, prefix, *others)

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
