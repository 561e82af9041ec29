"""Trains the same network without affinity, to see what affinity gains and to ship the better one: baseline/."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cian.errors import Problem
from cian.pipeline.network_stage import NETWORK_SETTINGS, NetworkStage

if TYPE_CHECKING:
    from cian.config import Config
    from cian.pipeline.context import Plan


class Baseline(NetworkStage):
    name = "baseline"
    title = "training without affinity"
    settings = tuple(key for key in NETWORK_SETTINGS if key != "affinity")

    def wanted(self, plan: Plan) -> bool:
        return plan.config.compare and plan.config.affinity.mode != "none"

    def network_config(self, config: Config) -> Config:
        return config.model_copy(update={"affinity": config.affinity.model_copy(update={"mode": "none"})})

    def scores_title(self, config: Config) -> str:
        return "without affinity"

    def about(self, plan: Plan) -> str:
        return f"The same network without the affinity module, trained on {plan.supervision}."

    def check(self, plan: Plan) -> None:
        from cian.terminal import note

        super().check(plan)
        if not any(plan.table.masks):
            note(Problem("settings", "compare=true, but no image has a mask to score with", "Give --masks"))
