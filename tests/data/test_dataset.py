"""What the network trains on: images with their label maps and tags."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cian.config import AugmentConfig
from cian.data.dataset import TrainingSet
from cian.data.masks import write_mask
from cian.data.table import IGNORE, Table


@pytest.mark.parametrize("is_given", [True, False])
def test_ids_of_given_label_maps_follow_dropped_and_merged_classes(tmp_path: Path, is_given: bool) -> None:
    """Seed maps, which cian writes, have the ids of the table already."""
    Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
    write_mask(tmp_path / "labels.png", np.repeat([[0, 1, 2, 3]], 40, axis=0).repeat(10, axis=1).astype(np.uint8))
    labels = [tmp_path / "labels.png"]
    table = Table.build(
        ["dog", "cat"], ["a"], [tmp_path / "a.png"], [[1, 2]],
        labels=labels if is_given else None, mask_classes=[None, "dog", "cat"],
    )  # fmt: skip
    settings = AugmentConfig(crop=40, scales=(1.0,), mirror=False)
    sample = TrainingSet(table, settings, 0, (0, 0, 0), labels)[0, 0]
    expected = [0, IGNORE, 1, 2] if is_given else [0, 1, 2, 3]
    assert sample["labels"][0, ::10].tolist() == expected
