"""Predicts masks with several networks, to compare scores: compare/NETWORK/ID.png, and with CRF compare/NETWORK-crf/.

With `compare` and masks to score with, these are all networks, and the one whose masks score best is shipped:
compare/chosen.json. Else they are the networks before the last one, which is shipped.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from cian.pipeline.stage import MaskFolder, Stage

if TYPE_CHECKING:
    from cian.pipeline.context import Context, Plan
    from cian.pipeline.network_stage import NetworkStage

_CHOICE = "compare/chosen.json"


@dataclass(frozen=True)
class Choice:
    """Which network is shipped, and why.

    Attributes:
        network: the name of its stage.
        split: the images that were scored.
        crf: whether their masks were refined by the CRF.
        miou: the mIoU of each network in percent, by the title of its scores.
    """

    network: str
    split: str
    crf: bool
    miou: dict[str, float]


def read_choice(context: Context) -> Choice:
    """The choice of a run that has made one (`Plan.chooses`).

    Raises:
        CianError: the file is missing or damaged.
    """
    from cian.files import read_json

    return read_json(context.run.path / _CHOICE, Choice)


def compared_folders(network: NetworkStage) -> tuple[str, str]:
    """The folders of the masks of a network that is compared, without and with CRF."""
    return f"compare/{network.name}", f"compare/{network.name}-crf"


class Compare(Stage):
    name = "compare"
    title = "predictions to compare"
    settings = ("predict",)

    def wanted(self, plan: Plan) -> bool:
        return len(plan.networks) > 1

    def needs(self, plan: Plan) -> tuple[str, ...]:
        return tuple(network.name for network in self._networks(plan))

    def outputs(self, plan: Plan) -> tuple[str, ...]:
        folders = tuple(folder for network in self._networks(plan) for folder in compared_folders(network))
        return (*folders, *self.weights(plan))

    def weights(self, plan: Plan) -> tuple[str, ...]:
        return (_CHOICE,) if plan.chooses else ()

    def masks(self, plan: Plan) -> tuple[MaskFolder, ...]:
        masks = []
        for network in self._networks(plan):
            title, (without_crf, with_crf) = network.scores_title(plan.config), compared_folders(network)
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
            without_crf, with_crf = compared_folders(network)
            predict_masks(
                context,
                context.scored_table,
                network,
                f"predictions ({network.scores_title(context.config)})",
                without_crf=without_crf,
                with_crf=(with_crf, crf) if crf.iterations else None,
            )
        if context.chooses:
            if context.accelerator.is_main_process:
                _choose(context)
            context.accelerator.wait_for_everyone()

    @staticmethod
    def _networks(plan: Plan) -> tuple[NetworkStage, ...]:
        return plan.networks if plan.chooses else plan.networks[:-1]


def _choose(context: Context) -> None:
    """Ships the network whose masks have the highest mIoU on the first held-out split, with CRF if there is one. Of
    equal ones, the last."""
    import numpy as np

    from cian.data.table import TRAIN
    from cian.evaluation.run_scores import score_table
    from cian.files import write_json
    from cian.terminal import console

    splits = context.scored_table.split_names
    split = next((name for name in splits if name != TRAIN), splits[0])
    table = context.scored_table.split(split)
    crf = context.config.predict.crf.iterations > 0
    folders = [context.run.folder(compared_folders(network)[crf]) for network in context.networks]
    scores = [float(np.nan_to_num(score_table(folder, table).scores().miou)) for folder in folders]
    best = max(range(len(scores)), key=lambda place: (scores[place], place))
    titles = [network.scores_title(context.config) for network in context.networks]
    miou = {title: round(score, 2) for title, score in zip(titles, scores, strict=True)}
    write_json(context.run.path / _CHOICE, asdict(Choice(context.networks[best].name, split, crf, miou)))
    shown = ", ".join(f"{title} {score:.1f}" for title, score in miou.items())
    console.print(f"shipped is the better network on {split}: {titles[best]} (mIoU in %{' with CRF' * crf}: {shown})")
