"""The log of a training: metrics.jsonl and TensorBoard."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cian.files import write_text


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
    """The lines of a metrics.jsonl, without a last line that a kill cut off."""
    lines = []
    if path.exists():
        for text in path.read_text(encoding="utf-8").splitlines():
            try:
                lines.append(json.loads(text))
            except ValueError:
                break
    return lines
