"""What the server works with on a run, put together."""

from __future__ import annotations

import contextlib
import threading

import numpy as np

from cian.app.labels import LabelStore
from cian.app.learn import Learner
from cian.app.look import Looker
from cian.app.network import Network, Worker
from cian.app.overview import CHANGES, Changes, Overview
from cian.app.project import Project
from cian.app.snap import Snapper


class Site:
    def __init__(self, project: Project):
        self.project = project
        self.worker = Worker()
        self.network = Network(project, self.worker)
        self.snapper = Snapper(project, self.network)
        self.looker = Looker(project, self.network)
        self.labels = LabelStore(project)
        self.overview = Overview(project, self.labels)
        self.learner = Learner(project, self._learned)
        self._changes: Changes | None = None
        self._lock = threading.Lock()
        if project.has_model:
            self.worker.do(self._warm_up, urgent=False)

    def close(self) -> None:
        self.learner.close()

    @property
    def changes(self) -> Changes | None:
        """What has changed since the last round; None: there was none."""
        with self._lock:
            last = self.project.last_round
            if last is not None and (self._changes is None or self._changes.round != last):
                self._changes = Changes(self.project)
            return self._changes

    def mask(self, kind: str, i: int, urgent: bool) -> np.ndarray | None:
        """A mask (H, W) uint8 of an image; None: there is none. Predictions are made where the run has made none."""
        project = self.project
        if (file := project.mask_file(kind, i)) is not None:
            return project.read_mask(kind, i, file)
        last = project.last_round
        folder = last / "model" if kind == "before" and last is not None else None
        if (kind == "prediction" or folder is not None) and project.model_stamp(folder):
            return self.worker.do(lambda: self.network.prediction(i, folder), urgent).result()
        return None

    def _warm_up(self) -> None:
        """Loads the model, and the loops of the CRF, before someone waits for them."""
        from cian.crf.dense import dense_crf

        self.network.segmenter()
        for classes in (3, 6):  # two widths of the compiled loops
            dense_crf(np.zeros((32, 32, 3), np.uint8), np.zeros((classes, 32, 32), np.float32), iterations=1)

    def _learned(self) -> None:
        """After the run has learned: what had a mask before, and is not predicted by the run, is predicted again."""
        self.project.reload()
        self.project.forget_predictions()
        last = self.project.last_round
        if last is None or not self.project.has_model:
            return
        with self._lock, contextlib.suppress(OSError):
            self._changes = None  # it has compared the masks of before with themselves
            (last / CHANGES).unlink(missing_ok=True)
        for i, image_id in enumerate(self.project.table.ids):
            before = (last / "predictions" / f"{image_id}.png").is_file()
            if before and self.project.mask_file("prediction", i) is None:
                self.worker.do(lambda i=i: self.network.prediction(i), urgent=False)  # type: ignore[misc]
