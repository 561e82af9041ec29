"""Scores of what a run predicted: metrics.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cian.data.table import TRAIN, Table
from cian.evaluation.folders import score_pairs
from cian.evaluation.metrics import Confusion
from cian.files import write_json
from cian.pipeline.context import Context
from cian.pipeline.stages import predict, relabel, seed
from cian.pipeline.stages.train import BASELINE, TRAINED

SEEDS, RELABEL = "seeds", "relabelled masks"
WITHOUT_AFFINITY, AFFINITY, RETRAINED, FINAL = "without affinity", "CIAN", "CIAN, retrained", "final, with CRF"
WITHOUT_AFFINITY_CRF, AFFINITY_CRF = "without affinity, with CRF", "CIAN, with CRF"


def run(context: Context) -> None:
    """metrics.json: what of this run can be scored, by split."""
    if not context.accelerator.is_main_process:
        return
    config, table = context.config, context.table
    compared = context.scored_table
    trained = context.train_table.with_masks()
    retrained = config.retrain.enabled
    plan: list[tuple[str, str, Table]] = []
    if config.seeded:
        plan.append((SEEDS, seed.FOLDER, trained))
        plan.append((SEEDS, seed.HELD_OUT, context.held_out_seed_table))
    crf = config.predict.crf.iterations > 0
    if config.compare:
        plan.append((WITHOUT_AFFINITY, predict.COMPARED[BASELINE], compared))
        if crf:
            plan.append((WITHOUT_AFFINITY_CRF, predict.COMPARED_CRF[BASELINE], compared))
    if retrained:
        plan.append((AFFINITY, predict.COMPARED[TRAINED], compared))
        if crf:
            plan.append((AFFINITY_CRF, predict.COMPARED_CRF[TRAINED], compared))
        plan.append((RELABEL, relabel.FOLDER, trained))
    plan.append((RETRAINED if retrained else AFFINITY, predict.WITHOUT_CRF, compared))
    if crf:
        plan.append((FINAL, predict.FOLDER, compared))
    stages: dict[str, dict[str, Any]] = {}
    for name, folder, images in plan:
        for split in images.split_names:
            confusion = score(context.run.folder(folder), images.split(split), f"scoring {name} ({split})")
            scores = confusion.scores().as_dict(table.class_names)
            stages.setdefault(name, {})[split] = {**scores, "confusion": confusion.counts.tolist()}
    result: dict[str, Any] = {"split": None, "miou": None, "iou": {}, "stages": stages}
    final = stages.get(plan[-1][0], {})
    held_out = [split for split in final if split != TRAIN] or list(final)
    if held_out:
        best = final[held_out[0]]
        result |= {"split": held_out[0], "miou": best["miou"], "iou": best["iou"]}
    write_json(context.run.metrics_file, result)


def score(folder: Path, table: Table, label: str) -> Confusion:
    """Scores FOLDER/ID.png against the masks of a table; where a mask is larger than its image, the prediction is
    brought to its size first (nearest), as the VOC protocol has it."""
    pairs = [(folder / f"{image_id}.png", mask) for image_id, mask in zip(table.ids, table.masks, strict=True) if mask]
    return score_pairs(pairs, table.num_classes, label, table.mask_ids)
