"""`cian demo`: the whole pipeline, in minutes, on a data set that comes with cian."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cian.config import Config, changed
from cian.demo import data_config
from cian.errors import CianError
from cian.pipeline.run import run_config
from cian.runs.directory import Run

# What differs from the defaults, because the images are small, the animals in them large, and time is short.
SETTINGS: dict[str, Any] = {
    "compare": True,
    "classify.batch_size": 8,
    "classify.epochs": 4,
    "classify.min_steps": 100,
    "classify.augment.crop": 161,
    "classify.augment.scales": [0.5, 0.75, 1.0],
    "seeds.scales": [1.0],
    "train.batch_size": 8,
    "train.epochs": 6,
    "train.min_steps": 240,
    "train.optimizer.lr": 4e-4,
    "train.optimizer.new_lr_factor": 5.0,
    "train.augment.crop": 177,
    "train.augment.scales": [0.5, 0.75, 1.0],
    "predict.scales": [0.5, 1.25],
}


def run_demo(
    out: Path, data: str = "animals", settings: Mapping[str, Any] | None = None, overwrite: bool = False
) -> Run:
    """Draws or downloads a data set, and runs the pipeline on it.

    Args:
        out: the run directory. The data set goes to OUT-data, beside it.
        data: "animals", which cian draws, or "pets", Oxford-IIIT Pet, which torchvision downloads.
        settings: dotted settings that replace those of the demo.

    Raises:
        CianError: there is no such data set, or for the reasons of `cian.run`.
    """
    folder = out.with_name(f"{out.name}-data")
    if data == "animals":
        from cian.demo.animals import generate

        generate(folder)
        own = SETTINGS
    elif data == "pets":
        from cian.demo.pets import prepare_pets

        prepare_pets(folder)
        own = {"compare": True}
    else:
        raise CianError(f"--data {data}: there is no such data set. Use animals or pets.")
    config = changed(Config(data=data_config(folder)), {**own, **(settings or {})})
    return run_config(config, Run(out), overwrite=overwrite)
