"""A training step of ours / one of a plain transcription of the method: eager PyTorch, float32, as a first version.

    python benchmarks/plain.py [--backbone resnet50] [--hidden 1024] [--batch 4] [--crop 321] [--repetitions 5]
        [--precision bf16]

Both have a backbone at output stride 8 with frozen batch norm, affinity with d = 1024, pooled keys and values, groups
of two, the four loss terms, and SGD. The transcription runs in a separate process with the default C allocator, and
again with our allocator settings. All three take turns, so that another load on the machine slows all of them.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
from typing import Any

import timm
import torch
import torch.nn.functional as F
from figures import figure
from overhead import seconds
from torch import Tensor, nn

from cian.build import build_network
from cian.config import load_config
from cian.losses import cian_loss
from cian.training.device import make_accelerator
from cian.training.trainer import make_optimizer

CLASSES, STRIDE = 21, 8
LEAST = {"resnet50": 2.5, "tf_efficientnet_lite0": 2.0}  # how many times faster


class Plain(nn.Module):
    """The method of arXiv 1811.10842 for groups of two."""

    def __init__(self, backbone: str, hidden: int) -> None:
        super().__init__()
        self.backbone = timm.create_model(backbone, output_stride=STRIDE, num_classes=0, global_pool="")
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


class PlainTraining:
    """Steps of the transcription on the images of `example`."""

    def __init__(self, options: argparse.Namespace, device: str = "cpu") -> None:
        self.images, self.seeds = (part.to(device) for part in example(options))
        self.model = Plain(options.backbone, options.hidden).train().to(device)
        self.optimizer = torch.optim.SGD(self.model.parameters(), 5e-4, momentum=0.9, weight_decay=5e-4)

    def step(self) -> None:
        self_logits, cross_logits = self.model(self.images)
        plain_loss(self_logits, cross_logits, self.seeds).backward()
        self.optimizer.step()
        self.optimizer.zero_grad()


class OurTraining:
    """Steps of ours on the same images. From now on this process keeps freed memory.

    Args:
        mode: of the affinity; "none" is the same network without it.
    """

    def __init__(self, options: argparse.Namespace, device: str = "cpu", mode: str = "cross") -> None:
        settings: dict[str, Any] = {
            "backbone.name": options.backbone,
            "backbone.output_stride": options.stride,
            "backbone.weights": "random",
            "backbone.frozen_stages": 0,
            "affinity.mode": mode,
            "affinity.hidden": options.hidden,
            "train.optimizer.name": "sgd",
            "train.optimizer.lr": 5e-4,
            "runtime.precision": options.precision,
            "runtime.device": device,
        }
        config = load_config(None, settings)
        self.accelerator = make_accelerator(config.runtime)
        self.group_size = 1 if mode == "none" else 2
        self.network = build_network(config, CLASSES).train().to(device)
        self.optimizer = make_optimizer(self.network, config.train.optimizer)
        images, self.seeds = (part.to(device) for part in example(options))
        self.images = images.contiguous(memory_format=torch.channels_last)

    def step(self) -> None:
        with self.accelerator.autocast():
            self_logits, cross_logits = self.network(self.images, self.group_size)
        cross_logits = None if cross_logits is None else cross_logits.float()
        cian_loss(self_logits.float(), cross_logits, self.seeds)["total"].backward()
        self.optimizer.step()
        self.optimizer.zero_grad()


def example(options: argparse.Namespace) -> tuple[Tensor, Tensor]:
    """Images (N, 3, H, W) and seeds (N, h, w)."""
    torch.manual_seed(0)
    cells = -(-options.crop // options.stride)
    images = torch.randn(options.batch, 3, options.crop, options.crop)
    return images, torch.randint(0, CLASSES, (options.batch, cells, cells))


def plain_process(options: argparse.Namespace, connection: Any) -> None:
    """For each message: takes a step of the transcription and answers with its seconds."""
    training = PlainTraining(options)
    while connection.recv():
        connection.send(seconds(training.step))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--hidden", type=int, default=1024)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--crop", type=int, default=321)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="bf16")
    options = parser.parse_args()
    options.stride = STRIDE
    context = multiprocessing.get_context("spawn")
    ours_end, theirs_end = context.Pipe()
    process = context.Process(target=plain_process, args=(options, theirs_end), daemon=True)
    process.start()

    def untouched() -> float:
        ours_end.send(True)
        return float(ours_end.recv())

    ours, plain = OurTraining(options), PlainTraining(options)
    rounds = [(untouched(), seconds(plain.step), seconds(ours.step)) for _ in range(1 + options.repetitions)][1:]
    first, second, mine = (statistics.median(column) for column in zip(*rounds, strict=True))
    name = f"{options.backbone}, stride 8, {options.crop} px, batch {options.batch}"
    step = f"our step in {options.precision}"
    figure(
        f"{name}: a plain transcription in eager float32 / {step}",
        [a / c for a, _, c in rounds],
        "×",
        least=LEAST.get(options.backbone),
        note=f"{first:.2f} / {mine:.2f} s",
    )
    figure(
        f"{name}: the same, the transcription with our allocator settings",
        [b / c for _, b, c in rounds],
        "×",
        note=f"{second:.2f} / {mine:.2f} s",
    )
    ours_end.send(False)


if __name__ == "__main__":
    main()
