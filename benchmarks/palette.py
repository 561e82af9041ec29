"""Makes the table of colours in src/cian/data/palette.py.

    python benchmarks/palette.py

Each colour is the one whose least distance to all earlier ones is greatest: in OKLab, for normal sight and for
deuteranopia, protanopia and tritanopia. So any first n colours differ well, whatever the number of classes. Dark, pale
and greyish colours are left out.
"""

from __future__ import annotations

import itertools

import numpy as np

# Linear RGB as somebody without one kind of cones sees it: Machado et al., 2009, severity 1.
SIGHTS = (
    np.eye(3),
    np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]),
    np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]),
    np.array([[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]),
)
# OKLab: Ottosson, 2020.
CONES = np.array(
    [[0.4122214708, 0.5363325363, 0.0514459929], [0.2119034982, 0.6806995451, 0.1073969566],
     [0.0883024619, 0.2817188376, 0.6299787005]]
)  # fmt: skip
LAB = np.array(
    [[0.2104542553, 0.7936177850, -0.0040720468], [1.9779984951, -2.4285922050, 0.4505937099],
     [0.0259040371, 0.7827717662, -0.8086757660]]
)  # fmt: skip

TAKEN = [[0, 0, 0], [160, 160, 160]]  # background in files, and unlabelled
FIRST = [252, 60, 0]  # stands out on most photographs
NUMBER = 254
LEVELS = (*range(0, 256, 12), 255)  # of red, green and blue
LIGHTNESS, CHROMA = (0.4, 0.95), 0.12  # in OKLab


def seen(colours: np.ndarray) -> np.ndarray:
    """(n, 3) sRGB, 0 … 255, in OKLab for each kind of sight: (4, n, 3)."""
    values = np.asarray(colours) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return np.stack([np.cbrt((linear @ sight.T).clip(0, 1) @ CONES.T) @ LAB.T for sight in SIGHTS])


def distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(n, m): how much colours differ for the sight for which they differ least, in hundredths of OKLab's lightness.

    Shape:
        first: (4, n, 3), second: (4, m, 3), from `seen`.
    """
    return 100 * np.linalg.norm(first[:, :, None] - second[:, None], axis=-1).min(0)


def palette() -> np.ndarray:
    """(254, 3) uint8."""
    grid = np.array(list(itertools.product(LEVELS, repeat=3)))
    lightness, *ab = seen(grid)[0].T
    vivid = (lightness > LIGHTNESS[0]) & (lightness < LIGHTNESS[1]) & (np.hypot(*ab) > CHROMA)
    grid = grid[vivid & (grid % 32 > 0).any(1)]  # without the colours of PASCAL VOC, which are multiples of 32
    views = seen(grid)
    chosen = [FIRST]
    nearest = distances(views, seen(np.array([*TAKEN, FIRST]))).min(1)
    while len(chosen) < NUMBER:
        best = nearest.argmax()
        chosen.append(grid[best].tolist())
        nearest = np.minimum(nearest, distances(views, views[:, best : best + 1])[:, 0])
    return np.array(chosen, np.uint8)


def main() -> None:
    codes = ["".join(f"{value:02x}" for value in colour) for colour in palette()]
    for start in range(0, NUMBER, 16):
        print("   ", " ".join(codes[start : start + 16]))


if __name__ == "__main__":
    main()
