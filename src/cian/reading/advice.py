"""What in a data set may make masks or scores worse: notes, with what to do, that stop no run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cian.config import DataConfig
from cian.data.masks import only_ignored
from cian.data.problems import ProblemList, first
from cian.data.summary import summary_data
from cian.data.table import IGNORE, TRAIN, Table
from cian.formats.label_sources import are_drawn

_FEW = 20  # training images of a class
_APART = 0.1  # share of a class's training images: one is hardly told from another that is missing in no more of them
# Share of masks that may show untagged classes without a note: people leave small objects out of tags.
_MISTAGGED = 0.05


def note_masks(config: DataConfig, table: Table, problems: ProblemList) -> None:
    """Notes masks that cannot score what they should, from their presence alone."""
    if not any(table.masks):
        return
    if config.classes is None and config.voc is None and config.coco is None and not are_drawn(table.masks):
        names = table.classes if table.mask_classes is None else table.mask_classes
        ids = [f"{i} = {name or 'dropped'}" for i, name in enumerate(names, start=1)]
        value = f"no data.classes (--classes): the ids in masks are taken as {first(ids)}"
        problems.add("settings", value, "Give --classes if the masks have another order", fatal=False)
    held_out = [mask for mask, split in zip(table.masks, table.splits, strict=True) if split != TRAIN]
    if held_out and not any(held_out):
        value = "no held-out image has a mask, so no score shows how good the model is on new images"
        cure = "Name images with masks in --split val=FILE, or draw masks for held-out images"
        problems.add("data", value, cure, fatal=False)


def note_classes(config: DataConfig, table: Table, problems: ProblemList) -> None:
    """Notes classes that are hard to learn from the tags: with few images, or always together with something else."""
    training = table.split(TRAIN)
    together = np.array(summary_data(training)["co_occurrence"])  # (C, C) images that show both classes
    counts = together.diagonal()
    names = training.classes
    always = [name for name, n in zip(names, counts, strict=True) if n == len(training) > 0]
    identical = (together == counts[:, None]) & (together == counts) & (together > 0)  # (C, C)
    alike = [f"{names[i]} and {names[j]}" for i, j in zip(*np.nonzero(np.triu(identical, 1)), strict=True)]
    if always:
        value = f"every training image shows {first(always)}, so nothing tells it from its surroundings"
        cure = "Add images of other classes, or images of no class (an empty tag and data.untagged=negative)"
        problems.add("data", value, cure, fatal=False)
    elif alike:
        value = f"always in the same training images: {first(alike)}, so nothing tells one from the other"
        problems.add("data", value, "Add images of each alone, or make them one class (data.merge)", fatal=False)
    contained = [
        f"{names[i]} is tagged without {names[j]} in {counts[i] - together[i, j]} of its {counts[i]} images"
        for i, j in zip(*np.nonzero(together >= (1 - _APART) * counts[:, None]), strict=True)
        if counts[i] > 0 and (counts[i], i) < (counts[j], j) and names[j] not in always and not identical[i, j]
    ]
    if contained:
        value = f"tags hardly tell classes apart: {first(contained)}"
        cure = (
            "Add images of each alone, give label maps of some images (--labels), or make them one class (data.merge)"
        )
        problems.add("data", value, cure, fatal=False)
    rare = [f"{name} {n}" for name, n in zip(names, counts, strict=True) if config.min_images <= n < _FEW]
    if rare and len(training):
        value = f"few training images: {first(rare)}"
        problems.add("data", value, "A few dozen images per class give better masks", fatal=False)


class MaskContents:
    """Gathers which classes the masks and label maps of a table hold, and compares them with the tags."""

    def __init__(self, table: Table):
        self.table = table
        self._held: dict[int, Path] = {}  # by class id, the first mask that holds it
        self._untagged: list[Path] = []  # masks with a class that is not among the tags of their image
        self._contradicting: list[str] = []  # label maps with such a class
        self._compared = 0  # masks of images with known tags

    def add(self, row: int, in_mask: Sequence[int], in_labels: Sequence[int]) -> None:
        """Adds the class ids in the mask and in the label map of an image."""
        table = self.table
        mask, labels, tagged = table.masks[row], table.labels[row], bool(table.tagged[row])
        if mask is None and labels is None:
            return
        known = {0, IGNORE, *table.tags(row).tolist()}
        if mask is not None:
            self._compared += tagged
            for class_id in in_mask:
                self._held.setdefault(class_id, mask)
            if tagged and not known.issuperset(in_mask):
                self._untagged.append(mask)
        other = [table.class_names[i] for i in in_labels if i not in known and i < table.num_classes]
        if tagged and other:
            self._contradicting.append(f"{labels} ({first(other)})")

    def report(self, problems: ProblemList) -> None:
        """Adds the notes that follow from all masks together."""
        table = self.table
        if IGNORE in self._held and not any(0 < i < IGNORE for i in self._held):
            problems.append(only_ignored(self._held[IGNORE]).problem)
        else:
            masked = np.fromiter((mask is not None for mask in table.masks), bool, len(table))  # (N,)
            tagged = np.unique(table.tag_ids[np.repeat(masked, np.diff(table.tag_offsets))])
            if absent := [table.class_names[i] for i in tagged if i not in self._held]:
                value = f"tags that appear in no mask of their images: {first(absent)}"
                problems.add(
                    "data", value, "Correct the masks, the order of the classes (--classes) or the tags", fatal=False
                )
        if len(self._untagged) > self._compared * _MISTAGGED:
            value = f"{len(self._untagged)} of {self._compared} masks show a class that their image is not tagged with"
            cure = "Correct the order of the classes (--classes), the masks or the tags"
            problems.add("data", f"{value}, e.g. {self._untagged[0]}", cure, fatal=False)
        if self._contradicting:
            value = "label maps with a class that their image is not tagged with: "
            value += first(self._contradicting, 3)
            cure = "The label maps are used as they are. Correct them, or add the tags"
            problems.add("data", value, cure, fatal=False)
