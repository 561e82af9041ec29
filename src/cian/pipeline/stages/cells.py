"""Learns from label maps which cells are objects, for the seeds of all images: cells/. Nothing is trained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from cian.pipeline.stage import Stage
from cian.pipeline.stages.classify import CONTRAST

if TYPE_CHECKING:
    from cian.pipeline.context import Context, Plan

_CELLS = "cells.safetensors"


class Cells(Stage):
    name = "cells"
    title = "cells of label maps"
    settings = ("seeds.max_side",)
    files: ClassVar = {"cells/": "what the label maps tell about the background of each class"}

    def wanted(self, plan: Plan) -> bool:
        return plan.learns_cells

    def needs(self, plan: Plan) -> tuple[str, ...]:
        return ("classify",)

    def outputs(self, plan: Plan) -> tuple[str, ...]:
        return (self.name,)

    def weights(self, plan: Plan) -> tuple[str, ...]:
        return (f"{self.name}/{_CELLS}",)

    def inputs(self, plan: Plan) -> dict[str, Any]:
        return plan.labels_input(plan.train_table)

    def run(self, context: Context) -> None:
        from cian.seeds.estimate_cells import learn_cells

        folder = context.clean_start(self.name)
        learn_cells(
            context.load_classifier(estimated=True),
            context.train_table,
            context.config.seed_side,
            context.run.folder("classify") / CONTRAST,
            folder / _CELLS,
            context.accelerator,
        )
