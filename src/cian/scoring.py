"""Scores any folder of indexed PNGs against true masks, ours or another tool's. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from cian.data.classes import class_names
from cian.data.masks import read_mask, resize_mask
from cian.data.table import BACKGROUND
from cian.data.textfiles import read_lines
from cian.errors import CianError
from cian.metrics import Confusion
from cian.progress import Ticker


def score_pairs(
    pairs: Iterable[tuple[Path, Path]], num_classes: int, label: str = "scoring", resize: bool = False
) -> Confusion:
    """One confusion matrix of (prediction, truth) files.

    Args:
        resize: bring predictions to the size of the truth, instead of refusing another size.

    Raises:
        CianError: a prediction is missing, of another size, or holds ids that are no classes.
    """
    pairs = list(pairs)
    confusion = Confusion(num_classes)

    def read(pair: tuple[Path, Path]) -> tuple[np.ndarray, np.ndarray]:
        return read_mask(pair[0]), read_mask(pair[1])

    with Ticker(label, len(pairs)) as ticker, ThreadPoolExecutor(2) as pool:
        for (file, truth_file), (prediction, truth) in zip(pairs, pool.map(read, pairs), strict=True):
            if prediction.shape != truth.shape:
                if not resize:
                    raise CianError(
                        f"{file}: {prediction.shape[1]}×{prediction.shape[0]} px, but {truth_file} has "
                        f"{truth.shape[1]}×{truth.shape[0]}. Predict at the size of the mask."
                    )
                prediction = resize_mask(prediction, truth.shape)
            try:
                confusion.add(prediction, truth)
            except ValueError as error:
                raise CianError(f"{file} against {truth_file}: {error}. Is the list of classes complete?") from None
            ticker.advance()
    return confusion


def evaluate_folders(predictions: Path, masks: Path, classes: Path, names_file: Path | None = None) -> dict[str, Any]:
    """Scores any folder of indexed PNGs, ours or another tool's.

    Args:
        predictions, masks: folders of ID.png, searched recursively.
        classes: one class name a line, background first.
        names_file: the ids to score, one a line; default: every mask of the folder.

    Returns:
        The scores as `Scores.as_dict` gives them, with "images".

    Raises:
        CianError: a folder or a prediction is missing, or what `score_pairs` raises.
    """
    for folder in (predictions, masks):
        if not folder.is_dir():
            raise CianError(f"{folder}: no such folder. Give the folder that holds the PNG files.")
    if names_file is not None:
        lines = (line.strip() for line in read_lines(names_file))
        ids = [line.removesuffix(".png") for line in lines if line]
    else:
        ids = sorted(path.relative_to(masks).with_suffix("").as_posix() for path in masks.rglob("*.png"))
    if not ids:
        raise CianError(f"{names_file or masks}: nothing to score. Give a folder of PNG masks, or a list with ids.")
    names = [BACKGROUND, *class_names(classes)]
    pairs = [(predictions / f"{image_id}.png", masks / f"{image_id}.png") for image_id in ids]
    for side, what in ((0, "prediction"), (1, "mask")):
        missing = [pair[side] for pair in pairs if not pair[side].is_file()]
        if missing:
            raise CianError(
                f"{missing[0]}: no such {what}; {len(missing)} of {len(pairs)} are missing. "
                "Every image must be there, or be left out with --list."
            )
    return {"images": len(pairs), **score_pairs(pairs, len(names)).scores().as_dict(tuple(names))}
