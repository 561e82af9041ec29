"""The scores of a run, for its tables and charts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cian.data.table import TRAIN

if TYPE_CHECKING:
    from cian.pipeline.context import Context
    from cian.pipeline.stage import MaskFolder


@dataclass(frozen=True)
class ScoreRow:
    """The scores of one folder of masks on one split, in percent.

    Attributes:
        place: of the masks, in order. Masks of one title, of several splits, have one place.
        name, about: what these masks are.
        tags: whether the tags of an image limit the classes in its mask, in a word.
        images: how many were scored.
        labelled: the mIoU over labelled pixels alone; for seeds only.
        headline: whether it is the score at the top of the page.
    """

    place: int
    name: str
    about: str
    split: str
    tags: str
    images: int
    miou: float | None
    labelled: float | None
    accuracy: float | None
    coverage: float | None
    precision: float | None
    recall: float | None
    headline: bool


@dataclass(frozen=True)
class SeedClass:
    """Scores of the seeds of one class, in percent."""

    class_id: int
    name: str
    precision: float | None
    recall: float | None
    coverage: float | None


@dataclass(frozen=True)
class ClassScore:
    """IoU of one class, in percent.

    Attributes:
        pixels: how many the true masks show. If there are none, the IoU is 0 or undefined and says nothing.
        final: of the final masks.
        others: of other masks, by title.
    """

    class_id: int
    name: str
    pixels: int
    final: float | None
    others: dict[str, float | None]


@dataclass(frozen=True)
class ClassScores:
    """IoU by class on the split of the headline.

    Attributes:
        final: the title of the final masks.
        labels, networks: the titles of the other masks: those that are trained on, and those of networks.
    """

    split: str
    final: str
    labels: list[str]
    networks: list[str]
    rows: list[ClassScore]


@dataclass(frozen=True)
class Confusions:
    """Which classes the final masks give to the pixels of each class.

    Attributes:
        names: of the classes, by id. The columns also have "unlabelled", if there are such pixels.
        shares: (K, number of columns) in percent of the pixels of the true class.
        known: (K,) bool; False where the true masks do not show the class.
    """

    split: str
    final: str
    names: tuple[str, ...]
    columns: tuple[str, ...]
    shares: np.ndarray
    known: np.ndarray


def score_rows(context: Context, scores: dict[str, Any]) -> list[ScoreRow]:
    """The rows of the table of scores: labels for the training first, then predictions, the final ones last."""
    final = final_title(context, scores, scores["split"])
    folders, rows = _scored(context, scores), []
    places = {folder.title: place for place, folder in enumerate(folders)}
    for folder in folders:
        for split in folder.table.split_names:
            values = scores["stages"][folder.title].get(split)
            if values is None:
                continue
            rows.append(
                ScoreRow(
                    place=places[folder.title],
                    name=str(folder.title),
                    about=folder.about,
                    split=split,
                    tags=folder.tags or ("yes" if split == TRAIN else "no"),
                    images=len(folder.table.split(split).with_masks()),
                    miou=values["miou"],
                    labelled=values["miou_labelled"] if folder.role == "seeds" else None,
                    accuracy=values["accuracy"],
                    coverage=values["coverage"],
                    precision=_mean(values["precision"].values()),
                    recall=_mean(values["recall"].values()),
                    headline=split == scores["split"] and folder.title == final,
                )
            )
    return rows


def final_title(context: Context, scores: dict[str, Any], split: str | None) -> str | None:
    """The title of the last predictions that were scored on a split. None if there are none."""
    titles = [
        folder.title
        for folder in _scored(context, scores)
        if folder.role in ("without CRF", "final") and split in scores["stages"][folder.title]
    ]
    return titles[-1] if titles else None


def _scored(context: Context, scores: dict[str, Any]) -> list[MaskFolder]:
    """The folders of masks that have scores, labels first, the final masks last."""
    return [folder for folder in context.mask_folders if folder.title in scores["stages"]]


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def seed_scores(context: Context, scores: dict[str, Any]) -> list[tuple[str, list[SeedClass]]]:
    """For each split, the scores of the seeds of each class."""
    found = []
    titles = dict.fromkeys(folder.title for folder in _scored(context, scores) if folder.role == "seeds")
    for split, values in ((split, values) for title in titles for split, values in scores["stages"][title].items()):
        counts = np.array(values["confusion"])  # (K, K + 1)
        pixels = counts.sum(1)
        rows = [
            SeedClass(
                class_id,
                name,
                values["precision"][name],
                values["recall"][name],
                100 - 100 * float(counts[class_id, -1] / pixels[class_id]) if pixels[class_id] else None,
            )
            for class_id, name in enumerate(context.table.class_names)
        ]
        found.append((split, rows))
    return found


def class_scores(context: Context, scores: dict[str, Any]) -> ClassScores | None:
    """None if nothing is scored."""
    split = scores["split"]
    final = final_title(context, scores, split)
    if final is None:
        return None
    folders = [folder for folder in _scored(context, scores) if split in scores["stages"][folder.title]]
    titles = {True: dict[str, None](), False: dict[str, None]()}  # of labels, and of the masks of networks
    for folder in folders:
        titles[folder.role in ("seeds", "labels")][str(folder.title)] = None
    labels, networks = list(titles[True]), [title for title in titles[False] if title != final]
    iou = {title: scores["stages"][title][split]["iou"] for title in (*labels, *networks, final)}
    pixels = np.array(scores["stages"][final][split]["confusion"]).sum(1)  # (K,)
    rows = [
        ClassScore(
            class_id,
            name,
            int(pixels[class_id]),
            iou[final][name],
            {title: iou[title][name] for title in (*labels, *networks)},
        )
        for class_id, name in enumerate(context.table.class_names)
    ]
    return ClassScores(split, final, labels, networks, rows)


def confusions(context: Context, scores: dict[str, Any]) -> Confusions | None:
    """None if nothing is scored."""
    split = scores["split"]
    final = final_title(context, scores, split)
    if final is None:
        return None
    counts = np.array(scores["stages"][final][split]["confusion"], np.float64)  # (K, K + 1)
    pixels = counts.sum(1, keepdims=True)
    shares = np.divide(counts, pixels, out=np.zeros_like(counts), where=pixels > 0) * 100
    names = context.table.class_names
    columns = (*names, "unlabelled") if counts[:, -1].any() else names
    return Confusions(split, final, names, columns, shares[:, : len(columns)], pixels[:, 0] > 0)
