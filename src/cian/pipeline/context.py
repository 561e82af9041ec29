"""What the stages work with: settings, data, device, and the run directory."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cian.config import Config
from cian.data.table import TRAIN, Table
from cian.files import remove_temporaries
from cian.pipeline.network_stage import NetworkStage
from cian.pipeline.stage import MaskFolder, Role, Stage
from cian.pipeline.stages import STAGES
from cian.runs.directory import Run

if TYPE_CHECKING:
    from accelerate import Accelerator

    from cian.network import CIAN
    from cian.pipeline.stages.compare import Choice
    from cian.seeds.classifier import Classifier


@dataclass
class Plan:
    """What is to be done, before there is a run directory.

    Attributes:
        config: the resolved settings.
        table: all images.
    """

    config: Config
    table: Table

    @cached_property
    def accelerator(self) -> Accelerator:
        from cian.training.device import make_accelerator

        return make_accelerator(self.config.runtime)

    # Images.

    @cached_property
    def train_table(self) -> Table:
        """The training images."""
        return self.table.split(TRAIN)

    @cached_property
    def seed_table(self) -> Table:
        """The training images without a whole label map. They learn from seeds."""
        return self.train_table.select(np.flatnonzero(~self.train_table.whole))

    @cached_property
    def predict_splits(self) -> tuple[str, ...]:
        """As configured. Default: all splits but train, or train if there is no other."""
        if self.config.predict.splits is not None:
            return self.config.predict.splits
        return tuple(name for name in self.table.split_names if name != TRAIN) or (TRAIN,)

    @cached_property
    def predict_table(self) -> Table:
        """The images to predict."""
        return self.table.select([i for i, split in enumerate(self.table.splits) if split in self.predict_splits])

    @cached_property
    def scored_table(self) -> Table:
        """The images to predict that have a mask to score with."""
        return self.predict_table.with_masks()

    @cached_property
    def held_out_seed_table(self) -> Table:
        """The held-out images on which seeds can be scored: those with tags and a mask and, if seed maps are given, a
        seed map."""
        table, given = self.table, self.config.seeds.folder
        rows = [
            i
            for i, split in enumerate(table.splits)
            if split != TRAIN
            and table.masks[i] is not None
            and table.tagged[i]
            and (given is None or (given / f"{table.ids[i]}.png").is_file())
        ]
        return table.select(rows)

    def images_input(self, name: str, table: Table) -> dict[str, Any]:
        """The fingerprint of some images, of their tags and of the classes, as an input of a stage."""
        from cian.runs.fingerprints import table_digest

        if id(table) not in self._digests:
            self._digests[id(table)] = table, table_digest(table)
        _, digest = self._digests[id(table)]
        return {name: digest, "classes": list(self.table.classes)}

    @cached_property
    def _digests(self) -> dict[int, tuple[Table, str]]:
        """By the id of a table, which is kept so that no other table gets this id: several stages ask for the same."""
        return {}

    def labels_input(self, table: Table) -> dict[str, Any]:
        """The fingerprint of the label maps of some images, as an input of a stage. Empty if there are none."""
        from cian.runs.fingerprints import labels_digest

        return {"labels": labels_digest(table)} if any(table.labels) else {}

    def masks_input(self, table: Table) -> dict[str, Any]:
        """The fingerprint of the masks of some images, as an input of a stage."""
        from cian.runs.fingerprints import masks_digest

        return {"masks": masks_digest(table)}

    # Stages.

    @property
    def has_seeds(self) -> bool:
        """Whether seeds are needed: not if every training image has a whole label map, which is full supervision."""
        return len(self.seed_table) > 0

    @property
    def has_classifier(self) -> bool:
        """Whether a classifier is trained: for the seeds, or for the first weights of a fully supervised network."""
        return self.config.seeds.folder is None and (self.has_seeds or self.config.train.start == "classifier")

    @property
    def learns_cells(self) -> bool:
        """Whether seeds are made, and label maps tell what is object and what is background."""
        return self.has_seeds and self.has_classifier and any(self.train_table.labels)

    @property
    def supervision(self) -> str:
        """What the network learns from, in words."""
        labelled = bool(self.train_table.whole.any() or any(self.seed_table.labels))
        return " and ".join(["the seeds"] * self.has_seeds + ["the label maps"] * labelled)

    @cached_property
    def stages(self) -> tuple[Stage, ...]:
        """The stages of the run, in order."""
        return tuple(stage for stage in STAGES if stage.wanted(self))

    @cached_property
    def networks(self) -> tuple[NetworkStage, ...]:
        """The stages that train a segmentation network, in order."""
        return tuple(stage for stage in STAGES if isinstance(stage, NetworkStage) and stage.wanted(self))

    @property
    def chooses(self) -> bool:
        """Whether the better one of several networks is shipped: if `compare` is set and there are masks to tell."""
        return self.config.compare and len(self.networks) > 1 and len(self.scored_table) > 0

    @property
    def final_network(self) -> NetworkStage:
        """The stage that trains the network that is shipped, as far as it is known before the run: the last one."""
        return self.networks[-1]

    @property
    def relabelling_network(self) -> NetworkStage:
        """The stage that trains the network before the retraining. It makes the relabelled masks, and the retraining
        starts from its weights."""
        return self.networks[-2]

    @cached_property
    def mask_folders(self) -> tuple[MaskFolder, ...]:
        """The folders of masks of all stages, labels first, the final masks last."""
        order: tuple[Role, ...] = ("seeds", "labels", "compared", "without CRF", "final")
        folders = [folder for stage in self.stages for folder in stage.masks(self)]
        return tuple(sorted(folders, key=lambda folder: order.index(folder.role)))


@dataclass
class Context(Plan):
    """
    Attributes:
        run: the run directory.
    """

    run: Run

    @property
    def final_network(self) -> NetworkStage:
        """The stage that trains the network that is shipped: the last one, or the better one (see `Compare`)."""
        choice = self.choice
        if choice is None:
            return super().final_network
        return next(network for network in self.networks if network.name == choice.network)

    @property
    def choice(self) -> Choice | None:
        """Which network is shipped, and why, as `Compare` chose it; None if the run does not choose."""
        from cian.pipeline.stages.compare import read_choice

        return read_choice(self) if self.chooses else None

    def clean_start(self, folder: str) -> Path:
        """The folder of a stage, without the files that a killed process left half-written."""
        path = self.run.folder(folder)
        if self.accelerator.is_main_process:
            path.mkdir(parents=True, exist_ok=True)
            remove_temporaries(path)
        self.accelerator.wait_for_everyone()
        return path

    def find_mask(self, role: Role, image_id: str) -> Path | None:
        """The file of an image's mask in this role; None if there is none."""
        files = (self.run.mask(each.folder, image_id) for each in self.mask_folders if each.role == role)
        return next((file for file in files if file.exists()), None)

    def load_classifier(self, estimated: bool = False) -> Classifier:
        """The classifier of the run, ready to use.

        Args:
            estimated: with the scores of cells as estimated from tags alone, although there are label maps.
        """
        from cian.seeds.classifier import build_classifier
        from cian.training.checkpoint import load_weights

        folder = self.run.folder("classify")
        model = build_classifier(self.config, len(self.table.classes), weights="random")
        load_weights(model, folder / "model.safetensors")
        cells = self.run.folder("cells") if self.learns_cells and not estimated else folder
        load_weights(model.cells, cells / "cells.safetensors")
        return model.eval().to(self.accelerator.device)

    def load_network(self, stage: NetworkStage) -> CIAN:
        """The network that a stage has trained, ready to predict."""
        from cian.build import build_network
        from cian.training.checkpoint import load_weights

        network = build_network(stage.network_config(self.config), self.table.num_classes, weights="random")
        load_weights(network, self.run.folder(stage.name) / "model.safetensors")
        return network.eval().to(self.accelerator.device)
