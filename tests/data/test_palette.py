"""The colours of classes can be told apart, also by colour-blind people."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from cian.data.palette import COLOURS, VOC_COLOURS

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(FOLDER)
    import palette

    return palette


def test_the_table_is_the_one_that_the_script_makes(script: ModuleType) -> None:
    np.testing.assert_array_equal(script.palette(), COLOURS[1:-1])


@pytest.mark.parametrize(("classes", "least"), [(2, 14), (5, 14), (10, 11), (20, 7), (40, 4)])
def test_colours_differ_for_all_eyes(script: ModuleType, classes: int, least: float) -> None:
    """From each other, from background in files (black) and from unlabelled pixels, for four kinds of sight. 2 is a
    difference that people just see side by side; PASCAL VOC's colours reach 13, 3, 1, 1 and 0."""
    shown = script.seen(COLOURS[[*range(classes + 1), 255]])
    apart = script.distances(shown, shown)
    assert apart[np.triu_indices(len(apart), 1)].min() >= least


def test_simulated_sight(script: ModuleType) -> None:
    """Grey stays grey; red and green of one lightness are alike without green cones, but not without blue ones."""
    grey = script.seen(np.array([[120, 120, 120]]))
    assert np.abs(grey - grey[0]).max() < 1e-3
    pair = np.linalg.norm(np.diff(script.seen(np.array([[170, 120, 60], [120, 140, 55]])), axis=1), axis=-1)[:, 0]
    normal, _, deuteranopia, tritanopia = pair
    assert deuteranopia < 0.35 * normal < tritanopia


def test_colours_are_told_from_those_of_voc() -> None:
    """So a colour mask of either kind can be read. Background is black in both."""
    assert COLOURS.shape == VOC_COLOURS.shape == (256, 3) and COLOURS.dtype == VOC_COLOURS.dtype == np.uint8
    assert len(np.unique(np.concatenate((COLOURS, VOC_COLOURS)), axis=0)) == 511
    assert COLOURS[0].tolist() == VOC_COLOURS[0].tolist() == [0, 0, 0]


def test_colours_of_pascal_voc() -> None:
    known = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 15: (192, 128, 128), 20: (0, 64, 128), 255: (224, 224, 192)}
    assert {i: tuple(VOC_COLOURS[i].tolist()) for i in known} == known
