"""A small network of random weights, and an image."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cian import Segmenter
from cian.build import build_network
from cian.config import load_config
from tests.helpers import TINY
from tests.inference.helpers import NAMES


@pytest.fixture(scope="module")
def config():
    settings = {"predict.scales": [0.75, 1.0], "predict.crf.iterations": 2, "predict.own_threshold": 0}
    return load_config(None, {**TINY, **settings})


@pytest.fixture(scope="module")
def segmenter(config):
    torch.manual_seed(0)
    network = build_network(config, 3)
    torch.nn.init.normal_(network.head.weight, std=1)
    torch.nn.init.ones_(network.affinity.norm.weight)
    return Segmenter(network, config, NAMES)


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (41, 60, 3), dtype=np.uint8)
