"""Two processes on the CPU (gloo) do what one does with the same global batch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
from safetensors.torch import load_file

from cian.data.masks import read_mask
from tests.conftest import options


def run(data: Path, out: Path, processes: int, **settings) -> subprocess.CompletedProcess:
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", str(processes)] if processes > 1 else []
    command = [sys.executable, *launcher, "-m", "cian", "run"]
    args = options(data, out, **{"data.val_fraction": 0.25, **settings})
    return subprocess.run([*command, *args], capture_output=True, text=True, timeout=300)


def test_two_processes(pictures, tmp_path):
    data = pictures(count=16, masks=True)
    settings = {"train.optimizer.name": "sgd", "train.optimizer.lr": 0.05, "train.completion_after": 0}
    halves = {"classify.batch_size": 2, "train.batch_size": 2, **settings}
    one = run(data, tmp_path / "one", 1, **settings)
    two = run(data, tmp_path / "two", 2, **halves)
    assert one.returncode == two.returncode == 0, two.stderr
    assert two.stdout.split() == [str(tmp_path / "two" / "report.html")]  # one of them speaks for both
    for stage in ("classify", "train"):
        weights = [load_file(tmp_path / name / stage / "model.safetensors") for name in ("one", "two")]
        for name, value in weights[0].items():
            np.testing.assert_allclose(value, weights[1][name], atol=1e-6, err_msg=f"{stage} {name}")
    for folder in ("seeds", "relabel", "predictions", "compare/before-retraining"):
        names = [sorted(path.name for path in (tmp_path / name / folder).glob("*.png")) for name in ("one", "two")]
        assert names[0] == names[1] != []
    for file in (tmp_path / "one/seeds").glob("*.png"):
        assert (read_mask(file) == read_mask(tmp_path / "two/seeds" / file.name)).mean() > 0.99

    again = run(data, tmp_path / "two", 2, **halves)
    assert again.returncode == 0 and "images in" not in again.stderr  # nothing is done twice
