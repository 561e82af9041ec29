"""Images, energies and comparisons that the tests of the CRF share."""

from __future__ import annotations

import numpy as np
from PIL import Image


def smooth(rng: np.random.Generator, height: int, width: int, cell: int) -> np.ndarray:
    """A random map (H, W) that changes over some `cell` pixels, standard deviation about 1."""
    coarse = Image.fromarray(rng.normal(size=(height // cell + 2, width // cell + 2)).astype(np.float32))
    return np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))


def scene(seed: int, classes: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Coloured regions with noise, and energies whose edges do not follow them."""
    rng = np.random.default_rng(seed)
    colour = 128 + 60 * np.stack([smooth(rng, height, width, 20) for _ in range(3)], axis=-1)
    image = np.clip(np.round(colour / 40) * 40 + rng.normal(0, 5, colour.shape), 0, 255).astype(np.uint8)
    return image, np.stack([-5 * smooth(rng, height, width, 9) for _ in range(classes)])


def softmax(logits: np.ndarray) -> np.ndarray:
    q = np.exp(logits - logits.max(axis=0))
    return q / q.sum(axis=0)


def assert_agrees(actual: np.ndarray, expected: np.ndarray) -> None:
    assert np.abs(actual - expected).max() <= 1e-4
    assert (actual.argmax(axis=0) == expected.argmax(axis=0)).mean() >= 0.999
