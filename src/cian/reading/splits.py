"""A random draw of images to hold out. Splits in the rows of tags are read with those, list files by `formats`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from cian.config import DataConfig
from cian.data.problems import ProblemList
from cian.formats.split_names import VAL


def draw_val(
    tags: Sequence[list[int] | None], splits: list[str], config: DataConfig, seed: int, problems: ProblemList
) -> None:
    """Moves `data.val_fraction` of the images to the split `val`, in place.

    An image is moved only if each of its classes keeps more than `data.min_images` images to train on.
    """
    left = Counter(tag for row in tags for tag in row or ())
    wanted = max(1, round(config.val_fraction * len(splits)))
    drawn = 0
    for i in np.random.default_rng(seed).permutation(len(splits)).tolist():
        if drawn == wanted:
            break
        row = tags[i] or []
        if all(left[tag] > config.min_images for tag in row) and drawn < len(splits) - 1:
            for tag in row:
                left[tag] -= 1
            splits[i] = VAL
            drawn += 1
    if drawn < wanted:
        value = f"data.val_fraction={config.val_fraction} asks for {wanted} images, but only {drawn} could be held out"
        problems.add("settings", value, "Add images of the rare classes, or lower data.val_fraction", fatal=False)
