"""Trains the network again, from its own weights, on the relabelled masks: retrain/."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cian.config import Config, OptimizerConfig
from cian.pipeline.network_stage import NETWORK_SETTINGS, NetworkStage

if TYPE_CHECKING:
    from cian.network import CIAN
    from cian.pipeline.context import Context, Plan


class Retrain(NetworkStage):
    name = "retrain"
    title = "retraining"
    command = "Trains again on the relabelled masks."
    implies = ("retrain.enabled=true",)
    settings = (*NETWORK_SETTINGS, "retrain")
    labels = "relabel"

    def wanted(self, plan: Plan) -> bool:
        return plan.config.retrain.enabled

    def needs(self, plan: Plan) -> tuple[str, ...]:
        return ("relabel",)

    def inputs(self, plan: Plan) -> dict[str, Any]:
        return plan.labels_input(plan.train_table)

    def scores_title(self, config: Config) -> str:
        return "without affinity, retrained" if config.affinity.mode == "none" else "CIAN, retrained"

    def about(self, plan: Plan) -> str:
        return "The same network, trained again on the relabelled masks."

    def start(self, context: Context, network: CIAN) -> None:
        from cian.training.checkpoint import load_weights

        load_weights(network, context.run.folder(context.relabelling_network.name) / "model.safetensors")

    def epochs(self, config: Config) -> int | None:
        return config.retrain.epochs

    def optimizer(self, config: Config) -> OptimizerConfig:
        optimizer = config.train.optimizer
        return optimizer.model_copy(update={"lr": optimizer.lr * config.retrain.lr_factor})
