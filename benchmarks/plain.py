"""A training step of ours / a plain PyTorch transcription of the method, eager, float32, as one would write it first.

    python benchmarks/plain.py [--backbone resnet50] [--hidden 1024] [--batch 4] [--crop 321] [--repetitions 3]
        [--precision bf16]

Both: the backbone at output stride 8 with frozen batch norm, affinity with d = 1024, pooled keys and values, groups of
two, the four loss terms, SGD. The two alternate, so that another load on the machine slows both.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cian.config import load_config
from cian.losses import cian_loss
from cian.network import build_network
from cian.training import make_accelerator, make_optimizer

CLASSES = 21


class Plain(nn.Module):
    """The method of arXiv 1811.10842 for groups of two."""

    def __init__(self, backbone: str, hidden: int) -> None:
        super().__init__()
        self.backbone = timm.create_model(backbone, output_stride=8, num_classes=0, global_pool="")
        channels: Any = self.backbone.num_features
        self.query, self.key, self.value = (nn.Conv2d(channels, hidden, 1, bias=False) for _ in range(3))
        self.project = nn.Conv2d(hidden, channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.head = nn.Conv2d(channels, CLASSES, 3, padding=12, dilation=12, bias=False)

    def train(self, mode: bool = True) -> Plain:
        super().train(mode)
        self.backbone.eval()  # batch norm keeps its statistics
        return self

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        x = self.backbone(images)  # (N, C, h, w)
        n, _, h, w = x.shape
        query = self.query(x).flatten(2)  # (N, d, hw)
        key = F.max_pool2d(self.key(x), 3, 2, 1).flatten(2)  # (N, d, h'w')
        value = F.max_pool2d(self.value(x), 3, 2, 1).flatten(2)
        other = torch.arange(n).roll(n // 2)
        message = self.message(query, key, value)
        cross = torch.maximum(message, self.message(query, key[other], value[other]))
        logits = [
            self.head(x + self.norm(self.project(m.view(n, -1, h, w)))) for m in (message, cross)
        ]  # (N, K, h, w) each
        return logits[0], logits[1]

    @staticmethod
    def message(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return value @ (key.transpose(1, 2) @ query).softmax(1)  # (N, d, hw)


def plain_loss(self_logits: Tensor, cross_logits: Tensor, seeds: Tensor) -> Tensor:
    target = cross_logits.argmax(1)
    for i in range(len(target)):
        target[i][~torch.isin(target[i], seeds[i])] = 255
    pairs = [(logits, labels) for labels in (seeds, target) for logits in (self_logits, cross_logits)]
    return sum(F.cross_entropy(logits, labels, ignore_index=255) for logits, labels in pairs)  # type: ignore[return-value]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--hidden", type=int, default=1024)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--crop", type=int, default=321)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="bf16")
    options = parser.parse_args()
    torch.manual_seed(0)
    images = torch.randn(options.batch, 3, options.crop, options.crop)
    cells = -(-options.crop // 8)
    seeds = torch.randint(0, CLASSES, (options.batch, cells, cells))

    plain = Plain(options.backbone, options.hidden).train()
    plain_optimizer = torch.optim.SGD(plain.parameters(), 5e-4, momentum=0.9, weight_decay=5e-4)

    def plain_step() -> None:
        self_logits, cross_logits = plain(images)
        plain_loss(self_logits, cross_logits, seeds).backward()
        plain_optimizer.step()
        plain_optimizer.zero_grad()

    plain_step()  # before our allocator settings
    start = time.perf_counter()
    plain_step()
    untouched = time.perf_counter() - start

    settings = {"backbone.name": options.backbone, "backbone.output_stride": 8, "backbone.weights": "random"}
    settings |= {
        "backbone.frozen_stages": 0,
        "affinity.hidden": options.hidden,
        "train.optimizer.name": "sgd",
        "train.optimizer.lr": 5e-4,
    }
    config = load_config(None, {**settings, "runtime.precision": options.precision, "runtime.device": "cpu"})
    make_accelerator(config.runtime)
    network = build_network(config, CLASSES).to(memory_format=torch.channels_last).train()
    groups = network.parameter_groups(config.train.optimizer.lr, config.train.optimizer.new_lr_factor)
    optimizer = make_optimizer(groups, config.train.optimizer)
    ours_images = images.contiguous(memory_format=torch.channels_last)

    def our_step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=options.precision == "bf16"):
            self_logits, cross_logits = network(ours_images, 2)
        cian_loss(self_logits, cross_logits, seeds)["total"].backward()
        optimizer.step()
        optimizer.zero_grad()

    our_step()
    times = []
    for _ in range(options.repetitions):
        pair = []
        for step in (plain_step, our_step):
            start = time.perf_counter()
            step()
            pair.append(time.perf_counter() - start)
        times.append(pair)
    ratios = [a / b for a, b in times]
    theirs, ours = (statistics.median(column) for column in zip(*times, strict=True))
    print(
        f"{options.backbone}, stride 8, {options.crop} px, batch {options.batch}, {torch.get_num_threads()} threads: "
        f"plain fp32 {theirs:.2f} s ({untouched:.2f} s with the allocator's own settings), "
        f"ours {options.precision} {ours:.2f} s; ours is faster "
        f"{statistics.median(ratios):.2f} times [{min(ratios):.2f}, {max(ratios):.2f}]"
    )


if __name__ == "__main__":
    main()
