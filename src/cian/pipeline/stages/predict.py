"""Predicts the final masks with CRF (predictions/ID.png), and without CRF, to compare (compare/without-crf/ID.png)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from cian.errors import CianError
from cian.pipeline.stage import MaskFolder, Stage
from cian.pipeline.stages.compare import compared_folders

if TYPE_CHECKING:
    from cian.config import Config
    from cian.pipeline.context import Context, Plan

_FINAL, _WITHOUT_CRF = "predictions", "compare/without-crf"


class Predict(Stage):
    name = "predict"
    title = "predictions"
    settings = ("predict",)
    files: ClassVar = {
        f"{_FINAL}/": "the final masks ID.png; the values are class ids",
        f"{_WITHOUT_CRF}/": "the same masks without the CRF",
    }

    def needs(self, plan: Plan) -> tuple[str, ...]:
        return (plan.final_network.name,)

    def outputs(self, plan: Plan) -> tuple[str, ...]:
        return (_WITHOUT_CRF, _FINAL)

    def masks(self, plan: Plan) -> tuple[MaskFolder, ...]:
        network, crf = plan.networks[-1], plan.config.predict.crf.iterations > 0
        chosen = plan.chooses  # then the masks of each network have scores of their own
        return (
            MaskFolder(
                _WITHOUT_CRF,
                plan.predict_table,
                "without CRF",
                None if chosen else network.scores_title(plan.config),
                about=f"{network.about(plan)} No CRF.",
                caption="without CRF" if crf else "",
                description="predicted mask without CRF",
            ),
            MaskFolder(
                _FINAL,
                plan.predict_table,
                "final",
                "final, with CRF" if crf else "final" if chosen else None,
                about="The final masks of the model" + (", refined by the CRF." if crf else "."),
                caption="final",
                description="final predicted mask",
            ),
        )

    def inputs(self, plan: Plan) -> dict[str, Any]:
        return plan.images_input("predict_table", plan.predict_table)

    def check_settings(self, config: Config) -> None:
        from cian.crf.dense import check_kernels

        check_kernels("predict.crf", config.predict.crf, config.max_side)

    def check(self, plan: Plan) -> None:
        for name in plan.config.predict.splits or ():
            if name not in plan.table.split_names:
                splits = ", ".join(plan.table.split_names)
                raise CianError(f"predict.splits = {name}: no such split. The splits are {splits}.")

    def run(self, context: Context) -> None:
        from cian.pipeline.predict_masks import predict_masks

        if context.chooses:
            self._take_compared(context)
        predict_masks(
            context,
            context.predict_table,
            context.final_network,
            self.title,
            with_crf=(_FINAL, context.config.predict.crf),
            without_crf=_WITHOUT_CRF,
        )

    @staticmethod
    def _take_compared(context: Context) -> None:
        """Copies the masks that `Compare` has already made with the chosen network."""
        from cian.files import copy_file

        plain, refined = compared_folders(context.final_network)
        crf = context.config.predict.crf.iterations > 0
        for target, source in ((_WITHOUT_CRF, plain), (_FINAL, refined if crf else plain)):
            context.clean_start(target)
            for image_id in context.scored_table.ids if context.accelerator.is_main_process else ():
                if not context.run.mask(target, image_id).exists():
                    copy_file(context.run.mask(source, image_id), context.run.mask(target, image_id))
        context.accelerator.wait_for_everyone()
