"""Any folder of masks is scored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cian.data.masks import write_mask
from cian.errors import DataError
from cian.evaluation.folders import evaluate_folders
from tests.formats.helpers import write


@pytest.fixture
def scenes(tmp_path: Path) -> tuple[Path, Path]:
    """Predictions and masks of scenes without background: 0 = road, 1 = sky, 2 = tree, 255 = void."""
    truth = np.zeros((10, 10), np.uint8)
    truth[:4], truth[4:6], truth[:, 0] = 1, 2, 255
    prediction = np.where(truth == 255, 0, truth).astype(np.uint8)
    prediction[3] = 2
    write_mask(tmp_path / "predictions" / "a.png", prediction)
    write_mask(tmp_path / "masks" / "a.png", truth)
    return tmp_path / "predictions", tmp_path / "masks"


@pytest.mark.parametrize("text", ["road\nsky\ntree\n", "0 road\n1 sky\n2 tree\n"])
def test_without_background(tmp_path: Path, scenes: tuple[Path, Path], text: str) -> None:
    """Each class has the score of its own pixels."""
    scores = evaluate_folders(*scenes, write(tmp_path / "classes.txt", text), background=False)
    assert scores["iou"] == {"road": 100.0, "sky": 75.0, "tree": 66.67}
    assert scores["miou"] == 80.56


def test_classes_that_may_be_shifted(
    tmp_path: Path, scenes: tuple[Path, Path], capfd: pytest.CaptureFixture[str]
) -> None:
    classes = write(tmp_path / "classes.txt", "road\nsky\ntree\n")
    assert evaluate_folders(*scenes, classes)["iou"]["road"] == 75.0
    text = " ".join(capfd.readouterr().err.split())
    assert f"{classes}: no mask holds 'tree'; id 0 is read as background, 1 as 'road'. If 0 is 'road', give" in text
    evaluate_folders(*scenes, write(classes, "background\nroad\nsky\ntree\n"))
    assert "no mask holds" not in capfd.readouterr().err
    with pytest.raises(DataError, match=r"class 'road' has the id 0, which is that of background.*--no-background"):
        evaluate_folders(*scenes, write(classes, "0 road\n1 sky\n2 tree\n"))
