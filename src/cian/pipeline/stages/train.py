"""Trains the segmentation network on label maps and seeds: train/."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from cian.pipeline.network_stage import NetworkStage

if TYPE_CHECKING:
    from cian.config import Config
    from cian.pipeline.context import Plan


class Train(NetworkStage):
    name = "train"
    title = "training"
    command = "Trains the segmentation network."
    modules: ClassVar = {
        "cross": "affinity within and across images",
        "self": "affinity within each image",
        "none": "no affinity module",
    }

    def scores_title(self, config: Config) -> str:
        return "without affinity" if config.affinity.mode == "none" else "CIAN"

    def about(self, plan: Plan) -> str:
        return f"The network ({self.modules[plan.config.affinity.mode]}), trained on {plan.supervision}."
