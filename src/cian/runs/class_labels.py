"""How many images each class is learned from, as statistics.csv counts them, and which classes have too few."""

from __future__ import annotations

from typing import NamedTuple

from cian.data.problems import first
from cian.errors import Problem
from cian.files import read_csv
from cian.runs.directory import Run
from cian.terminal import note

_FEW = 0.25  # of the images with a class as a tag: it is hardly labelled if pixels are labelled with it in fewer


class ClassLabels(NamedTuple):
    """A class, the number of training images with it as a tag, and in how many of them pixels are labelled with it."""

    name: str
    images: int
    labelled_images: int

    @property
    def few(self) -> bool:
        return self.labelled_images < _FEW * self.images


def class_labels(run: Run) -> list[ClassLabels]:
    """All classes, background first. Empty before they are counted."""
    if not run.statistics_file.exists():
        return []
    rows = read_csv(run.statistics_file)
    return [ClassLabels(row["class"], int(row["images"]), int(row["labelled_images"])) for row in rows]


def hardly_labelled(run: Run) -> str:
    """The classes that are labelled in under a quarter of their training images, in words. Empty if there are none."""
    few = [row for row in class_labels(run)[1:] if row.few]
    return first([f"{row.name} (in {row.labelled_images} of its {row.images} images)" for row in few])


def note_hardly_labelled(run: Run) -> None:
    """Prints a note of these classes, with what to do, if there are any."""
    if found := hardly_labelled(run):
        value = f"classes that are hardly labelled, so the model hardly learns them: {found}"
        cure = "Add images that show these classes alone, or label maps of some of their images (--labels)"
        note(Problem(str(run.path), value, cure))
