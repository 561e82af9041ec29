"""model-int8.onnx: smaller, close to the network that it was made from, and calibrated on images of the run."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import cian
from cian import CianError, load
from cian.export.model import export
from tests.helpers import TINY, draw_images


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with held-out images that have masks."""
    root = tmp_path_factory.mktemp("int8")
    data = draw_images(root, masks=True)
    for split, rows in (("train", range(8)), ("val", range(8, 12))):
        (data / f"{split}.txt").write_text("".join(f"{i:03d}\n" for i in rows), encoding="utf-8")
    settings = {"retrain.enabled": False, "data.classes": str(data / "classes.txt"), "data.masks": str(data / "masks")}
    cian.run(
        images=data / "images",
        tags=data / "tags.csv",
        out=root / "run",
        **{**TINY, **settings, "data.splits": {split: str(data / f"{split}.txt") for split in ("train", "val")}},
    )
    return root / "run"


def test_int8_is_smaller_and_close(run, tmp_path):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    done = export(run, tmp_path, int8=True)
    assert done.files[-1] == tmp_path / "model-int8.onnx" and done.int8 is not None
    assert done.int8.images == 4 and done.int8.speed > 0
    assert done.int8.miou is not None and 0 <= done.int8.miou <= 100
    assert done.files[-1].stat().st_size < 0.9 * done.files[0].stat().st_size  # the head stays
    image = np.random.default_rng(0).integers(0, 256, (49, 65, 3), dtype=np.uint8)
    plain, small = (load(file, "cpu").predict(image).probabilities for file in (done.files[0], done.files[-1]))
    assert 0 < np.abs(plain - small).max() < 0.1


def test_int8_needs_the_images_of_a_run(run, tmp_path):
    shutil.copytree(run / "model", tmp_path / "model")
    with pytest.raises(CianError, match="is no run, and --int8 needs the images of one"):
        export(tmp_path / "model", int8=True)
    with pytest.raises(CianError, match="--int8: has an effect only with --format onnx"):
        export(run, tmp_path, "torch", int8=True)
