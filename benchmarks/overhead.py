"""What the affinity module and loading the data cost, as ratios measured in one run.

    python benchmarks/overhead.py [--backbone tf_efficientnet_lite0] [--stride 16] [--crop 257] [--batch 16]
        [--repetitions 7] [--module-only]

* a CIAN training step (groups of 2, all four loss terms) / the same backbone and head without the module;
* throughput of the training loop from files / the same loop on tensors already in memory.

The two of each pair alternate, so that another load on the machine slows both. Printed are the median, the smallest and
the largest ratio.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import torch
from accelerate.utils import set_seed
from figures import figure
from torch.utils.data import DataLoader

from cian.backbone.dense import Backbone
from cian.build import build_network
from cian.config import Config, RuntimeConfig, load_config
from cian.data.dataset import TrainingSet
from cian.data.sampler import GroupSampler
from cian.data.table import TRAIN
from cian.demo import data_config
from cian.demo.animals import generate
from cian.losses import cian_loss
from cian.reading.read import read_dataset
from cian.training.device import loader_workers, make_accelerator
from cian.training.trainer import make_optimizer


def make_step(config: Config, classes: int):
    set_seed(0)
    accelerator = make_accelerator(config.runtime)
    network = build_network(config, classes, weights="random").train().to(accelerator.device)
    optimizer = make_optimizer(network, config.train.optimizer)
    grid = network.backbone.grid
    group_size = 2 if config.affinity.mode == "cross" else 1

    def step(pixels: torch.Tensor, labels: torch.Tensor) -> None:
        pixels, labels = (part.to(accelerator.device, non_blocking=True) for part in (pixels, labels))
        self_logits, cross_logits = network(grid.normalise(pixels), group_size)
        cian_loss(self_logits, cross_logits, grid.cells(labels))["total"].backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def labelled(batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    return batch["image"], batch["labels"]


def seconds(work, *arguments) -> float:
    start = time.perf_counter()
    work(*arguments)
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def module_overhead(config: Config, crop: int, batch: int, repetitions: int, shape: str) -> None:
    with_module = make_step(config, 21)
    without = make_step(config.model_copy(update={"affinity": config.affinity.model_copy(update={"mode": "none"})}), 21)
    pixels, labels = random_batch(batch, crop)
    for step in (with_module, without):
        step(pixels, labels)
    pairs = [(seconds(with_module, pixels, labels), seconds(without, pixels, labels)) for _ in range(repetitions)]
    speed = batch / statistics.median(pair[0] for pair in pairs)
    ratios = [a / b for a, b in pairs]
    figure(f"CIAN step / the same network without the module: {shape}", ratios, most=1.2, note=f"{speed:.1f} images/s")


def loading_overhead(config: Config, crop: int, batch_size: int, repetitions: int, images: int = 96) -> None:
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder) / "data", train=images, val=8)
        table, _ = read_dataset(data_config(Path(folder) / "data"), 0)
        assert table is not None
        table = table.split(TRAIN)
        step = make_step(config, table.num_classes)
        augment = config.train.augment.model_copy(update={"crop": crop})
        labels = [mask for mask in table.masks if mask is not None]
        data = TrainingSet(table, augment, 0, (127, 127, 127), labels)
        sampler = GroupSampler(table.tag_ids, table.tag_offsets, batch_size, 2)
        workers = loader_workers(RuntimeConfig())
        plan = list(sampler.batches(4))

        def loader() -> DataLoader:
            return DataLoader(data, batch_sampler=plan, num_workers=workers, prefetch_factor=3)

        kept = list(loader())

        def from_files() -> float:
            batches = iter(loader())
            step(*labelled(next(batches)))  # a training starts its workers once,
            return seconds(run, islice(batches, len(plan) - 1))  # and stops them once, when all are taken

        def from_memory() -> float:
            step(*labelled(kept[0]))
            return seconds(run, kept[1:])

        def run(batches: Iterable[dict[str, torch.Tensor]]) -> None:
            for batch in batches:
                step(*labelled(batch))

        from_memory()
        pairs = [(from_memory(), from_files()) for _ in range(repetitions)]
    ratios = [a / b for a, b in pairs]
    figure("throughput of training from files / from memory", ratios, least=0.95, note=f"{len(plan) - 1} steps")


def random_batch(batch: int, crop: int) -> tuple[torch.Tensor, torch.Tensor]:
    pixels = torch.randint(0, 256, (batch, 3, crop, crop), dtype=torch.uint8)
    return pixels, torch.randint(0, 21, (batch, crop, crop), dtype=torch.uint8)


def parser_of(description: str | None, repetitions: int) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="tf_efficientnet_lite0")
    parser.add_argument("--stride", type=int, default=16)
    parser.add_argument("--crop", type=int, default=257)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--repetitions", type=int, default=repetitions)
    return parser


def arguments(parser: argparse.ArgumentParser) -> tuple[argparse.Namespace, Config, int]:
    """The command line, the network's settings, and the crop's side on the backbone's grid."""
    options = parser.parse_args()
    backbone = Backbone(options.backbone, options.stride, frozen_stages=None)  # random weights freeze none by default
    config = load_config(
        None,
        {
            "backbone.name": options.backbone,
            "backbone.output_stride": options.stride,
            "backbone.weights": "random",
            "backbone.frozen_stages": backbone.frozen_stages,
        },
    )
    make_accelerator(config.runtime)
    crop, _ = backbone.grid.size(options.crop, options.crop)
    return options, config, crop


def main() -> None:
    parser = parser_of(__doc__, repetitions=7)
    parser.add_argument("--module-only", action="store_true", help="leave the loading out")
    options, config, crop = arguments(parser)
    shape = f"{options.backbone}, stride {options.stride}, {crop} px, batch {options.batch}"
    print(f"{shape}, {torch.get_num_threads()} threads")
    module_overhead(config, crop, options.batch, options.repetitions, shape)
    if not options.module_only:
        loading_overhead(config, crop, options.batch, options.repetitions)


if __name__ == "__main__":
    main()
