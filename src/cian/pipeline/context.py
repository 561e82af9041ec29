"""What every stage gets: the run, its settings, the data, and the device."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from accelerate import Accelerator

from cian.config import Config
from cian.data.table import TRAIN, Table
from cian.files import remove_temporaries
from cian.runs.directory import Run
from cian.training.device import make_accelerator


@dataclass
class Context:
    """
    Attributes:
        run: the run directory.
        config: resolved settings.
        table: all images of the run.
    """

    run: Run
    config: Config
    table: Table

    @cached_property
    def accelerator(self) -> Accelerator:
        return make_accelerator(self.config.runtime)

    @cached_property
    def train_table(self) -> Table:
        return self.table.split(TRAIN)

    @cached_property
    def predict_splits(self) -> tuple[str, ...]:
        """As configured; default: all but train, or train if there is no other."""
        if self.config.predict.splits is not None:
            return self.config.predict.splits
        return tuple(name for name in self.table.split_names if name != TRAIN) or (TRAIN,)

    @cached_property
    def predict_table(self) -> Table:
        return self.table.select([i for i, split in enumerate(self.table.splits) if split in self.predict_splits])

    @cached_property
    def scored_table(self) -> Table:
        """Images that are predicted and have a mask to score them on."""
        return self.predict_table.with_masks()

    @cached_property
    def held_out_seed_table(self) -> Table:
        """Images that are not trained on, but that seeds can be scored on: with tags and a mask (and, where seed maps
        are given, a seed map)."""
        table, given = self.table, self.config.seeds.folder
        rows = [
            i
            for i, split in enumerate(table.splits)
            if split != TRAIN
            and table.masks[i] is not None
            and table.tagged[i]
            and (given is None or (given / f"{table.ids[i]}.png").is_file())
        ]
        return table.select(rows)

    @property
    def final_network(self) -> str:
        """The folder of the network that is shipped."""
        return "retrain" if self.config.retrain.enabled else "train"


def clean_start(context: Context, folder: str) -> Path:
    """The folder of a stage, without what a killed process left half-written."""
    path = context.run.folder(folder)
    if context.accelerator.is_main_process:
        path.mkdir(parents=True, exist_ok=True)
        remove_temporaries(path)
    context.accelerator.wait_for_everyone()
    return path
