"""What went wrong: the classes that were not learned, and the images to look at first."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from cian.data.images import read_image
from cian.data.masks import read_mask, resize_mask
from cian.data.table import IGNORE, Table
from cian.evaluation.folders import object_iou
from cian.inference.logits import segment_logits
from cian.parallel import cores, map_ahead
from cian.report.samples import CANDIDATES, evenly_spread, mask_if_there
from cian.report.scores import class_scores
from cian.runs.class_labels import class_labels

if TYPE_CHECKING:
    from cian.pipeline.context import Context

FAILED = 10.0  # percent: a class with a lower IoU was not learned
LOOKED_AT = 40  # images that the network is asked about
_MISSED, _INVENTED = 0.1, 0.01  # a class is missed with a smaller share of its area; invented with a larger one


@dataclass(frozen=True)
class ClassFinding:
    """A class that the network did not learn, or that it learned from little.

    Attributes:
        tagged: number of training images with the class as a tag.
        seeded: those of them in which the seeds label it; None if there are no seeds.
        iou: on the split of the headline, in percent; None if it is not known.
        predicted: whether a mask shows the class; None if no image that was looked at should show it.
        failed: whether it was not learned.
    """

    class_id: int
    name: str
    tagged: int
    seeded: int | None
    iou: float | None
    predicted: bool | None
    failed: bool


@dataclass(frozen=True)
class Finding:
    """An image whose mask may be wrong.

    Attributes:
        row: of the table.
        value: how much of its objects is right, in percent; or is expected to be.
        missed: the ids of classes that the image shows, but its mask does not.
        invented: the ids of classes that its mask shows, but the image does not.
    """

    row: int
    value: float
    missed: list[int]
    invented: list[int]


def class_findings(context: Context, scores: dict[str, Any]) -> list[ClassFinding]:
    """The classes with something to say about, those that failed first."""
    labels = {row.name: row for row in class_labels(context.run)}
    scored = class_scores(context, scores)
    expected, predicted = _expected_and_predicted(context)
    iou: dict[int, float | None] = {}
    if scored is not None:
        iou = {row.class_id: row.final for row in scored.rows if row.pixels}
        expected |= iou.keys()
        confusion = np.array(scores["stages"][scored.final][scored.split]["confusion"])
        predicted |= set(np.flatnonzero(confusion.sum(0)).tolist())
    found = []
    for class_id, name in enumerate(context.table.class_names[1:], start=1):
        row = labels.get(name)
        tagged, seeded = (row.images, row.labelled_images if context.has_seeds else None) if row else (0, None)
        value = iou.get(class_id)
        is_predicted = class_id in predicted if class_id in expected else None
        failed = (tagged > 0 and seeded == 0) or is_predicted is False or (value is not None and value < FAILED)
        if failed or (context.has_seeds and row is not None and row.few):
            found.append(ClassFinding(class_id, name, tagged, seeded, value, is_predicted, failed))
    return sorted(found, key=lambda each: not each.failed)


def _expected_and_predicted(context: Context) -> tuple[set[int], set[int]]:
    """The classes that some predicted images show by their tags, and those that their masks show."""
    table = context.predict_table
    rows = evenly_spread(len(table), CANDIDATES)
    expected = {int(tag) for row in rows if table.tagged[row] for tag in table.tags(row)}
    return expected, {class_id for row in rows for class_id in _classes(_final_mask(context, table, row))}


def worst_predictions(context: Context) -> list[Finding]:
    """Predicted images with a true mask that shows an object, those with the lowest IoU first."""
    table = context.scored_table

    def look(row: int) -> Finding | None:
        file, mask = table.masks[row], _final_mask(context, table, row)
        if file is None or mask is None:
            return None
        truth = read_mask(file, table.mask_ids)
        value = object_iou(mask, truth)
        return None if value is None else _compared(row, value, resize_mask(mask, truth.shape), truth)

    with ThreadPoolExecutor(cores()) as pool:
        return _sorted(map_ahead(pool, look, evenly_spread(len(table), CANDIDATES)))


def _compared(row: int, value: float, mask: np.ndarray, truth: np.ndarray) -> Finding:
    shown = _classes(truth)
    known = truth != IGNORE
    missed = [i for i in shown if (mask[truth == i] == i).mean() < _MISSED]
    invented = [i for i in _classes(mask) if i not in shown and (mask[known] == i).mean() > _INVENTED]
    return Finding(row, value, missed, invented)


def doubtful_predictions(context: Context) -> list[Finding]:
    """Some predicted images, those first of whose masks the network expects the least to be right."""
    table = context.predict_table
    network = context.load_network(context.final_network)
    settings = context.config.predict.model_copy(update={"scales": (1.0,), "mirror": False})

    def look(row: int) -> Finding | None:
        mask = _final_mask(context, table, row)
        if mask is None:
            return None
        image = read_image(table.images[row], context.config.max_side)
        probabilities = segment_logits(network, image, settings).softmax(0).cpu()
        probabilities[~torch.from_numpy(table.allowed(row))] = 0  # a class that is no tag of the image is wrong
        value = expected_iou(probabilities, resize_mask(mask, image.shape[:2]))
        shown, tags = set(_classes(mask)), set(table.tags(row).tolist())
        if not table.tagged[row]:
            return None if value is None else Finding(row, value, [], [])
        return Finding(row, 0.0 if value is None else value, sorted(tags - shown), sorted(shown - tags))

    return _sorted(map(look, evenly_spread(len(table), LOOKED_AT)))


def expected_iou(probabilities: Tensor, mask: np.ndarray) -> float | None:
    """`object_iou` of a mask, in percent, as a network expects it: its probabilities in place of the true mask. None
    where the mask shows no object.

    Shape:
        probabilities: (K, H, W) float, background first; mask: (H, W) uint8.
    """
    labels = torch.from_numpy(mask.astype(np.int64))  # (H, W)
    objects = (labels > 0) & (labels != IGNORE)
    if not objects.any():
        return None
    right = probabilities[:, objects].gather(0, labels[objects][None]).sum()
    missed = (1 - probabilities[0][~objects]).sum()
    return 100 * float(right / (objects.sum() + missed))


def unseeded_images(context: Context) -> list[Finding]:
    """Training images with a tag that their seeds do not label, those first whose seeds label the least."""
    if not context.has_seeds:
        return []
    table = context.seed_table

    def look(row: int) -> Finding | None:
        seeds = mask_if_there(context.find_mask("seeds", table.ids[row]))
        if seeds is None:
            return None
        missed = sorted(set(table.tags(row).tolist()) - set(_classes(seeds)))
        return Finding(row, 100 * float((seeds != IGNORE).mean()), missed, []) if missed else None

    with ThreadPoolExecutor(cores()) as pool:
        return _sorted(map_ahead(pool, look, evenly_spread(len(table), CANDIDATES)))


def _final_mask(context: Context, table: Table, row: int) -> np.ndarray | None:
    return mask_if_there(context.find_mask("final", table.ids[row]))


def _classes(mask: np.ndarray | None) -> list[int]:
    """The ids of the classes in a mask."""
    return [] if mask is None else [class_id for class_id in np.unique(mask).tolist() if class_id not in (0, IGNORE)]


def _sorted(findings: Iterable[Finding | None]) -> list[Finding]:
    return sorted((each for each in findings if each is not None), key=lambda each: each.value)
