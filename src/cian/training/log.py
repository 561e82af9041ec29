"""The log of a training: metrics.jsonl, and TensorBoard, MLflow and Weights & Biases as accelerate writes them."""

from __future__ import annotations

import importlib.util
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cian.data.problems import reason
from cian.errors import CianError, Problem
from cian.files import write_text
from cian.terminal import note

if TYPE_CHECKING:
    from accelerate.tracking import GeneralTracker

_NAMES = {"step", "epoch", "total", "lr", "images_per_second"}  # of the numbers that each line holds


def check_trackers(trackers: Sequence[str]) -> None:
    """
    Raises:
        CianError: the package of a tracker is not installed.
    """
    for name in trackers:
        if importlib.util.find_spec(name) is None:
            raise CianError(f"runtime.trackers={name}: {name} is not installed. Install it: pip install {name}")


class Log:
    """Writes metrics.jsonl, and to the trackers.

    Args:
        step: the last step before the place to continue from; lines after it, of a killed process, are removed.
        trackers: as in `runtime.trackers`.

    Raises:
        CianError: a tracker cannot start.
    """

    def __init__(self, folder: Path, step: int, trackers: Sequence[str] = ("tensorboard",)):
        path = folder / "metrics.jsonl"
        folder.mkdir(parents=True, exist_ok=True)
        kept = [line for line in read_metrics(path) if line["step"] <= step]
        write_text(path, "".join(json.dumps(line) + "\n" for line in kept))
        self.file = path.open("a", encoding="utf-8")
        self.trackers = [_start(name, folder, step) for name in trackers]

    def write(self, step: int, epoch: float, losses: dict[str, float], lr: float, speed: float | None) -> None:
        line = {"step": step, "epoch": round(epoch, 4), **losses, "lr": lr, "images_per_second": round(speed or 0, 2)}
        self.file.write(json.dumps(line) + "\n")
        self.file.flush()
        values = {name: value for name, value in line.items() if name != "step"}
        for tracker in list(self.trackers):
            try:
                tracker.log(values, step=step)
            except Exception as error:  # noqa: BLE001 (a server that is gone is no reason to stop a training)
                value = f"runtime.trackers={tracker.name}: cannot be written ({reason(error)})"
                note(Problem("settings", value, "The training continues without it", fatal=False))
                self.trackers.remove(tracker)

    def close(self) -> None:
        self.file.close()
        for tracker in self.trackers:
            tracker.finish()


def _start(name: str, folder: Path, step: int) -> GeneralTracker:
    """A tracker of accelerate that writes. A training that resumes writes into the same run of MLflow or wandb, whose
    id is in a file in `folder`."""
    from accelerate.tracking import MLflowTracker, TensorBoardTracker, WandBTracker

    run_id = folder / f"{name}.id"
    known = run_id.read_text(encoding="utf-8") if step and run_id.exists() else None
    title = f"{folder.resolve().parent.name}/{folder.name}"
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    try:
        tracker: Any
        if name == "tensorboard":
            tracker = TensorBoardTracker(name, str(folder), purge_step=step + 1)
        elif name == "mlflow":
            tracker = MLflowTracker("cian", run_id=known, run_name=title, nested_run=True)
        else:
            tracker = WandBTracker("cian", name=title, id=known, dir=str(folder), resume="allow")
        if hasattr(tracker, "start"):  # older versions of accelerate start at once
            tracker.start()
    except Exception as error:
        cure = f"Start its server, log in, or leave {name} out of runtime.trackers"
        raise CianError(f"runtime.trackers={name}: cannot start ({reason(error)}). {cure}.") from error
    if name != "tensorboard":
        write_text(run_id, tracker.run.id if name == "wandb" else tracker.tracker.info.run_id)
    return tracker


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a metrics.jsonl. Damaged lines are left out, with a note; a kill may have cut off the last one."""
    if not path.exists():
        return []
    lines = [_line(text) for text in path.read_text(encoding="utf-8", errors="replace").splitlines()]
    if damaged := lines[:-1].count(None):
        note(Problem(str(path), f"{damaged} damaged line{'s' * (damaged > 1)}", "The loss curves are drawn without"))
    return [line for line in lines if line is not None]


def _line(text: str) -> dict[str, Any] | None:
    """One line: numbers by name; None if it is damaged."""
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(line, dict) or not line.keys() >= _NAMES:
        return None
    numbers = all(type(value) in (int, float) and math.isfinite(value) for value in line.values())
    return line if numbers else None
