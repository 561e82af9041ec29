"""A GPU gives the results of a CPU, and the whole pipeline runs on it in every precision.

`CIAN_TEST_DEVICE=cuda make test` runs the other tests of the pipeline on a GPU as well.
"""

from __future__ import annotations

import json
from contextlib import contextmanager

import numpy as np
import pytest
import torch

import cian
from cian.build import build_network
from cian.config import Config, load_config
from cian.inference.segmenter import Segmenter
from cian.losses import cian_loss
from tests.helpers import TINY, here, options

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


@contextmanager
def full_float32():
    """Without TensorFloat-32, whose products keep 10 bits."""
    parts = torch.backends.cudnn, torch.backends.cuda.matmul
    before = [part.allow_tf32 for part in parts]
    for part in parts:
        part.allow_tf32 = False
    try:
        yield
    finally:
        for part, allowed in zip(parts, before, strict=True):
            part.allow_tf32 = allowed


def network(config: Config):
    torch.manual_seed(0)
    built = build_network(config, 4)
    with torch.no_grad():  # so that the module takes part
        built.affinity.norm.weight.fill_(0.5)
    return built


@pytest.mark.parametrize("settings", [{}, {"affinity.similarity": "cosine", "affinity.merge": "mean"}])
def test_step_as_on_a_cpu(settings):
    """Logits, losses and gradients of a training step."""
    images, seeds = torch.randn(4, 3, 65, 97), torch.randint(0, 4, (4, 5, 7))
    seeds[:, 2] = 255
    found = {}
    for device in ("cpu", "cuda"):
        model = network(load_config(None, {**TINY, **settings})).to(device).train()
        with full_float32():
            logits = model(images.to(device).contiguous(memory_format=torch.channels_last), 2)
            losses = cian_loss(*logits, seeds.to(device), completion=True, balance="seeds", robust=0.7)
            losses["total"].backward()
        gradients = {name: p.grad.cpu() for name, p in model.named_parameters() if p.grad is not None}
        found[device] = [logits[0].cpu(), logits[1].cpu(), losses["total"].cpu()], gradients
    for ours, expected in zip(found["cuda"][0], found["cpu"][0], strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-4)
    ours, expected = found["cuda"][1], found["cpu"][1]
    assert ours.keys() == expected.keys()
    for name in expected:
        difference = (ours[name] - expected[name]).norm() / expected[name].norm().clamp(min=1e-6)
        assert difference < 1e-2, name


def test_masks_as_on_a_cpu(tmp_path):
    """With every scale, the CRF and a saved model that is loaded on either device."""
    rng = np.random.default_rng(0)
    config = load_config(None, {**TINY, "predict.scales": [0.75, 1.0, 1.25], "predict.crf.iterations": 5})
    Segmenter(network(config), config, ["background", "a", "b", "c"], "cuda").save(tmp_path)
    small = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
    image = np.kron(small, np.ones((12, 12, 1), np.uint8))
    with full_float32():
        gpu, cpu = (cian.load(tmp_path, device).predict(image) for device in ("cuda", "cpu"))
    assert next(cian.load(tmp_path).network.parameters()).is_cuda  # a GPU is used if there is one
    assert np.abs(gpu.probabilities - cpu.probabilities).mean() < 1e-3
    assert (gpu.mask == cpu.mask).mean() > 0.995


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_run(drawn, tmp_path, monkeypatch, precision):
    out = tmp_path / "run"
    more = {"runtime.device": "cuda", "runtime.precision": precision, "runtime.workers": 2, "compare": True}
    assert here(monkeypatch, "run", *options(drawn(masks=True), out, **more)) == 0
    assert (out / "report.html").exists()
    assert json.loads((out / "metrics.json").read_text(encoding="utf-8"))["miou"] > 0
    for name in ("classify", "baseline", "train", "retrain"):
        lines = (out / name / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        assert lines
        assert all(np.isfinite(json.loads(line)["total"]) for line in lines)
