"""The log of a training: metrics.jsonl and TensorBoard."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from cian.errors import Problem
from cian.files import write_text
from cian.terminal import note

_NAMES = {"step", "epoch", "total", "lr", "images_per_second"}  # of the numbers that each line holds


class Log:
    """Writes metrics.jsonl and TensorBoard's file.

    Args:
        step: the last step before the place to continue from; lines after it, of a killed process, are removed.
    """

    def __init__(self, folder: Path, step: int):
        from torch.utils.tensorboard import SummaryWriter

        path = folder / "metrics.jsonl"
        folder.mkdir(parents=True, exist_ok=True)
        kept = [line for line in read_metrics(path) if line["step"] <= step]
        write_text(path, "".join(json.dumps(line) + "\n" for line in kept))
        self.file = path.open("a", encoding="utf-8")
        self.board = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

    def write(self, step: int, epoch: float, losses: dict[str, float], lr: float, speed: float | None) -> None:
        line = {"step": step, "epoch": round(epoch, 4), **losses, "lr": lr, "images_per_second": round(speed or 0, 2)}
        self.file.write(json.dumps(line) + "\n")
        self.file.flush()
        for name, value in line.items():
            if name != "step":
                self.board.add_scalar(name, value, step)

    def close(self) -> None:
        self.file.close()
        self.board.close()


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
