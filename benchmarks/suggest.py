"""Whether the images that `cian suggest` names teach the seeds more than others do: PASCAL VOC 2012.

    python benchmarks/suggest.py --data VOC [--train train-small] [--score tune] [--images 10 20 50] [--draws 5]
        [--out DIR] [--set KEY=VALUE …]

VOC is the folder that voc.py describes. The chosen images get their true masks as label maps. Scored are the seeds of
the images of --score, which get none: mIoU over the pixels that the seeds label, at one scale, without CRF. Nothing is
trained but the classifier, once.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev

import numpy as np
from torch import Tensor

import cian
from cian.config import changed, load_config, parse_assignment
from cian.data.images import read_image
from cian.data.masks import read_mask, resize_mask
from cian.data.summary import often_together
from cian.data.table import Table
from cian.evaluation.metrics import Confusion
from cian.pipeline.context import Context
from cian.pipeline.run import check_data
from cian.seeds.cam import class_activation_maps
from cian.seeds.estimate_cells import learn_cells
from cian.seeds.seed_map import seed_map
from cian.terminal import Ticker
from cian.training.device import make_accelerator


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--train", default="train-small")
    parser.add_argument("--score", default="tune")
    parser.add_argument("--images", nargs="+", type=int, default=[10, 20, 50])
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("runs/suggest"))
    parser.add_argument("--set", dest="settings", action="append", default=[])
    options = parser.parse_args()
    voc: Path = options.data
    run = cian.run(
        voc / "JPEGImages",
        voc / "tags.csv",
        options.out,
        until="statistics",
        **{
            "data.masks": str(voc / "SegmentationClass"),
            "data.classes": str(voc / "classes.txt"),
            "data.splits.train": str(voc / f"ImageSets/{options.train}.txt"),
            f"data.splits.{options.score}": str(voc / f"ImageSets/{options.score}.txt"),
            **dict(parse_assignment(text) for text in options.settings),
        },
    )
    settings = load_config(run.config_file)
    accelerator = make_accelerator(settings.runtime)
    table = check_data(settings, accelerator)
    context = Context(settings, table, run)
    score = Seeds(context, table.split(options.score))
    places = {image_id: i for i, image_id in enumerate(context.train_table.ids)}
    suggested = [places[each.id] for each in cian.suggest(run, max(options.images))]
    drawn = [np.random.default_rng(i).permutation(len(places)).tolist() for i in range(options.draws)]
    lines = ["| order | " + " | ".join(f"{n} images" for n in options.images) + " |"]
    lines.append("|---|" + "---|" * len(options.images))
    for name, orders in (("random", drawn), ("suggested", [suggested])):
        cells = [_spread([score(order[:n]) for order in orders]) for n in options.images]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    print(f"\n{options.train} → {options.score}, mIoU of seeds; without label maps {score([]):.2f}\n")
    print("\n".join(lines))


class Seeds:
    """The mIoU of seeds that are made after label maps of some training images are known.

    Args:
        table: the images whose seeds are scored.
    """

    def __init__(self, context: Context, table: Table):
        self.context, self.table = context, table
        self.config = changed(context.config, {"seeds.scales": [1.0], "seeds.mirror": False, "seeds.crf.iterations": 0})
        self.model = context.load_classifier(estimated=True)
        backbone = self.model.backbone
        backbone.forward_detail = _remembering(backbone.forward_detail)  # type: ignore[method-assign, assignment]

    def __call__(self, rows: Sequence[int]) -> float:
        """
        Args:
            rows: the training images that have a label map, their true mask.
        """
        context, config, training = self.context, self.config, self.context.train_table
        chosen = set(rows)
        labels = tuple(mask if i in chosen else None for i, mask in enumerate(training.masks))
        folder = context.run.folder("classify")
        learn_cells(
            self.model,
            replace(training, labels=labels),
            config.seed_side,
            folder / "contrast.safetensors",
            context.run.path / "cells.tmp",
            context.accelerator,
        )
        together = often_together(training) | np.eye(len(training.classes), dtype=bool)
        confusion = Confusion(training.num_classes)
        with Ticker(f"seeds with {len(rows)} label maps", len(self.table)) as ticker:
            for row in range(len(self.table)):
                mask, tags = self.table.masks[row], self.table.tags(row)
                if mask is not None:
                    image = read_image(self.table.images[row], config.seed_side)
                    maps = class_activation_maps(self.model, image, tags, config.seeds)
                    seeds = seed_map(image, *maps, tags, together[np.ix_(tags - 1, tags - 1)], config.seeds)
                    confusion.add(seeds, resize_mask(read_mask(mask, self.table.mask_ids), seeds.shape))
                ticker.advance()
        return confusion.scores().miou_labelled


def _remembering(compute: Callable[[Tensor], tuple[Tensor, Tensor]]) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """The same function, which computes once for each batch. Features do not depend on label maps."""
    known: dict[int, tuple[Tensor, Tensor]] = {}

    def remembered(batch: Tensor) -> tuple[Tensor, Tensor]:
        key = hash(batch.cpu().numpy().tobytes())
        if key not in known:
            known[key] = compute(batch)
        return known[key]

    return remembered


def _spread(values: Sequence[float]) -> str:
    return f"{mean(values):.2f}" + (f" ± {stdev(values):.2f}" if len(values) > 1 else "")


if __name__ == "__main__":
    main()
