"""A run as the page sees it: its images by their place in the table, and their masks."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from cian.config import Config, load_run_config
from cian.data.images import image_size
from cian.data.known_files import KnownFiles
from cian.data.masks import read_mask, resize_mask
from cian.data.palette import COLOURS
from cian.data.problems import printable
from cian.data.table import IGNORE
from cian.errors import CianError
from cian.files import remove
from cian.pipeline.network_stage import NetworkStage
from cian.pipeline.stages import STAGES
from cian.reading.read import read_dataset
from cian.reading.run import open_run, read_run

OWN = "app"  # the folder in the run that the page keeps its files in
LABELS = "labels"  # what people labelled
NETWORKS = tuple(stage for stage in STAGES if isinstance(stage, NetworkStage))
ROUNDS = "rounds"  # what the run was before it learned again: rounds/1, rounds/2, …


class Project:
    """
    Args:
        path: the run directory.

    Attributes:
        table: all images of the run. An image is named by its place in it, never by a path.

    Raises:
        CianError: this is not a run, or its data cannot be read any more.
    """

    def __init__(self, path: Path):
        self.run = open_run(path)
        self.config, self.table = read_run(self.run)
        self.known = KnownFiles(self.run.files_record)
        self.known.look(self.table.images)
        self.roots = [self.run.path.resolve(), *(folder.resolve() for folder in _data_folders(self.config))]

    def reload(self) -> None:
        """Takes over what a run has changed in its settings: its label maps."""
        config = self.read_config()
        table, _ = read_dataset(config.data, config.seed)
        if table is not None and table.ids == self.table.ids:  # otherwise the places of images are others
            self.config, self.table = config, table

    def read_config(self) -> Config:
        return load_run_config(None, {}, self.run.config_file)

    @property
    def name(self) -> str:
        return printable(self.run.path.resolve().name)

    @cached_property
    def classes(self) -> list[dict[str, Any]]:
        """Background first."""
        return [
            {"id": i, "name": name, "color": "#{:02x}{:02x}{:02x}".format(*COLOURS[i].tolist())}
            for i, name in enumerate(self.table.class_names)
        ]

    # Files. None is named by a client, but a run may come from a stranger.

    def inside(self, file: Path) -> Path:
        """The file, if it lies in the run or in a folder of its data.

        Raises:
            CianError: it is a link that leads out of these.
        """
        resolved = file.resolve()
        if not any(resolved.is_relative_to(root) for root in self.roots):
            raise CianError(f"{file.name}: is a link that leads out of the run and of its data. Copy the file there.")
        return file

    def own(self, *parts: str) -> Path:
        """A file that the page keeps in the run."""
        return self.inside(self.run.path.joinpath(OWN, *parts))

    def image(self, i: int) -> Path:
        return self.inside(self.table.images[i])

    def size(self, i: int) -> tuple[int, int]:
        """(height, width) of an image."""
        content = self.known.content(self.table.images[i]).split(" ")
        if len(content) == 4 and content[0].startswith("image/"):
            return int(content[1]), int(content[2])
        return image_size(self.image(i))

    def mask_file(self, kind: str, i: int) -> Path | None:
        """Where a mask of an image lies; None if there is none.

        Args:
            kind: "prediction", "seed", "truth", "label", or "before", the prediction before the run learned again.
        """
        image_id = self.table.ids[i]
        if kind == "truth":
            file = self.table.masks[i]
        elif kind == "before":
            last = self.last_round
            file = None if last is None else last / "predictions" / f"{image_id}.png"
        else:
            folder = {"prediction": "predictions", "seed": "seeds", "label": LABELS}[kind]
            file = self.run.mask(folder, image_id)
            if not file.is_file():
                file = {"prediction": self.kept_prediction(i), "label": self.table.labels[i]}.get(kind)
        return self.inside(file) if file is not None and file.is_file() else None

    def model_stamp(self, folder: Path | None = None) -> str:
        """Changes with the weights of the run's model, or of a model in another folder. Empty: there is none."""
        folder = folder or self.run.model
        try:
            status = (folder / "model.safetensors").stat()
        except OSError:
            return ""
        return f"{status.st_mtime_ns:x}-{status.st_size:x}"

    def kept_prediction(self, i: int, model: str | None = None) -> Path:
        """Where the prediction of an image is kept that the run itself does not predict.

        Args:
            model: the stamp of the model; None: of the run's.
        """
        return self.own("predictions", model or self.model_stamp() or "none", f"{self.table.ids[i]}.png")

    def forget_predictions(self) -> None:
        """Removes the kept predictions of earlier models."""
        folder, now = self.own("predictions"), self.model_stamp()
        for each in folder.iterdir() if folder.is_dir() else ():
            if each.name != now:
                with contextlib.suppress(OSError):  # the page writes one there just now
                    remove(each)

    def read_mask(self, kind: str, i: int, file: Path) -> np.ndarray:
        """(H, W) uint8 at the size of the image.

        Args:
            file: what `mask_file` says.

        Raises:
            CianError: it cannot be read.
        """
        mask = read_mask(file, self.table.mask_ids if kind in ("truth", "label") else None)
        return resize_mask(mask, self.size(i))

    # Labels that the page writes have the ids that the user's own masks and label maps have.

    def as_in_files(self, mask: np.ndarray) -> np.ndarray:
        """Class ids → the values that stand for them in files of masks and label maps."""
        ids = self.table.mask_ids
        if ids is None:
            return mask
        values = np.full(256, IGNORE, np.uint8)
        for value in range(255, -1, -1):  # of several values of a merged class, the first one
            if ids[value] < self.table.num_classes:
                values[ids[value]] = value
        return values[mask]

    # What was made.

    def rounds(self) -> list[Path]:
        """The folders of earlier rounds, in order."""
        folder = self.run.path / ROUNDS
        if not folder.is_dir():
            return []
        numbers = sorted(int(each.name) for each in folder.iterdir() if each.name.isascii() and each.name.isdigit())
        return [self.inside(folder / str(number)) for number in numbers]

    @property
    def last_round(self) -> Path | None:
        return next(reversed(self.rounds()), None)

    @property
    def has_model(self) -> bool:
        return (self.run.model / "config.json").is_file() and (self.run.model / "model.safetensors").is_file()

    def affinity_weights(self, folder: Path) -> tuple[NetworkStage, Path] | None:
        """The last network with affinity in a run or a round: its stage, and its weights."""
        for stage in reversed(NETWORKS):
            weights = folder / stage.name / "model.safetensors"
            if stage.network_config(self.config).affinity.mode != "none" and weights.is_file():
                return stage, weights
        return None

    def stages(self) -> Iterator[dict[str, Any]]:
        """The stages of the run that were begun, in order."""
        records = self.run.records()
        for stage in STAGES:
            if (record := records.get(stage.name)) is not None:
                yield {"name": stage.name, "title": stage.title, "done": record.done, "seconds": record.seconds}


def _data_folders(config: Config) -> Iterator[Path]:
    """The folders that the settings say the data is in."""
    data = config.data
    for value in (data.images, data.masks, data.labels, data.voc, data.sbd, data.coco):
        for path in value if isinstance(value, tuple) else (value,):
            if path is not None:
                yield path if path.is_dir() else path.parent
