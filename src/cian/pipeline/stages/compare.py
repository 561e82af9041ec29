"""Predicts masks with the networks that are not shipped, to compare scores: compare/…/ID.png."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cian.pipeline.stage import MaskFolder, Stage

if TYPE_CHECKING:
    from cian.pipeline.context import Context, Plan
    from cian.pipeline.network_stage import NetworkStage


class Compare(Stage):
    name = "compare"
    title = "predictions to compare"
    settings = ("predict",)

    def wanted(self, plan: Plan) -> bool:
        return len(plan.networks) > 1

    def needs(self, plan: Plan) -> tuple[str, ...]:
        return tuple(network.name for network in self._networks(plan))

    def outputs(self, plan: Plan) -> tuple[str, ...]:
        return tuple(folder for network in self._networks(plan) for folder in self._folders(network))

    def masks(self, plan: Plan) -> tuple[MaskFolder, ...]:
        masks = []
        for network in self._networks(plan):
            title, (without_crf, with_crf) = network.scores_title(plan.config), self._folders(network)
            about = f"{network.about(plan)} No CRF."
            masks.append(MaskFolder(without_crf, plan.scored_table, "compared", title, about))
            if plan.config.predict.crf.iterations:
                about = "The same masks, refined by the CRF."
                masks.append(MaskFolder(with_crf, plan.scored_table, "compared", f"{title}, with CRF", about))
        return tuple(masks)

    def inputs(self, plan: Plan) -> dict[str, Any]:
        return {**plan.images_input("predict_table", plan.predict_table), **plan.masks_input(plan.table)}

    def run(self, context: Context) -> None:
        from cian.pipeline.predict_masks import predict_masks

        crf = context.config.predict.crf
        for network in self._networks(context):
            without_crf, with_crf = self._folders(network)
            predict_masks(
                context,
                context.scored_table,
                network,
                f"predictions ({network.scores_title(context.config)})",
                without_crf=without_crf,
                with_crf=(with_crf, crf) if crf.iterations else None,
            )

    @staticmethod
    def _networks(plan: Plan) -> tuple[NetworkStage, ...]:
        return plan.networks[:-1]

    @staticmethod
    def _folders(network: NetworkStage) -> tuple[str, str]:
        """The folders of the masks without and with CRF."""
        return network.compared_in, f"{network.compared_in}-crf"
