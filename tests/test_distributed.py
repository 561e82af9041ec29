"""Two processes on the CPU (gloo) do what one does with the same global batch."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from safetensors.torch import load_file

from cian.data.masks import read_mask
from cian.training.log import read_metrics
from tests.helpers import options


def command(data: Path, out: Path, processes: int, **settings) -> list[str]:
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", str(processes)] if processes > 1 else []
    args = options(data, out, **{"data.val_fraction": 0.25, "runtime.device": "cpu", **settings})
    return [sys.executable, *launcher, "-m", "cian", "run", *args]


def run(data: Path, out: Path, processes: int, **settings) -> subprocess.CompletedProcess:
    return subprocess.run(command(data, out, processes, **settings), capture_output=True, text=True, timeout=300)


def test_two_processes(drawn, tmp_path):
    data = drawn(count=16, masks=True)
    settings = {"train.optimizer.name": "sgd", "train.optimizer.lr": 0.05, "train.completion_after": 0}
    halves = {"classify.batch_size": 2, "train.batch_size": 2, **settings}
    one = run(data, tmp_path / "one", 1, **settings)
    two = run(data, tmp_path / "two", 2, **halves)
    assert one.returncode == two.returncode == 0, two.stderr
    assert two.stdout.split() == [str(tmp_path / "two" / "report.html")]  # one of them speaks for both
    assert two.stderr.count("checking: ") == one.stderr.count("checking: ") == 1  # and reads for both
    for file, atol in (("classify/model", 1e-6), ("train/model", 1e-6), ("classify/cells", 1e-4)):
        weights = [load_file(tmp_path / name / f"{file}.safetensors") for name in ("one", "two")]
        for name, value in weights[0].items():
            np.testing.assert_allclose(value, weights[1][name], atol=atol, err_msg=f"{file} {name}")
    for folder in ("seeds", "relabel", "predictions", "compare/train"):
        names = [sorted(path.name for path in (tmp_path / name / folder).glob("*.png")) for name in ("one", "two")]
        assert names[0] == names[1] != []
    for file in (tmp_path / "one/seeds").glob("*.png"):
        assert (read_mask(file) == read_mask(tmp_path / "two/seeds" / file.name)).mean() > 0.99

    again = run(data, tmp_path / "two", 2, **halves)
    assert again.returncode == 0 and "images in" not in again.stderr  # nothing is done twice


def test_two_processes_stopped_by_a_signal_resume(drawn, tmp_path):
    """Checkpoints whenever the clock of either says so; one signal stops both; the weights are those of a whole run."""
    data = drawn(count=16, masks=True)
    settings = {
        "retrain.enabled": False, "classify.batch_size": 2, "train.batch_size": 2, "train.min_steps": 60,
        "runtime.checkpoint_seconds": 0.3,
    }  # fmt: skip
    whole = run(data, tmp_path / "whole", 2, **settings)
    assert whole.returncode == 0, whole.stderr
    stopped = command(data, tmp_path / "stopped", 2, **settings)
    process = subprocess.Popen(stopped, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    log, start = tmp_path / "stopped/train/metrics.jsonl", time.monotonic()
    while not read_metrics(log) and process.poll() is None and time.monotonic() - start < 200:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)  # torchrun hands it on to its processes
    _, text = process.communicate(timeout=120)
    assert process.returncode != 0
    assert (tmp_path / "stopped/train/checkpoints/last.pt").exists(), text
    assert not (tmp_path / "stopped/train/model.safetensors").exists()
    alone = run(data, tmp_path / "stopped", 1, **settings)
    assert alone.returncode == 1 and "started with 2 processes, not 1" in alone.stderr, alone.stderr
    again = run(data, tmp_path / "stopped", 2, **settings)
    assert again.returncode == 0 and "train: resuming" in again.stderr, again.stderr
    weights = [load_file(tmp_path / name / "train/model.safetensors") for name in ("whole", "stopped")]
    for name, value in weights[0].items():
        np.testing.assert_allclose(value, weights[1][name], atol=1e-6, err_msg=name)


def test_an_error_is_printed_once(drawn, tmp_path):
    """The main process prints a data error, which it alone finds, and a wrong setting, which every process finds."""
    data = drawn(count=16)
    (data / "images" / "003.png").write_bytes(b"no image")
    for settings, words in (({}, "003.png: not an image"), ({"train.batch_sise": 4}, "train.batch_sise")):
        refused = run(data, tmp_path / "refused", 2, **settings)
        assert refused.returncode != 0
        assert refused.stderr.count("cian: ") == 1 and refused.stderr.count(words) == 1, refused.stderr
        assert not (tmp_path / "refused").exists()
