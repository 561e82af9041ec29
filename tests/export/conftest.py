"""A small model of random weights, and the folder that it is exported to, shared by the tests of a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cian import Segmenter
from cian.build import build_network
from cian.config import load_config
from cian.export.model import export
from tests.helpers import TINY
from tests.inference.helpers import NAMES


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    """Its images have at most 64 pixels a side; it has no CRF."""
    settings = {"predict.scales": [0.75, 1.0], "predict.crf.iterations": 0, "max_side": 64}
    config = load_config(None, {**TINY, **settings})
    torch.manual_seed(0)
    network = build_network(config, 3)
    torch.nn.init.normal_(network.head.weight, std=20)
    torch.nn.init.ones_(network.affinity.norm.weight)  # type: ignore[union-attr]
    return Segmenter(network, config, NAMES)


@pytest.fixture(scope="module")
def model(segmenter: Segmenter, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the model, with model.onnx and predict.py."""
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    folder = tmp_path_factory.mktemp("model")
    segmenter.save(folder)
    export(folder)
    return folder


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image of which each side is larger than the network's, and no multiple of anything."""
    noise = np.random.default_rng(0).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    file = tmp_path_factory.mktemp("images") / "photo.png"
    Image.fromarray(noise).resize((101, 75), Image.Resampling.BICUBIC).save(file)
    return file
