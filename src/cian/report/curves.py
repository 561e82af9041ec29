"""The losses of each trained network, by step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cian.training.log import read_metrics

if TYPE_CHECKING:
    from cian.pipeline.context import Context

_NOT_LOSSES = ("step", "epoch", "lr", "images_per_second")


@dataclass(frozen=True)
class LossCurves:
    """The losses of one training.

    Attributes:
        title: of the stage.
        steps: (n,) the steps at which losses were logged.
        losses: (n,) by name; NaN where a loss has not started yet. If there is one part only, it is the total.
        epochs: how many were trained.
        learning_rates: at the first and the last of these steps.
        images_per_second: the median.
    """

    title: str
    steps: np.ndarray
    losses: dict[str, np.ndarray]
    epochs: int
    learning_rates: tuple[float, float]
    images_per_second: float


def loss_curves(context: Context) -> list[LossCurves]:
    """Of each stage that has logged a training."""
    curves = []
    for stage in context.stages:
        log = read_metrics(context.run.folder(stage.name) / "metrics.jsonl") if stage.trains else []
        if not log:
            continue
        every = dict.fromkeys(name for line in log for name in line)  # some losses start later than others
        names = [name for name in every if name not in _NOT_LOSSES]
        if len(names) == 2:  # the other one is the total
            names = ["total"]
        curves.append(
            LossCurves(
                title=stage.title,
                steps=np.array([line["step"] for line in log], float),
                losses={name: np.array([line.get(name, np.nan) for line in log], float) for name in names},
                epochs=round(log[-1]["epoch"]),
                learning_rates=(log[0]["lr"], log[-1]["lr"]),
                images_per_second=float(np.median([line["images_per_second"] for line in log])),
            )
        )
    return curves
