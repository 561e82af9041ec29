"""What the stages that train a segmentation network share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from cian.config import Config, OptimizerConfig
from cian.pipeline.stage import Stage

if TYPE_CHECKING:
    from cian.network import CIAN
    from cian.pipeline.context import Context, Plan

NETWORK_SETTINGS = ("seed", "max_side", "backbone", "train", "affinity", "runtime.precision", "runtime.accumulate")


class NetworkStage(Stage):
    """A stage that trains a segmentation network, into a folder of the stage's name.

    Attributes:
        labels: the folder with a label map for each training image that has no whole label map of its own.
    """

    settings: ClassVar[tuple[str, ...]] = NETWORK_SETTINGS
    trains = True
    labels: ClassVar[str] = "seeds"

    def network_config(self, config: Config) -> Config:
        """The settings of this network."""
        return config

    def scores_title(self, config: Config) -> str:
        """Names the scores of this network's masks."""
        raise NotImplementedError

    def about(self, plan: Plan) -> str:
        """One sentence about the network, for the table of scores."""
        raise NotImplementedError

    def needs(self, plan: Plan) -> tuple[str, ...]:
        if plan.has_seeds:
            return ("seed",)
        return ("classify",) if plan.has_classifier else ()

    def outputs(self, plan: Plan) -> tuple[str, ...]:
        return (self.name,)

    def weights(self, plan: Plan) -> tuple[str, ...]:
        return (f"{self.name}/model.safetensors",)

    def inputs(self, plan: Plan) -> dict[str, Any]:
        return {**plan.images_input("train_table", plan.train_table), **plan.labels_input(plan.train_table)}

    def check(self, plan: Plan) -> None:
        from cian.training.segmentation import network_batches

        network_batches(self.network_config(plan.config), plan.train_table, plan.accelerator)

    def label_files(self, context: Context) -> list[Path]:
        """Where the labels of each training image lie: in its own label map if that is whole, else in the folder
        `labels`."""
        table = context.train_table
        return [
            own if whole and own is not None else context.run.mask(self.labels, image_id)
            for own, whole, image_id in zip(table.labels, table.whole, table.ids, strict=True)
        ]

    def start(self, context: Context, network: CIAN) -> None:
        """Gives the network its first weights: those of the classifier, if there is one."""
        if context.config.train.start == "classifier" and context.has_classifier:
            network.backbone.load_state_dict(context.load_classifier().backbone.state_dict())

    def epochs(self, config: Config) -> int | None:
        """The number of epochs. None: as the section `train` says."""
        return None

    def optimizer(self, config: Config) -> OptimizerConfig:
        return config.train.optimizer

    def run(self, context: Context) -> None:
        from cian.training.segmentation import train_network

        config = self.network_config(context.config)
        train_network(
            config,
            context.train_table,
            self.label_files(context),
            context.clean_start(self.name),
            context.accelerator,
            title=self.title,
            start=lambda network: self.start(context, network),
            epochs=self.epochs(config),
            optimizer=self.optimizer(config),
        )
