"""The model that a user ships: model/config.json + model.safetensors."""

from __future__ import annotations

from cian.inference.segmenter import Segmenter
from cian.pipeline.context import Context, clean_start
from cian.pipeline.stages.train import load_network


def run(context: Context) -> None:
    clean_start(context, "model")
    if context.accelerator.is_main_process:
        network = load_network(context, context.final_network)
        Segmenter(network, context.config, context.table.class_names).save(context.run.model)
