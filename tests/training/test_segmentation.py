from __future__ import annotations

from pathlib import Path

import numpy as np

from cian.data.table import Table
from cian.training.segmentation import MOST_REPEATS, often_enough


def table_of(labelled: int, others: int) -> Table:
    names = [f"{i}" for i in range(labelled + others)]
    labels = [Path("l.png") if i < labelled else None for i in range(labelled + others)]
    return Table.build(("a",), names, [Path(f"{name}.png") for name in names], [[1]] * len(names), labels=labels)


def test_images_with_a_label_map_are_taken_often_enough():
    """20 of 200 images are labelled: taken three times, they are a quarter of an epoch."""
    counts = np.bincount(often_enough(table_of(20, 180), 0.25))
    assert counts.tolist() == [3] * 20 + [1] * 180


def test_few_labelled_images_are_not_taken_too_often():
    assert np.bincount(often_enough(table_of(1, 500), 0.25)).tolist() == [MOST_REPEATS] + [1] * 500


def test_an_epoch_takes_each_image_once_if_all_or_none_are_labelled():
    for table in (table_of(5, 0), table_of(0, 5)):
        assert often_enough(table, 0.25).tolist() == [0, 1, 2, 3, 4]
