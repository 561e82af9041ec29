"""What the page shows of all images at once: sizes, classes, scores, and what has changed since the last round."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cian.app.labels import LabelStore
from cian.app.project import Project
from cian.app.ranking import Ranking
from cian.app.scan import Scan, stamp
from cian.data.masks import count_ids, read_mask, resize_mask
from cian.evaluation.folders import object_iou

CHANGES = "changes.json"  # in the folder of a round


@dataclass
class Seen:
    """What was found about an image.

    Attributes:
        stamp: changes with the files that it was found in.
        found: ids of the classes in its predicted mask, without background.
        score: in percent, see `object_iou`.
    """

    stamp: str = ""
    height: int = 0
    width: int = 0
    found: list[int] = field(default_factory=list)
    score: float | None = None


class Overview:
    def __init__(self, project: Project, labels: LabelStore):
        self.project, self.labels = project, labels
        self.ranking = Ranking(project, labels)
        self.scan = Scan(project.table.ids, Seen(), self._look, project.own("overview.json"))
        self.scan.update()

    def _look(self, i: int, before: Seen) -> Seen:
        project = self.project
        predicted, truth = project.mask_file("prediction", i), project.mask_file("truth", i)
        now = stamp(project.image(i), predicted, truth)
        if now == before.stamp:
            return before
        seen = Seen(now, *project.size(i))
        if predicted is not None:
            mask = read_mask(predicted)
            seen.found = [int(c) for c in np.flatnonzero(count_ids(mask)) if 0 < c < project.table.num_classes]
            if truth is not None:
                seen.score = object_iou(mask, read_mask(truth, project.table.mask_ids))
        return seen

    def rows(self) -> list[dict[str, Any]]:
        """One row an image, as JSON."""
        self.scan.update()
        table, states, ranks = self.project.table, self.labels.states(), self.ranking.ranks()
        return [
            {
                "i": i,
                "id": table.ids[i],
                "width": seen.width,
                "height": seen.height,
                "tags": table.tags(i).tolist(),
                "found": seen.found,
                "score": rounded(seen.score),
                "rank": ranks.get(table.ids[i]),
                "state": states.get(i, "none"),
                "split": table.splits[i],
            }
            for i, seen in enumerate(self.scan.found)
        ]


@dataclass
class Changed:
    """How an image's mask differs from the one before the run learned again.

    Attributes:
        changed: the share of its pixels that have another class; None: there is no mask before or after.
        before, after: scores in percent.
    """

    stamp: str = ""
    changed: float | None = None
    before: float | None = None
    after: float | None = None


class Changes:
    """What has changed since the last round, image by image."""

    def __init__(self, project: Project):
        self.project = project
        last = project.last_round
        assert last is not None
        self.round = last
        self.scan = Scan(project.table.ids, Changed(), self._look, self.round / CHANGES)

    def _look(self, i: int, known: Changed) -> Changed:
        project = self.project
        old, new = (project.mask_file(kind, i) for kind in ("before", "prediction"))
        if old is None or new is None:
            return known if known.changed is None else Changed()
        truth = project.mask_file("truth", i)
        now = stamp(old, new, truth)
        if now == known.stamp:
            return known
        masks = [read_mask(old), read_mask(new)]
        share = float((resize_mask(masks[0], masks[1].shape) != masks[1]).mean())
        scores: list[float | None] = [None, None]
        if truth is not None:
            true = read_mask(truth, project.table.mask_ids)
            scores = [object_iou(mask, true) for mask in masks]
        return Changed(now, share, *scores)

    def rows(self) -> list[dict[str, Any]]:
        """What changed most first."""
        self.scan.update()
        rows = [
            {"i": i, "changed": round(each.changed, 4), "before": rounded(each.before), "after": rounded(each.after)}
            for i, each in enumerate(self.scan.found)
            if each.changed is not None
        ]
        return sorted(rows, key=lambda row: -row["changed"])


def rounded(score: float | None) -> float | None:
    return None if score is None else round(score, 2)
