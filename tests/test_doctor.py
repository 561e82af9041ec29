"""`cian doctor`, and the presets that it recommends."""

from __future__ import annotations

import json

import pytest
import torch

from cian import CianError, doctor
from cian.build import build_network
from cian.config import changed, load_config
from cian.config.presets import PRESETS, fitting, preset
from tests.helpers import here


def test_what_it_finds():
    found = list(doctor.examine())
    assert [each.what for each in found][:3] == ["cian", "packages", "processor"]
    assert not any(each.cure for each in found), "the packages of the tests are those that cian asks for"
    assert any(each.what == "preset" for each in found)


def test_a_package_that_is_too_old_is_named(monkeypatch):
    monkeypatch.setattr(doctor, "requires", lambda name: ["numpy>=99", "nosuchpackage>=1", "rich>=1; extra == 'app'"])
    found = [each for each in doctor.examine() if each.cure]
    assert [each.found.split(",")[0].split()[0] for each in found] == ["numpy", "nosuchpackage"]
    assert found[0].cure == "pip install 'numpy>=99'"


def test_the_trial_run():
    assert "all stages work" in doctor.try_out().found


def test_the_command(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "try_out", lambda: doctor.Finding("trial run", "failed", "Do something."))
    code = here(monkeypatch, "doctor", "--json")
    out, err = capsys.readouterr()
    assert code == 1 and "Do something." in err
    assert json.loads(out)[-1]["what"] == "trial run"


def test_the_preset_that_fits():
    assert [fitting(memory) for memory in (0, 4, 8, 24)] == ["small", "small", "base", "large"]
    with pytest.raises(CianError, match=r"--preset huge: there is no such preset\. Use small, base, large"):
        preset("huge")


@pytest.mark.parametrize("name", PRESETS)
def test_a_network_of_each_preset_learns_something(name):
    """With random weights: those of the larger ones are not installed."""
    config = changed(load_config(), {**preset(name), "backbone.weights": "random"})
    network = build_network(config, 3).train()
    side = 8 * config.backbone.output_stride + (1 if network.backbone.grid.alignment == "corner" else 0)
    logits, cross = network(torch.randn(2, 3, side, side), group_size=2)
    (logits.square().mean() + cross.square().mean()).backward()
    gradients = [each.grad for each in network.parameters() if each.grad is not None]
    assert gradients and all(each.isfinite().all() for each in gradients)
