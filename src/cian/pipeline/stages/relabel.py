"""Makes dense masks of the training images with the first network: relabel/ID.png."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from cian.pipeline.stage import MaskFolder, Stage

if TYPE_CHECKING:
    from cian.pipeline.context import Context, Plan

_FOLDER = "relabel"


class Relabel(Stage):
    name = "relabel"
    title = "relabelling"
    command = "Makes dense masks of the training images, for retrain."
    implies = ("retrain.enabled=true",)
    settings = (
        "relabel",
        "max_side",
        "predict.scales",
        "predict.mirror",
        "predict.tile",
        "predict.own_threshold",
        "predict.crf.gaussian",
        "predict.crf.bilateral",
    )
    files: ClassVar = {f"{_FOLDER}/": "masks of the training images, made with their tags"}

    def wanted(self, plan: Plan) -> bool:
        return plan.config.retrain.enabled

    def needs(self, plan: Plan) -> tuple[str, ...]:
        return (plan.relabelling_network.name,)

    def outputs(self, plan: Plan) -> tuple[str, ...]:
        return (_FOLDER,)

    def masks(self, plan: Plan) -> tuple[MaskFolder, ...]:
        return (
            MaskFolder(
                _FOLDER,
                plan.seed_table,
                "labels",
                "relabelled masks",
                about="Masks of the training images by the first network, with CRF. The retraining learns from them.",
                tags="yes" if plan.config.relabel.tag_filter else "no",
                caption="relabelled",
                description="relabelled mask",
            ),
        )

    def inputs(self, plan: Plan) -> dict[str, Any]:
        return plan.labels_input(plan.train_table)

    def run(self, context: Context) -> None:
        from cian.pipeline.predict_masks import predict_masks

        config = context.config
        crf = config.predict.crf.model_copy(update={"iterations": config.relabel.crf_iterations})
        predict_masks(
            context,
            context.seed_table,
            context.relabelling_network,
            self.title,
            with_crf=(_FOLDER, crf),
            tag_filter=config.relabel.tag_filter,
            full_size=False,
            keep_labels=True,
        )
