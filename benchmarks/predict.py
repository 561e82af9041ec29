"""How much longer `cian predict` takes than its network alone, and how much memory a large photograph needs.

    python benchmarks/predict.py [--model runs/NAME/model] [--images DIR] [--count 72] [--repetitions 3]
    python benchmarks/predict.py --model runs/NAME/model --images DIR --masks DIR

* The ratio of two times, measured in turn on the same images and cores: all of `cian predict` (reading, 3 scales,
  mirror, upsampling, dense CRF, writing) / the network's forward passes alone. Without --model the network has 21
  classes and random weights, so that every class is alive for the CRF: the worst case. Without --images the demo's
  images are used, at 375 × 500 pixels.
* Peak memory of a process that predicts one photograph of 24 megapixels.

With --masks, `cian predict` is compared with `--fast` instead, in time and mIoU, and both with `model.onnx` and
`model-int8.onnx`, if `cian export` has written them beside the model.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import statistics
import tempfile
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from figures import figure
from overhead import seconds
from PIL import Image

from cian.build import build_network
from cian.config import Config
from cian.data.images import find_images, read_image
from cian.data.table import Table
from cian.demo.animals import generate
from cian.evaluation.folders import score_pairs
from cian.export.model import INT8, ONNX
from cian.inference.folder import FAST, predict_folder
from cian.inference.segmenter import Segmenter, load
from cian.runs.each_image import for_each_image
from cian.training.device import make_accelerator

CLASSES = 21
SCALES = (0.75, 1.0, 1.25)


def random_model(folder: Path) -> None:
    network = build_network(Config(), CLASSES, weights="random")
    Segmenter(network, Config(), [f"class {i}" for i in range(CLASSES)]).save(folder)


def write_images(folder: Path, count: int, source: Path | None = None, masks: Path | None = None) -> None:
    """Fills FOLDER/images with images of `source`, evenly spread, or with the demo's at 375 × 500 pixels.

    Args:
        masks: only images that have a mask there.
    """
    if source is None:
        generate(folder / "data", train=count, val=1)
    files = find_images(source or folder / "data" / "images")
    if masks is not None:
        files = [file for file in files if (masks / f"{file.stem}.png").is_file()]
    (folder / "images").mkdir()
    for file in files[:: max(1, len(files) // count)][:count]:
        image = Image.fromarray(read_image(file))
        if source is None:
            image = image.resize((500, 375))
        image.save(folder / "images" / f"{file.stem}.png")


def forward_alone(segmenter: Segmenter, files: list[Path]) -> None:
    """The network at every scale, also on the mirrored image, for all images; each core takes its own image."""
    accelerator = make_accelerator(Config().runtime)
    network = segmenter.network
    table = Table.build(("x",), [str(i) for i in range(len(files))], files, [None] * len(files), ["all"] * len(files))
    nowhere = [Path("nowhere")] * len(files)

    @torch.no_grad()
    def compute(_: int, image: np.ndarray) -> None:
        grid = network.backbone.grid
        pixels = grid.as_input(image, accelerator.device)
        for scale in SCALES:
            batch = grid.scaled(pixels, scale)
            network(torch.cat([batch, batch.flip(3)]), group_size=1)

    for_each_image(accelerator, 512, table, nowhere, "forward alone", compute, lambda *_: None)


def other_ways(model: Path, images: Path, masks: Path, folder: Path, repetitions: int) -> None:
    """Each way of prediction against the default one, measured in turn."""
    onnx, int8 = model / ONNX, model / INT8
    ways: dict[str, tuple[Path, Mapping[str, Any]]] = {
        "cian predict": (model, {}),
        "--fast without model.onnx": (model, FAST),
    }
    if onnx.is_file():
        ways |= {"model.onnx": (onnx, {}), "--fast": (onnx, FAST)}
    if int8.is_file():
        ways["model-int8.onnx --fast"] = (int8, FAST)
    times: dict[str, list[float]] = {name: [] for name in ways}
    scores = {}
    classes = len(load(model).class_names)
    for repetition in range(repetitions):
        for name, (source, settings) in ways.items():
            out = folder / f"{name}-{repetition}"
            times[name].append(seconds(partial(predict_folder, source, images, out, settings=settings)))
            pairs = [(file, masks / file.name) for file in out.glob("*.png")]
            scores[name] = score_pairs(pairs, classes).scores().miou

    def compare(base: str, name: str, least: float) -> None:
        if name in ways:
            ratios = [a / b for a, b in zip(times[base], times[name], strict=True)]
            figure(f"{base} / {name}", ratios, least=least, note=f"mIoU {scores[base]:.1f} / {scores[name]:.1f}")

    compare("cian predict", "--fast without model.onnx", 3)
    compare("cian predict", "--fast", 5)
    compare("cian predict", "model.onnx", 1.3)
    compare("--fast", "model-int8.onnx --fast", 1)


def large_photograph(model: Path, folder: Path, answer) -> None:
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 256, (60, 90, 3), dtype=np.uint8))
    (folder / "large").mkdir()
    small.resize((6000, 4000), Image.Resampling.BICUBIC).save(folder / "large" / "photo.jpg", quality=95)
    start = time.perf_counter()
    predict_folder(model, folder / "large", folder / "large-masks")
    answer.put((time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--masks", type=Path)
    parser.add_argument("--count", type=int, default=72)
    parser.add_argument("--repetitions", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = options.model
        if model is None:
            model = folder / "model"
            random_model(model)
        write_images(folder, options.count, options.images, options.masks)
        if options.masks is not None:
            other_ways(model, folder / "images", options.masks, folder, options.repetitions)
            return
        files = find_images(folder / "images")
        segmenter = load(model)
        pairs = []
        for repetition in range(options.repetitions):
            out = folder / f"masks{repetition}"
            whole = seconds(partial(predict_folder, model, folder / "images", out, settings={"predict.scales": SCALES}))
            pairs.append((whole, seconds(forward_alone, segmenter, files)))
        ratios = [a / b for a, b in pairs]
        name = f"`cian predict`, {len(SCALES)} scales, mirror, CRF / the network's forward passes alone"
        each = f"{len(files)} images, {statistics.median(a for a, _ in pairs) / len(files):.2f} s each"
        figure(name, ratios, most=1.3, note=each)
        answer = multiprocessing.get_context("spawn").Queue()
        process = multiprocessing.get_context("spawn").Process(target=large_photograph, args=(model, folder, answer))
        process.start()
        took, memory = answer.get()
        process.join()
        figure("`cian predict` on a photograph of 24 megapixels: memory", [memory], "GB", most=4, note=f"{took:.1f} s")


if __name__ == "__main__":
    main()
