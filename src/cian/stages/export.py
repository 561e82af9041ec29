"""The model that a user ships: model/config.json + model.safetensors."""

from __future__ import annotations

import shutil

from cian._version import __version__
from cian.config import dump_config
from cian.inference import FORMAT
from cian.runs import atomic, write_json
from cian.stages.context import Context


def run(context: Context) -> None:
    if not context.accelerator.is_main_process:
        return
    config = context.config
    folder = context.run.model
    weights = context.run.folder(context.final_network) / "model.safetensors"
    with atomic(folder / "model.safetensors") as temporary:
        shutil.copyfile(weights, temporary)
    tree = dump_config(config)
    del tree["data"], tree["runtime"]  # the paths and the device of the machine that trained it
    write_json(
        folder / "config.json",
        {"format": FORMAT, "cian": __version__, "classes": list(context.table.class_names), "config": tree},
    )
