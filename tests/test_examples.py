"""The scripts under examples/."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cian import Segmenter, load
from cian.build import build_network
from cian.config import load_config
from cian.data.masks import read_mask
from tests.helpers import TINY

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_ray_predict(drawn, tmp_path):
    """Two workers predict a folder. The second call has nothing to do, the third only what is missing."""
    pytest.importorskip("ray", reason="needs pip install 'ray[data]'")
    images = drawn(count=10) / "images"
    config = load_config(None, TINY)
    torch.manual_seed(0)
    Segmenter(build_network(config, 3), config, ("background", "blue", "red")).save(tmp_path / "model")
    model, out = tmp_path / "model", tmp_path / "masks"
    command = [sys.executable, EXAMPLES / "ray_predict.py", "--model", model, "--images", images, "--out", out]

    def label() -> str:
        done = subprocess.run([*command, "--batch", "2"], capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert label().startswith("10 images, 0 of them have a mask")
    segmenter = load(model, "cpu")
    for file in images.iterdir():
        np.testing.assert_array_equal(read_mask(out / file.name), segmenter.predict(file).mask)
    assert label().strip() == "10 images, 10 of them have a mask"
    (out / "003.png").unlink()
    (images / "broken.png").write_bytes(b"no image")
    text = label()
    assert "003.png:" in text and "broken.png: failed: " in text
    assert (out / "003.png").exists() and not (out / "broken.png").exists()


def _example(name: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """Runs a script, and returns its functions and classes. Its loss falls, and it ends with the shape of a mask."""
    found = runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    first, second, mask = capsys.readouterr().out.splitlines()
    assert float(second.split()[-1]) < float(first.split()[-1]) and mask.startswith("mask: (1, ")
    return found


def test_affinity_in_deeplab(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("segmentation_models_pytorch", reason="needs pip install segmentation-models-pytorch")
    network = _example("affinity_in_deeplab.py", capsys)["DeepLabWithAffinity"](5).eval()
    images = torch.randn(2, 3, 32, 48)
    with torch.no_grad():
        own, cross = network(images, group_size=2)
        torch.testing.assert_close(own, network.model(images))  # the module starts as the identity
    assert own.shape == cross.shape == (2, 5, 32, 48)


def test_affinity_in_vit(capsys: pytest.CaptureFixture[str]) -> None:
    network = _example("affinity_in_vit.py", capsys)["ViTWithAffinity"](5).eval()
    with torch.no_grad():
        own, cross = network(torch.randn(2, 3, 32, 48), group_size=2)
    assert own.shape == cross.shape == (2, 5, 2, 3)
