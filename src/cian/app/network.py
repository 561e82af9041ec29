"""The network of a run: one thread works with it, the most urgent first."""

from __future__ import annotations

import contextlib
import itertools
import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from cian.app.project import Project
from cian.app.refusal import Refusal
from cian.data.images import alone, read_image
from cian.data.masks import read_mask, write_mask
from cian.data.table import TRAIN
from cian.errors import CianError

if TYPE_CHECKING:
    from torch import Tensor

    from cian.config import Config
    from cian.inference.segmenter import Segmenter
    from cian.network import CIAN

Key = TypeVar("Key")
Value = TypeVar("Value")
_CALM = 1.0  # seconds after the last urgent job before the others go on


class Latest(Generic[Key, Value]):
    """Keeps the values that were used last.

    Args:
        most: how many.
    """

    def __init__(self, most: int):
        self.most, self._lock = most, threading.Lock()
        self._values: OrderedDict[Key, Value] = OrderedDict()

    def find(self, key: Key) -> Value | None:
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
            return self._values.get(key)

    def keep(self, key: Key, value: Value) -> None:
        with self._lock:
            self._values[key] = value
            self._values.move_to_end(key)
            while len(self._values) > self.most:
                self._values.popitem(last=False)


class Worker:
    """A thread for what takes all cores. Jobs that someone waits for come first; of the others, the newest."""

    def __init__(self) -> None:
        self._jobs: queue.PriorityQueue[tuple[int, int, Future[Any], Callable[[], Any]]] = queue.PriorityQueue()
        self._count = itertools.count()
        self._urgent = 0.0
        threading.Thread(target=self._work, daemon=True).start()

    def do(self, job: Callable[[], Value], urgent: bool = True) -> Future[Value]:
        future: Future[Value] = Future()
        number = next(self._count)
        self._jobs.put((0, number, future, job) if urgent else (1, -number, future, job))
        return future

    def disturb(self) -> None:
        """Someone works on the page: what is not urgent waits a moment."""
        self._urgent = time.monotonic()

    def _work(self) -> None:
        while True:
            level, number, future, job = self._jobs.get()
            if level and time.monotonic() - self._urgent < _CALM:
                self._jobs.put((level, number, future, job))
                time.sleep(0.05)
                continue
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(job())
            except BaseException as error:  # noqa: BLE001 - for the one who waits
                future.set_exception(error)


@dataclass(frozen=True, eq=False)
class Scores:
    """What the network says of an image.

    Attributes:
        image: (h, w, 3) uint8 at the size that the network works on.
        logits: (K, h', w'), at the size of the network's cells.
        model: which weights said it.
    """

    image: np.ndarray
    logits: Tensor
    model: str


class Network:
    """The model of a run, or of an earlier round of it. It is loaded when it is first needed, and when it changes."""

    def __init__(self, project: Project, worker: Worker):
        self.project, self.worker = project, worker
        self._loaded: Latest[str, Segmenter] = Latest(2)
        self._networks: Latest[str, CIAN] = Latest(3)
        self._scores: Latest[tuple[str, int], Scores] = Latest(8)

    def segmenter(self, folder: Path | None = None) -> Segmenter:
        """
        Raises:
            Refusal: there is no model yet.
            CianError: its files are damaged.
        """
        stamp = self.project.model_stamp(folder)
        if not stamp:
            raise Refusal(409, "This run has no model yet. Let it finish.")
        if (found := self._loaded.find(stamp)) is None:
            from cian.inference.segmenter import load

            found = load(self.project.inside(folder or self.project.run.model))
            if self.project.model_stamp(folder) != stamp:  # replaced meanwhile: by a run that learns
                return self.segmenter(folder)
            if found.class_names != self.project.table.class_names:
                raise Refusal(409, "The model of this run has other classes than its data. Run `cian run` again.")
            self._loaded.keep(stamp, found)
        return found

    def with_affinity(self, folder: Path) -> tuple[str, CIAN]:
        """The last network in a run or a round that compares images, and what changes with it. The model that is
        shipped may have no affinity.

        Raises:
            Refusal: there is none.
        """
        if (found := self.project.affinity_weights(folder)) is None:
            raise Refusal(409, "There is no network with affinity here yet, or affinity.mode is none.")
        stage, weights = found
        key = self.project.model_stamp(weights.parent)
        if (network := self._networks.find(key)) is None:
            from cian.training.checkpoint import load_weights

            network = self._build(stage.network_config(self.project.config))
            load_weights(network, self.project.inside(weights))
            self._networks.keep(key, network.eval())
        return key, network

    def untrained(self) -> tuple[str, CIAN]:
        """The network as its training began: with the weights of the classifier.

        Raises:
            Refusal: the run has no classifier.
        """
        from cian.seeds.classifier import build_classifier
        from cian.training.checkpoint import load_weights

        weights = self.project.run.folder("classify") / "model.safetensors"
        if not weights.is_file():
            raise Refusal(409, "There is nothing before: this run has trained no classifier.")
        key = self.project.model_stamp(weights.parent)
        if (network := self._networks.find(key)) is None:
            config = self.project.config
            network = self._build(config)
            classifier = build_classifier(config, len(self.project.table.classes), weights="random")
            load_weights(classifier, self.project.inside(weights))
            network.backbone.load_state_dict(classifier.backbone.state_dict())
            self._networks.keep(key, network.eval())
        return key, network

    def _build(self, config: Config) -> CIAN:
        """A network with the first weights that the run's seed gives it."""
        import torch

        from cian.build import build_network

        with torch.random.fork_rng():
            torch.manual_seed(config.seed)
            return build_network(config, self.project.table.num_classes, weights="random")

    def scores(self, i: int, folder: Path | None = None) -> Scores:
        """What the network says of an image. Call it in the worker's thread."""
        from cian.inference.logits import multi_scale_logits

        stamp = self.project.model_stamp(folder)
        if (known := self._scores.find((stamp, i))) is None:
            segmenter = self.segmenter(folder)
            image = read_image(self.project.image(i), segmenter.config.max_side)
            settings = segmenter.config.predict
            logits = multi_scale_logits(segmenter.network, image, settings.scales, settings.mirror).cpu()
            known = Scores(image, logits, stamp)
            self._scores.keep((stamp, i), known)
        return known

    def allowed(self, i: int) -> np.ndarray | None:
        """Tags limit the masks of training images, as in the run."""
        table = self.project.table
        return table.allowed(i) if table.splits[i] == TRAIN else None

    def prediction(self, i: int, folder: Path | None = None) -> np.ndarray:
        """(H, W) uint8, the mask of an image that the run itself does not predict.

        Args:
            folder: of a model; None: the run's. Then the mask is kept on disk.
        """
        from cian.inference.decide import label_map, probabilities

        if folder is None and (file := self.project.mask_file("prediction", i)) is not None:
            return read_mask(file)
        segmenter = self.segmenter(folder)
        known, settings = self.scores(i, folder), segmenter.config.predict
        logits = segmenter.network.backbone.grid.upsample(known.logits[None], known.image.shape[:2])[0]
        result = probabilities(logits, known.image, self.allowed(i), settings.own_threshold, settings.crf)
        size = self.project.size(i)
        with alone(size[0] * size[1]):
            mask = label_map(result, size)
        if folder is None:
            with contextlib.suppress(OSError, CianError):  # a run that cannot be written can be looked at
                write_mask(self.project.kept_prediction(i, known.model), mask)
        return mask
