"""Logits of one image: at several scales, mirrored, and in tiles if it is large."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from cian.config import PredictConfig
from cian.network import CIAN


@torch.no_grad()
def multi_scale_logits(network: CIAN, image: np.ndarray, scales: Sequence[float], mirror: bool) -> Tensor:
    """Logits of one image, averaged over scales and with those of the mirrored image.

    With several scales, the maximum over them is averaged in as one more map, as in the paper. The maps are fused at
    the resolution of the finest one; `Grid.upsample` brings them to the size of the image.

    Shape:
        image: (H, W, 3) uint8. Returns (K, h, w) float32.
    """
    grid = network.backbone.grid
    pixels = grid.as_input(image, next(network.parameters()).device)
    maps: list[Tensor] = []
    for scale in scales:
        batch = grid.scaled(pixels, scale)
        if mirror:
            batch = torch.cat([batch, batch.flip(3)])
        maps.append(network(batch, group_size=1)[0].float())  # (1 or 2, K, h, w)
    finest = max((logits.shape[2:] for logits in maps), key=lambda size: size[0] * size[1])
    stack = torch.stack([grid.upsample(logits, finest) for logits in maps])  # (S, 1 or 2, K, h, w)
    if len(scales) > 1:
        stack = torch.cat([stack, stack.amax(0, keepdim=True)])
    fused = stack.mean(0)
    return (fused[0] + fused[1].flip(2)) / 2 if mirror else fused[0]


def segment_logits(network: CIAN, image: np.ndarray, settings: PredictConfig) -> Tensor:
    """(H, W, 3) uint8 → multi-scale logits (K, H, W) float32 on the network's device.

    Sides longer than `settings.tile` are cut into tiles that overlap by a quarter. In the overlap, the weight moves
    linearly from one tile to the next, so that no seam shows.
    """
    height, width = image.shape[:2]
    rows, columns = (_tiles(side, settings.tile) for side in (height, width))
    total: Tensor | None = None
    for top, bottom, vertical in rows:
        for left, right, horizontal in columns:
            fused = multi_scale_logits(network, image[top:bottom, left:right], settings.scales, settings.mirror)
            logits = network.backbone.grid.upsample(fused[None], (bottom - top, right - left))[0]  # (K, h, w)
            if len(rows) == len(columns) == 1:
                return logits
            if total is None:
                total = logits.new_zeros(len(logits), height, width)
            weights = torch.from_numpy(np.outer(vertical, horizontal)).to(logits)  # (h, w)
            total[:, top:bottom, left:right] += logits.mul_(weights)
    assert total is not None
    return total


def _tiles(side: int, most: int) -> list[tuple[int, int, np.ndarray]]:
    """The tiles along one side: (start, end, weights (end - start,)).

    They are evenly spaced, and none is longer than `most`. At every pixel the weights of all tiles sum to 1.
    """
    if side <= most:
        return [(0, side, np.ones(side, np.float32))]
    overlap = most // 4
    count = -(-(side - overlap) // (most - overlap))
    starts = np.linspace(0, side - most, count).round().astype(int)
    ends = starts + most
    ramps, total = [], np.zeros(side, np.float32)
    for i, (start, end) in enumerate(zip(starts, ends, strict=True)):
        ramp = np.ones(most, np.float32)
        if i:
            shared = ends[i - 1] - start
            ramp[:shared] *= (np.arange(shared) + 0.5) / shared
        if i < count - 1:
            shared = end - starts[i + 1]
            ramp[-shared:] *= 1 - (np.arange(shared) + 0.5) / shared
        ramps.append(ramp)
        total[start:end] += ramp
    # where three tiles overlap, the ramps alone do not sum to 1
    return [(int(s), int(e), ramp / total[s:e]) for s, e, ramp in zip(starts, ends, ramps, strict=True)]
