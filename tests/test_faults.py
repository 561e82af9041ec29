"""Faults during a run: signals, a full disk. The same command then resumes. Kills are in `stress/`."""

from __future__ import annotations

import errno
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import time

import pytest
import torch

from cian.signals import ignore_signals
from cian.training.loading import Batches
from tests.helpers import CLI, TINY, here, options

LONG = {"classify.min_steps": 24, "train.min_steps": 24, "runtime.checkpoint_seconds": 0.01}


@pytest.mark.parametrize(("face", "number"), [("command", signal.SIGINT), ("python", signal.SIGTERM)])
def test_interrupt_writes_a_checkpoint(drawn, tmp_path, face, number):
    """Ctrl-C and schedulers send the signal to the loading processes as well."""
    data = drawn()
    out = tmp_path / "run"
    settings = {**LONG, "train.min_steps": 3000, "runtime.checkpoint_seconds": 1000, "runtime.workers": 2}
    command = [*CLI, "train", *options(data, out, **settings)]
    if face == "python":
        call = (
            f"cian.run({str(data / 'images')!r}, {str(data / 'tags.csv')!r}, {str(out)!r}, **{ {**TINY, **settings} })"
        )
        command = [sys.executable, "-c", f"import cian; {call}"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    log = out / "train" / "metrics.jsonl"
    start = time.monotonic()
    while not (log.exists() and log.stat().st_size) and time.monotonic() - start < 120:
        time.sleep(0.05)
    os.killpg(process.pid, number)
    _, text = process.communicate(timeout=60)  # would hang if a loading process stayed alive
    assert process.returncode == (130 if face == "command" else 1)
    assert "a checkpoint is written" in text and "--overwrite" not in text
    assert ("Traceback" in text) == (face == "python")
    assert (out / "train/checkpoints/last.pt").exists()


def test_a_scheduler_that_stops_a_stage_without_checkpoints(drawn, tmp_path, monkeypatch, capsys):
    command = ["run", *options(drawn(), tmp_path / "run")]
    with monkeypatch.context() as patch:
        patch.setattr("cian.seeds.write_seeds.seed_map", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
        assert here(patch, *command) == 143
    text = capsys.readouterr().err
    assert "The same command resumes" in text and "Traceback" not in text
    assert here(monkeypatch, *command) == 0
    assert "classify: up to date" in capsys.readouterr().err


def test_full_disk_keeps_what_was_done(drawn, tmp_path, monkeypatch, capsys):
    """Writing the weights fails as on a full disk. When there is space again, the same command resumes."""
    data = drawn()
    command = ["run", *options(data, tmp_path / "run")]

    def full(file: int) -> None:
        if os.fstat(file).st_size > 50_000:
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("cian.files.os.fsync", full)
        assert here(patch, *command) == 1
    text = capsys.readouterr().err
    assert "model.safetensors: the disk is full" in text and "Traceback" not in text
    assert not list((tmp_path / "run").rglob("model.safetensors")) and not list((tmp_path / "run").rglob(".cian-tmp-*"))
    assert here(monkeypatch, *command) == 0


def test_a_write_that_fails_names_the_file(drawn, tmp_path, monkeypatch, capsys):
    """The system refuses: a file may have at most 50 kB, and the weights have more."""
    data = drawn()
    command = ["run", *options(data, tmp_path / "run", **{"runtime.checkpoint_seconds": 1e-9})]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        assert here(monkeypatch, *command) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    text = capsys.readouterr().err
    assert "last.pt: the file is larger" in text and "Traceback" not in text
    assert not list((tmp_path / "run").rglob(".cian-tmp-*"))


def test_too_little_memory_on_the_gpu(drawn, tmp_path, monkeypatch, capsys):
    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr("cian.seeds.train_classifier.fit", full)
    assert here(monkeypatch, "run", *options(drawn(), tmp_path / "run")) == 1
    assert "Lower train.batch_size" in capsys.readouterr().err


def test_a_loss_that_is_not_finite_names_its_settings(drawn, tmp_path, monkeypatch, capsys):
    settings = {"classify.optimizer.lr": 1e6}
    assert here(monkeypatch, "run", *options(drawn(), tmp_path / "run", **settings)) == 1
    assert "classify.optimizer.lr (it is 1e+06)" in capsys.readouterr().err


class Stuck(torch.utils.data.Dataset):
    """A data set whose second item never comes."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> int:
        time.sleep(600 * index)
        return index


def test_a_stuck_loading_process_does_not_outlive_its_training():
    loader = torch.utils.data.DataLoader(Stuck(), None, num_workers=1, worker_init_fn=ignore_signals)
    before = multiprocessing.active_children()
    with Batches(loader) as batches:
        assert int(next(batches)) == 0
        (process,) = set(multiprocessing.active_children()) - set(before)
    process.join(10)
    assert not process.is_alive() and multiprocessing.active_children() == before


class Broken(Stuck):
    """A data set whose second item cannot be read."""

    def __getitem__(self, index: int) -> float:
        return 1 / (1 - index)


def test_loading_processes_end_while_their_error_is_kept():
    loader = torch.utils.data.DataLoader(Broken(), None, num_workers=1, worker_init_fn=ignore_signals)
    before = multiprocessing.active_children()
    with pytest.raises(ZeroDivisionError) as kept, Batches(loader) as batches:
        next(batches)
        (process,) = set(multiprocessing.active_children()) - set(before)
        next(batches)
    assert kept.tb is not None and not process.is_alive()
    time.sleep(0.5)  # an ended process that torch had not been told of would be an error here
