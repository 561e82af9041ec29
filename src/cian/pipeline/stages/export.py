"""Writes the model that is shipped: model/."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from cian.pipeline.stage import Stage

if TYPE_CHECKING:
    from cian.pipeline.context import Context, Plan


class Export(Stage):
    name = "export"
    title = "model"
    settings = ("predict",)
    files: ClassVar = {"model/": "the trained model, to ship"}

    def needs(self, plan: Plan) -> tuple[str, ...]:
        return (plan.final_network.name,)

    def outputs(self, plan: Plan) -> tuple[str, ...]:
        return self.weights(plan)

    def weights(self, plan: Plan) -> tuple[str, ...]:
        return ("model/config.json", "model/model.safetensors")

    def run(self, context: Context) -> None:
        from cian.inference.segmenter import Segmenter

        context.clean_start("model")
        if context.accelerator.is_main_process:
            stage = context.final_network
            config = stage.network_config(context.config)
            Segmenter(context.load_network(stage), config, context.table.class_names).save(context.run.model)
