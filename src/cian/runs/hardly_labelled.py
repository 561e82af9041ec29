"""Names the classes that a run learns from few labels or none, as its statistics.csv counts them."""

from __future__ import annotations

import csv
from typing import NamedTuple

from cian.data.advice import first
from cian.errors import Problem
from cian.runs.directory import Run
from cian.terminal import note

_SHARE = 0.25  # of the images with a class as a tag: it is named if it is labelled in fewer


class ClassLabels(NamedTuple):
    """A class, the number of training images with it as a tag, and in how many of them pixels are labelled with it."""

    name: str
    images: int
    labelled_images: int


def hardly_labelled(run: Run) -> list[ClassLabels]:
    """The classes that are labelled in under a quarter of their training images. Empty before they are counted."""
    if not run.statistics_file.exists():
        return []
    with run.statistics_file.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        rows = [
            ClassLabels(row["class"], int(row["images"]), int(row["labelled_images"])) for row in csv.DictReader(file)
        ]
    return [row for row in rows[1:] if row.labelled_images < _SHARE * row.images]  # the first row is background


def hardly_labelled_text(run: Run) -> str:
    """These classes in words. Empty if there are none."""
    return first([f"{row.name} (in {row.labelled_images} of its {row.images} images)" for row in hardly_labelled(run)])


def note_hardly_labelled(run: Run) -> None:
    """Prints a note of these classes, with what to do, if there are any."""
    if found := hardly_labelled_text(run):
        value = f"classes that are hardly labelled, so the model hardly learns them: {found}"
        cure = "Add images that show these classes alone, or label maps of some of their images (--labels)"
        note(Problem(str(run.path), value, cure))
