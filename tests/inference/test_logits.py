"""Logits at several scales, mirrored and in tiles."""

from __future__ import annotations

import numpy as np
import torch

from cian.backbone.grid import Grid
from cian.inference import logits
from cian.inference.logits import _tiles, multi_scale_logits, segment_logits


def test_tiles_have_no_seams(segmenter, monkeypatch):
    """A function of single pixels gives the same in tiles; a function of the tile changes gradually between tiles."""
    image = np.random.default_rng(1).integers(0, 256, (300, 517, 3), dtype=np.uint8)
    settings = segmenter.config.predict.model_copy(update={"tile": 128})

    def colours(network, part, scales, mirror):
        assert max(part.shape[:2]) <= 128
        return torch.from_numpy(part.copy()).permute(2, 0, 1).float()

    monkeypatch.setattr(logits, "multi_scale_logits", colours)
    monkeypatch.setattr(Grid, "upsample", lambda self, logits, size: logits)
    tiled = segment_logits(segmenter.network, image, settings)
    torch.testing.assert_close(tiled, torch.from_numpy(image).permute(2, 0, 1).float(), rtol=1e-5, atol=1e-3)

    number = iter(range(1000))
    monkeypatch.setattr(
        logits, "multi_scale_logits", lambda n, part, s, m: torch.full((1, *part.shape[:2]), float(next(number) % 2))
    )
    stripes = segment_logits(segmenter.network, image[:100], settings)[0]  # 0, 1, 0, … from left to right
    assert stripes.min() == 0 and stripes.max() == 1 and stripes.diff(dim=1).abs().max() < 1.5 / 32


def test_tile_weights_sum_to_one_at_every_pixel():
    for side in range(100, 700, 3):
        total = np.zeros(side)
        for start, end, weights in _tiles(side, 128):
            assert len(weights) == end - start <= 128
            total[start:end] += weights
        np.testing.assert_allclose(total, 1, atol=1e-5, err_msg=str(side))


def test_tiles_of_a_network(segmenter):
    image = np.random.default_rng(2).integers(0, 256, (100, 300, 3), dtype=np.uint8)
    settings = segmenter.config.predict
    tiled = segment_logits(segmenter.network, image, settings.model_copy(update={"tile": 128}))
    whole = segment_logits(segmenter.network, image, settings)
    assert tiled.shape == whole.shape == (3, 100, 300) and tiled.isfinite().all()
    jumps = tiled.diff(dim=2).abs().mean((0, 1))  # (299,), from each column to the next
    borders = torch.tensor([86, 128, 172, 214]) - 1  # tiles start at 0, 86 and 172
    assert jumps[borders].max() < 4 * jumps.median()
    assert not torch.equal(tiled, whole)


def test_mirrored_image_gives_the_mirrored_logits(segmenter, image):
    settings = segmenter.config.predict
    straight = segment_logits(segmenter.network, image, settings)
    mirrored = segment_logits(segmenter.network, image[:, ::-1], settings)
    torch.testing.assert_close(mirrored.flip(2), straight, rtol=1e-3, atol=1e-3 * float(straight.abs().max()))


def test_scales_are_averaged_with_their_maximum(segmenter, image):
    """Where all scales give the same grid, the fused map is the mean of the maps and their maximum."""
    one = multi_scale_logits(segmenter.network, image, [1.0], False)
    other = multi_scale_logits(segmenter.network, image, [1.01], False)
    assert one.shape == other.shape
    both = multi_scale_logits(segmenter.network, image, [1.0, 1.01], False)
    torch.testing.assert_close(both, (one + other + torch.maximum(one, other)) / 3, rtol=1e-4, atol=1e-4)
