"""Scores the masks of a run: metrics.json."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from cian.pipeline.stage import Stage

if TYPE_CHECKING:
    from cian.pipeline.context import Context, Plan


class Evaluate(Stage):
    name = "evaluate"
    title = "scores"
    files: ClassVar = {"metrics.json": "all scores"}

    def needs(self, plan: Plan) -> tuple[str, ...]:
        return tuple(stage.name for stage in plan.stages if stage.masks(plan))

    def outputs(self, plan: Plan) -> tuple[str, ...]:
        return ("metrics.json",)

    def inputs(self, plan: Plan) -> dict[str, Any]:
        scores = [[each.title, each.folder] for each in plan.mask_folders if each.title is not None]
        return {"scores": scores, **plan.masks_input(plan.table)}

    def run(self, context: Context) -> None:
        from cian.evaluation.run_scores import run_scores
        from cian.files import write_json

        if context.accelerator.is_main_process:
            scored = [
                (each.title, context.run.folder(each.folder), each.table.with_masks())
                for each in context.mask_folders
                if each.title is not None
            ]
            write_json(context.run.metrics_file, run_scores(scored, context.table.class_names))
