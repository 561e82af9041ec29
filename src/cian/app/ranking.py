"""The order of `cian suggest`: which images to correct first. It is found in the background."""

from __future__ import annotations

import contextlib
import threading

from cian.app.labels import LabelStore
from cian.app.project import Project
from cian.errors import CianError


class Ranking:
    def __init__(self, project: Project, labels: LabelStore):
        self.project, self.labels = project, labels
        self._ranks: dict[str, int] = {}
        self._of: object = None  # what the ranks were found for
        self._thread: threading.Thread | None = None

    def ranks(self) -> dict[str, int]:
        """The rank of each image without labels, by id; 1 is the first to correct. Those of a moment ago, while the
        new ones are found."""
        now = self.project.model_stamp(), frozenset(self.labels.states())
        if now != self._of and not self.busy:
            self._of = now
            self._thread = threading.Thread(target=self._find, name="cian-ranks", daemon=True)
            self._thread.start()
        return self._ranks

    @property
    def busy(self) -> bool:
        """Whether new ranks are being found."""
        return self._thread is not None and self._thread.is_alive()

    def _find(self) -> None:
        from cian.pipeline.suggest import suggest

        with contextlib.suppress(CianError, OSError):  # no seeds yet
            self._ranks = {each.id: each.rank for each in suggest(self.project.run, table=self.project.table)}
