"""Masks of SBD: MATLAB files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat

from cian.config import DataConfig
from cian.data.images import limit_pixels
from cian.data.masks import read_mask
from cian.data.table import IGNORE
from cian.errors import CianError
from cian.reading.check import check_dataset
from tests.formats.devkits import truth, voc_devkit
from tests.formats.helpers import fatal


@pytest.fixture
def devkit(tmp_path: Path) -> DataConfig:
    return voc_devkit(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"nonsense", "damaged, or no MATLAB file ("),
        (b"", "damaged, or no MATLAB file ("),
        ({"GTinst": {"Segmentation": np.zeros((2, 2), np.uint8)}}, "holds no GTcls. Give SBD's folder `cls`"),
        ({"GTcls": np.zeros(3)}, "damaged, or no MATLAB file ("),
        ({"GTcls": {"Segmentation": np.zeros((2, 2))}}, "its GTcls.Segmentation is no map of 8 bit class ids"),
        (None, "cannot be opened (No such file or directory)"),
    ],
)
def test_broken_matlab_masks(tmp_path: Path, content: Any, message: str) -> None:
    path = tmp_path / "a.mat"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        savemat(path, content)
    with pytest.raises(CianError, match=re.escape(f"{path}: {message}")):
        read_mask(path)


@pytest.mark.parametrize("packed", [False, True])
def test_large_matlab_masks(tmp_path: Path, packed: bool) -> None:
    path = tmp_path / "a.mat"
    savemat(path, {"GTcls": {"Segmentation": np.zeros((2000, 1500), np.uint8)}}, do_compression=packed)
    assert read_mask(path).shape == (2000, 1500)
    limit_pixels(1)
    try:
        says = "unpacks to over 1 million bytes" if packed else "1500 x 2000 pixels, over the limit of 1 megapixels"
        with pytest.raises(CianError, match=rf"a\.mat: {says}.* data\.max_megapixels"):
            read_mask(path)
    finally:
        limit_pixels(100)


def test_check_opens_matlab_masks(devkit: DataConfig) -> None:
    _, problems = check_dataset(devkit, 0)
    assert not fatal(problems)
    assert devkit.sbd is not None
    path = devkit.sbd / "cls" / "c.mat"
    assert np.array_equal(read_mask(path), np.where(truth("c") == IGNORE, 0, truth("c")))
    savemat(path, {"GTcls": {"Segmentation": np.zeros((3, 4), np.uint8)}})
    _, problems = check_dataset(devkit, 0)
    assert "c.mat: the mask has 4 x 3 pixels, its image 48 x 40" in fatal(problems)[0]
