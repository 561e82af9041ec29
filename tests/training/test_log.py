"""The log of a training, and the trackers that get it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from cian import CianError
from cian.config import load_config
from cian.training.log import Log, check_trackers, read_metrics

# Stands for the packages of the trackers: writes down how it is called.
FAKE = """
import json, os, types

def _write(*what):
    with open(os.environ["TOLD"], "a") as file:
        print(json.dumps(what), file=file)

class Run:
    info = types.SimpleNamespace(run_id="run-7")
    id = "run-7"

    def log(self, values, step):
        _write("log", values["total"], step)

    def finish(self):
        _write("end")

def init(**options):
    if "BROKEN" in os.environ:
        raise ConnectionError("nobody\\nanswers")
    _write("start", options["project"], options["name"], options["id"])
    return Run()

def search_experiments(filter_string):
    return []

def create_experiment(name, artifact_location, tags):
    return name

def start_run(run_id, experiment_id, run_name, **options):
    _write("start", experiment_id, run_name, run_id)
    return Run()

def log_metrics(values, step):
    if "BROKEN" in os.environ:
        raise ConnectionError("nobody answers")
    _write("log", values["total"], step)

def end_run():
    _write("end")
"""


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file in which the fake trackers write down their calls."""
    (tmp_path / "fake").mkdir()
    for name in ("mlflow", "wandb"):
        (tmp_path / f"fake/{name}.py").write_text(FAKE)
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(tmp_path / "fake")
    monkeypatch.setenv("TOLD", str(tmp_path / "told"))
    return tmp_path / "told"


def _calls(told: Path) -> list[list]:
    lines = [json.loads(line) for line in told.read_text().splitlines()]
    told.unlink()
    return lines


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_a_tracker_gets_the_losses_and_resumes_its_run(name: str, told: Path, tmp_path: Path) -> None:
    folder = tmp_path / "first/train"
    log = Log(folder, 0, (name,))
    log.write(10, 0.5, {"total": 1.25}, 0.1, None)
    log.write(20, 1.0, {"total": 0.75}, 0.1, 3.0)
    log.close()
    assert _calls(told) == [["start", "cian", "first/train", None], ["log", 1.25, 10], ["log", 0.75, 20], ["end"]]
    assert not (folder / "tensorboard").exists()
    Log(folder, 10, (name,)).close()
    assert _calls(told)[0] == ["start", "cian", "first/train", "run-7"]
    assert [line["step"] for line in read_metrics(folder / "metrics.jsonl")] == [10]
    Log(folder, 0, (name,)).close()  # trained again from the start
    assert _calls(told)[0] == ["start", "cian", "first/train", None]


def test_tensorboard_is_the_default(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert load_config(None, {}).runtime.trackers == ("tensorboard",)
    log = Log(tmp_path, 0)
    log.write(10, 0.5, {"total": 1.25}, 0.1, None)
    log.close()
    (board := EventAccumulator(str(tmp_path / "tensorboard"))).Reload()
    assert [(each.step, each.value) for each in board.Scalars("total")] == [(10, 1.25)]


def test_a_tracker_that_cannot_start_is_an_error(told: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROKEN", "1")
    with pytest.raises(CianError, match=r"runtime.trackers=wandb: cannot start \(nobody answers\). Start its server"):
        Log(tmp_path / "train", 0, ("wandb",))


def test_a_tracker_that_fails_later_is_left_out(
    told: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log = Log(tmp_path / "train", 0, ("tensorboard", "mlflow"))
    monkeypatch.setenv("BROKEN", "1")
    for step in (10, 20):
        log.write(step, 0.5, {"total": 1.0}, 0.1, None)
    log.close()
    assert len(read_metrics(tmp_path / "train/metrics.jsonl")) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert said.count("runtime.trackers=mlflow: cannot be written (nobody answers). The training continues") == 1


def test_unknown_and_missing_trackers(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CianError, match="runtime"):
        load_config(None, {"runtime.trackers": "tensorboard,neptune"})
    assert load_config(None, {"runtime.trackers": "tensorboard,wandb"}).runtime.trackers == ("tensorboard", "wandb")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "wandb" else name)
    check_trackers(["tensorboard"])
    with pytest.raises(CianError, match="wandb is not installed"):
        check_trackers(["tensorboard", "wandb"])
