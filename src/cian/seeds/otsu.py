"""Otsu's threshold, which divides the values of a map into two classes."""

from __future__ import annotations

import numpy as np

_BINS = 64


def otsu(values: np.ndarray, low: float, high: float) -> float:
    """The threshold in low … high that divides the values there into two classes with the least variance within them
    (Otsu, "A Threshold Selection Method from Gray-Level Histograms", 1979)."""
    counts, edges = np.histogram(values, _BINS, (low, high))
    share = counts.cumsum() / counts.sum()  # of the values up to each edge
    mean = (counts * (edges[:-1] + edges[1:]) / 2).cumsum() / counts.sum()
    between = (mean[-1] * share - mean) ** 2 / np.maximum(share * (1 - share), 1e-9)
    return float(edges[1:][between.argmax()])
