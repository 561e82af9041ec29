"""Trains the classifier whose class activation maps become seeds: classify/."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cian.pipeline.stage import Stage

if TYPE_CHECKING:
    from cian.pipeline.context import Context, Plan

_WEIGHTS, _CELLS = "model.safetensors", "cells.safetensors"
CONTRAST = "contrast.safetensors"  # what the stage of cells reads


class Classify(Stage):
    name = "classify"
    title = "classifier"
    command = "Trains the classifier whose activation maps become seeds."
    settings = ("seed", "seeds.max_side", "backbone", "classify", "runtime.precision", "runtime.accumulate")
    trains = True

    def wanted(self, plan: Plan) -> bool:
        return plan.has_classifier

    def outputs(self, plan: Plan) -> tuple[str, ...]:
        return (self.name,)

    def weights(self, plan: Plan) -> tuple[str, ...]:
        return (f"{self.name}/{_WEIGHTS}", f"{self.name}/{_CELLS}")

    def inputs(self, plan: Plan) -> dict[str, Any]:
        return plan.images_input("train_table", plan.train_table)

    def check(self, plan: Plan) -> None:
        from cian.seeds.train_classifier import classifier_batches

        classifier_batches(plan.config, plan.train_table, plan.accelerator)

    def run(self, context: Context) -> None:
        from cian.seeds.estimate_cells import estimate_cells
        from cian.seeds.train_classifier import train_classifier
        from cian.training.checkpoint import load_weights

        config, table, accelerator = context.config, context.train_table, context.accelerator
        folder = context.clean_start(self.name)
        model = train_classifier(config, table, folder, accelerator)
        load_weights(model, folder / _WEIGHTS)  # which may have been there before
        estimate_cells(model, table, config.seed_side, folder / _CELLS, folder / CONTRAST, accelerator)
