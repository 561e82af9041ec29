"""What errors in the seeds cost: networks trained on the seeds of a run after its true masks have corrected them.

    python benchmarks/corrected.py RUN [--only [background missed classes all]] [--out runs/corrected]

RUN is a run directory with finished seeds and a mask for each training image, e.g. runs/voc/seed-1/completion. Each
correction is a new run with RUN's settings and classifier. An interrupted call resumes.

    background  object labels that lie on background become background
    missed      background labels that lie on an object become that object
    classes     object labels that lie on another object become that object
    all         all three: perfect seeds that label the same pixels

Prints which labels of the seeds are wrong (`--only` without a name: nothing more), then mIoU on the held-out images,
beside that of RUN if it is finished. Labels where the true mask is 255 are kept and do not count.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from cian.config import load_config
from cian.data.masks import read_mask, resize_mask, write_mask
from cian.data.table import IGNORE, TRAIN
from cian.evaluation.run_scores import score_table
from cian.files import read_json
from cian.pipeline.ablation import reusable
from cian.pipeline.run import check_data, finished, run_config
from cian.runs.directory import Run
from cian.runs.outputs import Results, remember
from cian.training.device import make_accelerator

CORRECTIONS = ("background", "missed", "classes", "all")


def corrected(seeds: np.ndarray, truth: np.ndarray, correction: str) -> np.ndarray:
    """Seeds without one kind of error. All are (H, W) uint8; 255 = unlabelled or ignored."""
    known = (seeds != IGNORE) & (truth != IGNORE)
    where = {
        "background": (seeds > 0) & (truth == 0),
        "missed": (seeds == 0) & (truth > 0),
        "classes": (seeds > 0) & (truth > 0),
        "all": np.ones_like(known),
    }[correction]
    return np.where(known & where, truth, seeds)


def wrong(counts: np.ndarray) -> str:
    """Which labels are wrong, as shares of all; `counts` are those of `Confusion`, (K, K + 1)."""
    labels = counts[:, :-1]  # truth, seeds
    objects, on_background = labels[:, 1:].sum(), labels[0, 1:].sum()
    right = labels.trace() - labels[0, 0]
    return (
        f"of the object labels {share(on_background, objects)} lie on background; of the others "
        f"{share(right, objects - on_background)} name the right class; of the background labels "
        f"{share(labels[1:, 0].sum(), labels[:, 0].sum())} lie on objects"
    )


def share(part: int, of: int) -> str:
    return f"{100 * part / of:.1f} %" if of else "–"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--only", nargs="*", choices=CORRECTIONS, default=CORRECTIONS)
    parser.add_argument("--out", type=Path, default=Path("runs/corrected"))
    options = parser.parse_args()
    source = Run(options.run)
    records = source.records()
    config = load_config(source.config_file, {"compare": False, "retrain.enabled": False})
    if not ("seed" in records and records["seed"].done and config.seeds.folder is None):
        raise SystemExit(f"{source.path}: its seeds are not finished. Run `cian seed` first.")
    table = check_data(config, make_accelerator(config.runtime))
    train = table.split(TRAIN)
    if len(train.with_masks()) < len(train):
        raise SystemExit(f"{source.path}: some training images have no mask. Give a run with a mask for each.")
    print(wrong(score_table(source.folder("seeds"), train).counts))
    made = ("classify", "seed", "seed-held-out")
    shared = {name: outputs for name, outputs in reusable(config, table, source).items() if name in made}
    is_scored = finished(load_config(source.config_file), source, table, until="evaluate")
    rows = [show("as they are", source)] if is_scored else []
    for correction in options.only:
        target = Run(options.out / correction)
        target.take_over(source, shared)
        for image_id, mask in zip(train.ids, train.masks, strict=True):
            assert mask is not None
            seeds = read_mask(source.mask("seeds", image_id))
            truth = resize_mask(read_mask(mask), seeds.shape)
            write_mask(target.mask("seeds", image_id), corrected(seeds, truth, correction))
        record = target.records()["seed"]
        remember(target, Results([], {"seeds": train.ids}), record)  # else they would be made again
        target.record("seed", record)
        rows.append(show(correction, run_config(config, target, until="evaluate", table=table)))
    if rows:
        head = "\n| seeds | mIoU of the seeds | of what is labelled | split | mIoU | with CRF |"
        print("\n".join([head, "|---" * 6 + "|", *rows]))


def show(name: str, run: Run) -> str:
    """A row of the table: the scores of the seeds, and of the network on the first held-out split."""
    metrics = read_json(run.metrics_file)
    stages, split = metrics["stages"], metrics["split"]
    seeds = stages["seeds"][TRAIN]
    with_crf = f"{stages['final, with CRF'][split]['miou']:.2f}" if "final, with CRF" in stages else "–"
    return (
        f"| {name} | {seeds['miou']:.2f} | {seeds['miou_labelled']:.2f} | {split} | "
        f"{stages['without affinity' if 'CIAN' not in stages else 'CIAN'][split]['miou']:.2f} | {with_crf} |"
    )


if __name__ == "__main__":
    main()
