"""The threshold of seeds: from which value an object map shows an object."""

from __future__ import annotations

import numpy as np

_BINS = 64
_HIGHEST = 0.85  # Otsu's threshold of an object map (0 … 1) is raised up to this


def seed_threshold(objects: np.ndarray, factor: float) -> float:
    """The value from which an object map shows an object: `factor` times Otsu's threshold.

    It is at most 0.85, or Otsu's threshold itself if that is higher.

    Otsu's threshold alone is too low: it labels background as objects, which harms the network more than parts of
    objects that are left out.

    Shape:
        objects: (H, W) in [0, 1].
    """
    found = otsu(objects, 0, 1)
    return min(found * factor, max(found, _HIGHEST))


def otsu(values: np.ndarray, low: float, high: float) -> float:
    """The threshold in low … high that divides the values there into two classes with the least variance within them
    (Otsu, "A Threshold Selection Method from Gray-Level Histograms", 1979)."""
    counts, edges = np.histogram(values, _BINS, (low, high))
    share = counts.cumsum() / counts.sum()  # of the values up to each edge
    mean = (counts * (edges[:-1] + edges[1:]) / 2).cumsum() / counts.sum()
    between = (mean[-1] * share - mean) ** 2 / np.maximum(share * (1 - share), 1e-9)
    return float(edges[1:][between.argmax()])
