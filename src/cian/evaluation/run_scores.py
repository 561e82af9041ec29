"""Scores of all masks that a run has made."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cian.data.table import TRAIN, Table
from cian.evaluation.folders import score_pairs
from cian.evaluation.metrics import Confusion
from cian.terminal import Ticker


def run_scores(scored: Sequence[tuple[str, Path, Table]], class_names: tuple[str, ...]) -> dict[str, Any]:
    """The content of metrics.json.

    Args:
        scored: (title, folder of masks, images with masks to score with); the last entry is the final result.
        class_names: by class id, background first.

    Returns:
        `stages`: by title and split, the scores and the confusion matrix; `split`, `miou` and `iou`: those of the final
        result on the first held-out split, or on the training images if there is no other. None if nothing is scored.
    """
    stages: dict[str, dict[str, Any]] = {}
    with Ticker("scores", sum(len(images) for _, _, images in scored), unit="masks") as ticker:
        for title, folder, images in scored:
            for split in images.split_names:
                confusion = score_table(folder, images.split(split), ticker)
                scores = confusion.scores().as_dict(class_names)
                stages.setdefault(title, {})[split] = {**scores, "confusion": confusion.counts.tolist()}
    result: dict[str, Any] = {"split": None, "miou": None, "iou": {}, "stages": stages}
    final = stages.get(scored[-1][0], {}) if scored else {}
    held_out = [split for split in final if split != TRAIN] or list(final)
    if held_out:
        best = final[held_out[0]]
        result |= {"split": held_out[0], "miou": best["miou"], "iou": best["iou"]}
    return result


def score_table(folder: Path, table: Table, ticker: Ticker | None = None) -> Confusion:
    """Scores FOLDER/ID.png with the masks of a table. Where a mask is larger than its image, the prediction is resized
    to it (nearest), as in the VOC protocol."""
    pairs = [(folder / f"{image_id}.png", mask) for image_id, mask in zip(table.ids, table.masks, strict=True) if mask]
    return score_pairs(pairs, table.num_classes, ticker, table.mask_ids)
