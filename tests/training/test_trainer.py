"""The training loop on a toy network, whose samples are numbers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from cian import CianError
from cian.config import OptimizerConfig, RuntimeConfig
from cian.data.sampler import GroupSampler
from cian.errors import Interrupted
from cian.training.checkpoint import load_weights, save_weights
from cian.training.device import make_accelerator
from cian.training.loading import Batches
from cian.training.log import read_metrics
from cian.training.trainer import Losses, Task, fit, make_optimizer

RUNTIME = RuntimeConfig(device="cpu", workers=0)


class Numbers(torch.utils.data.Dataset):
    def __getitem__(self, item: tuple[int, int]) -> dict[str, Tensor]:
        index, epoch = item
        return {"x": torch.tensor([float(index), float(epoch)])}


class Toy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.backbone = nn.Linear(2, 3)
        self.head = nn.Linear(3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.backbone(x))


def task(folder: Path, loss=None, **optimizer) -> Task:
    """Four epochs of five steps."""
    untagged = np.zeros(0, np.int32), np.zeros(11, np.int64)
    settings = OptimizerConfig(lr=0.01, **optimizer)
    loss = loss or (lambda model, batch, _: {"total": model(batch["x"]).square().mean()})
    return Task(Toy(), loss, Numbers(), GroupSampler(*untagged, 2), 4, settings, folder, "toy", "train")  # type: ignore[arg-type]


def train(task: Task) -> dict[str, Tensor]:
    fit(task, RUNTIME, make_accelerator(RUNTIME))
    return load_file(task.weights)


def stopping_once() -> tuple[Callable[..., Losses], list[float]]:
    """A loss at whose seventh call a signal comes, and the list of its calls."""
    calls: list[float] = []

    def loss(model, batch, done):
        calls.append(done)
        if len(calls) == 7:
            os.kill(os.getpid(), signal.SIGINT)
        return {"total": model(batch["x"]).square().mean()}

    return loss, calls


def test_training_that_is_stopped_and_resumed_equals_a_whole_one(tmp_path):
    whole = train(task(tmp_path / "whole"))
    stopping, calls = stopping_once()
    first = task(tmp_path / "stopped", stopping)
    with pytest.raises(Interrupted, match="toy: stopped in epoch 2 of 4; a checkpoint is written"):
        train(first)
    assert first.checkpoint.exists() and not first.weights.exists()
    resumed = train(task(tmp_path / "stopped", stopping))
    assert len(calls) == 20 and not first.checkpoint.exists()
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())
    lines = [[json.loads(line) for line in (tmp_path / name / "metrics.jsonl").open()] for name in ("whole", "stopped")]
    assert [line["step"] for line in lines[0]] == [line["step"] for line in lines[1]] == [5, 10, 15, 20]
    assert [line["epoch"] for line in lines[1]] == [1, 2, 3, 4]


def test_a_signal_after_the_last_step_is_obeyed_and_costs_nothing(tmp_path, monkeypatch):
    """Its loading processes may take a while to end."""
    end = Batches.__exit__

    def ending(self, *args):
        signal.raise_signal(signal.SIGINT)
        end(self, *args)

    first = task(tmp_path)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Batches, "__exit__", ending)
        train(first)
    assert first.weights.exists()


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped"])
def test_a_damaged_checkpoint_is_not_used(tmp_path, capsys, damage):
    """The training starts from its beginning, and its result is the same."""
    whole = train(task(tmp_path / "whole"))
    stopping, calls = stopping_once()
    stopped = task(tmp_path / "stopped", stopping)
    with pytest.raises(Interrupted):
        train(stopped)
    content = bytearray(stopped.checkpoint.read_bytes())
    if damage == "flipped":
        content[len(content) // 2] ^= 4
    stopped.checkpoint.write_bytes({"empty": b"", "cut": content[:-1], "flipped": content}[damage])
    capsys.readouterr()
    again = train(task(tmp_path / "stopped", stopping))
    said = " ".join(capsys.readouterr().err.split())
    assert "last.pt: damaged, or of an earlier version. The training starts from its beginning" in said
    assert len(calls) == 27 and all(torch.equal(value, again[name]) for name, value in whole.items())


@pytest.mark.skipif(sys.platform != "linux", reason="other systems send batches in another way")
def test_a_temporary_folder_with_a_long_name_is_refused(tmp_path, monkeypatch):
    """Its sockets could not be made, and the training would wait for ever."""
    folder = tmp_path / ("x" * 100)
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    with pytest.raises(
        CianError, match=r"TMPDIR = .*x: over 75 bytes.*Set a shorter TMPDIR, or --set runtime\.workers=0"
    ):
        fit(task(tmp_path), RUNTIME.model_copy(update={"workers": 1}), make_accelerator(RUNTIME))


def test_a_damaged_log_keeps_its_good_lines(tmp_path, capsys):
    train(task(tmp_path))
    file = tmp_path / "metrics.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    broken = [
        b"5\n",
        b'{"a": 1}\n',
        b"\xff\xfe\x00\n",
        b"[" * 100_000 + b"\n",
        lines[0].replace(b"lr", b"l"),
        lines[0].replace(b'"lr": ', b'"lr": "x", "l": '),
        lines[0].replace(b'"total": ', b'"total": NaN, "t": '),
    ]
    file.write_bytes(b"".join(lines) + lines[0][:-5])
    good = read_metrics(file)
    assert "damaged" not in capsys.readouterr().err
    file.write_bytes(b"".join([*broken, *lines[:2], *broken, *lines[2:], lines[0][:-5]]))
    assert read_metrics(file) == good and len(good) == 4
    assert "metrics.jsonl: 14 damaged lines. The loss curves are drawn without" in capsys.readouterr().err


def test_weights_that_are_not_finite_are_refused(tmp_path):
    toy = Toy()
    nn.init.constant_(toy.head.bias, torch.nan)
    save_weights(toy, tmp_path / "a.safetensors")
    with pytest.raises(CianError, match=r"a\.safetensors: head\.bias holds values that are NaN or infinite\. Train"):
        load_weights(Toy(), tmp_path / "a.safetensors")


def test_finished_training_is_not_repeated(tmp_path):
    def never(*_):
        raise AssertionError

    done = train(task(tmp_path))
    again = train(task(tmp_path, never))
    assert all(torch.equal(value, again[name]) for name, value in done.items())


def test_a_loss_that_is_not_finite_stops_with_the_cure(tmp_path):
    broken = task(tmp_path, lambda model, batch, _: {"total": model(batch["x"]).sum() * torch.inf})
    with pytest.raises(
        CianError, match=r"toy: the loss became .* in epoch 1, step 5\..*train\.optimizer\.lr \(it is 0\.01\)"
    ):
        train(broken)
    assert not broken.weights.exists()


def test_weights_that_the_last_step_spoils_are_not_written(tmp_path):
    """The loss of that step is finite, its gradient is not."""

    def loss(model, batch, done):
        x = model(batch["x"]).square().mean()
        return {"total": x + (x * 0).sqrt() if done > 0.94 else x}

    spoiled = task(tmp_path, loss)
    with pytest.raises(CianError, match=r"toy: the weights became NaN or infinite\. Lower train\.optimizer\.lr"):
        train(spoiled)
    assert not spoiled.weights.exists()


@pytest.mark.parametrize("per_epoch", [True, False])
def test_learning_rate_decays_as_a_power(tmp_path, per_epoch):
    train(task(tmp_path, poly_per_epoch=per_epoch, poly_power=2))
    rates = [json.loads(line)["lr"] for line in (tmp_path / "metrics.jsonl").open()]
    last_of_epochs = [epoch + (0 if per_epoch else 4 / 5) for epoch in range(4)]
    assert rates == pytest.approx([0.01 * (1 - place / 4) ** 2 for place in last_of_epochs])


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_what_is_new_learns_faster_and_what_is_frozen_not_at_all(name):
    toy = Toy()
    toy.backbone.bias.requires_grad_(False)
    old, new = make_optimizer(toy, OptimizerConfig(name=name, lr=0.5, new_lr_factor=10)).param_groups
    assert old["lr"] == 0.5 and new["lr"] == 5
    assert [id(p) for p in old["params"]] == [id(toy.backbone.weight)]
    assert [id(p) for p in new["params"]] == [id(p) for p in toy.head.parameters()]


def test_loading_a_model_imports_no_trainer():
    code = "import sys, cian.inference.segmenter; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "cian.network" in modules
    assert not {"cian.training.trainer", "cian.training.loading", "cian.data.dataset", "accelerate"} & set(modules)
