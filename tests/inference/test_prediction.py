"""What a prediction says, shows and saves."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from cian import CianError, Prediction
from cian.data.palette import COLOURS
from tests.inference.helpers import NAMES


@pytest.fixture
def prediction():
    mask = np.zeros((10, 20), np.uint8)
    mask[:4] = 2
    mask[4, :10] = 1
    return Prediction(
        np.full((10, 20, 3), 90, np.uint8), mask, np.eye(3, dtype=np.float32)[mask].transpose(2, 0, 1), NAMES
    )


def test_classes_with_their_share_and_id(prediction):
    assert list(prediction.classes.items()) == [("犬", 0.4), ("Katze", 0.05)]
    assert prediction.class_ids == {"background": 0, "Katze": 1, "犬": 2}
    assert (prediction.mask == prediction.class_ids["犬"]).mean() == prediction.classes["犬"]


def test_repr_is_short(prediction):
    assert repr(prediction) == "<Prediction of 20 × 10 px: 犬 40.0%, Katze 5.0%>"
    prediction.mask[:] = 0
    assert repr(prediction) == "<Prediction of 20 × 10 px: background only>"


def test_save_writes_an_indexed_mask(prediction, tmp_path):
    prediction.save(tmp_path / "masks" / "a.png")
    with Image.open(tmp_path / "masks" / "a.png") as saved:
        assert saved.mode == "P"
        np.testing.assert_array_equal(np.asarray(saved), prediction.mask)
        np.testing.assert_array_equal(np.asarray(saved.convert("RGB")), COLOURS[prediction.mask])
    prediction.save(str(tmp_path / "B.PNG"))
    with pytest.raises(CianError, match=r"a\.jpg: a mask is saved as PNG\. Give a name that ends in \.png"):
        prediction.save(tmp_path / "a.jpg")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["B.PNG", "masks"]


def test_overlay_is_an_array_of_the_size_of_the_image(prediction):
    shown = prediction.overlay()
    assert shown.shape == (10, 20, 3) and shown.dtype == np.uint8
    assert (shown[6:] == 90).all() and (shown[1, 1] == (COLOURS[2].astype(int) + 90 + 1) // 2).all()
    assert (prediction.overlay(alpha=1)[1, 1] == COLOURS[2]).all()
    assert (prediction.image == 90).all()
