"""Runs side by side: the curves and scores of this run, of its earlier rounds, and of the runs beside it."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

from cian.app.project import Project
from cian.data.problems import printable
from cian.errors import CianError
from cian.files import read_json
from cian.pipeline.stages import STAGES
from cian.training.log import read_metrics

_MOST = 50  # runs
_MOST_POINTS = 500  # of a curve
_LIVE = 120.0  # seconds since the last line of a training that goes on
_NOT_LOSSES = ("step", "epoch", "lr", "images_per_second")


def all_runs(project: Project, learning: bool) -> list[dict[str, Any]]:
    """
    Args:
        learning: whether this run learns now.
    """
    here = project.run.path.resolve()
    found = [_summary(here, here.name, learning or _is_live(here))]
    found += [_summary(folder, f"{here.name}, round {folder.name}", False) for folder in reversed(project.rounds())]
    beside = sorted(file.parent for file in here.parent.glob("*/stages.json") if not file.parent.is_symlink())
    found += [_summary(folder, folder.name, _is_live(folder)) for folder in beside if folder != here]
    return found[:_MOST]


def _summary(folder: Path, name: str, training: bool) -> dict[str, Any]:
    curves: dict[str, list[tuple[float, float]]] = {}
    for stage in STAGES:
        file = folder / stage.name / "metrics.jsonl"
        if not stage.trains or not file.is_file():
            continue
        for line in _thinned(read_metrics(file)):
            for key in line.keys() - set(_NOT_LOSSES):
                curves.setdefault(f"{stage.title}: {key}", []).append((line["step"], line[key]))
    return {
        "name": printable(name),
        "curves": dict(sorted(curves.items())),
        "scores": scores_of(folder),
        "training": training,
    }


def scores_of(folder: Path) -> dict[str, float]:
    """The scores of a run by name, in percent: mIoU, and IoU of each class. Empty: nothing was scored."""
    try:
        metrics = read_json(folder / "metrics.json", dict[str, Any])
    except CianError:
        return {}
    iou = metrics.get("iou")
    values = {"miou": metrics.get("miou"), **(iou if isinstance(iou, dict) else {})}
    return {str(name): float(value) for name, value in values.items() if _is_number(value)}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _thinned(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    step = -(-len(lines) // _MOST_POINTS) or 1
    return lines[::-step][::-1]  # the last one is kept


def _is_live(folder: Path) -> bool:
    """Whether something trains there: a log that was just written to."""
    times = [file.stat().st_mtime for file in folder.glob("*/metrics.jsonl")]
    return bool(times) and time.time() - max(times) < _LIVE and not _is_done(folder)


def _is_done(folder: Path) -> bool:
    try:
        records: dict[str, dict[str, Any]] = read_json(folder / "stages.json", dict[str, dict[str, Any]])
    except CianError:
        return False
    return all(record.get("done") for record in records.values())
