"""Speed on a GPU: training steps, dense CRF, `cian predict`.

    python benchmarks/gpu.py [--repetitions 15] [--count 64]

* training steps of CIAN, of the same network without the module, and of a plain transcription of the method in eager
  float32 (see plain.py), in turn: times, their ratios, and the peak memory of the first (the others are loaded);
* dense CRF of a 375 × 500 image by the version for GPUs and by the one for CPUs;
* `cian predict`, 3 scales, mirror, CRF, on 375 × 500 images.

Weights are random. In fp32 both ours and the transcription multiply in TensorFloat-32, as `cian` does on a GPU.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import torch
from figures import figure
from overhead import seconds
from PIL import Image
from plain import STRIDE, OurTraining, PlainTraining
from predict import SCALES, random_model, write_images

from cian.backbone.dense import Backbone
from cian.crf.dense import dense_crf
from cian.crf.gpu import dense_crf as dense_crf_on_gpu
from cian.inference.folder import predict_folder

SHAPES = (  # backbone, output stride, crop, hidden
    ("tf_efficientnet_lite0", 16, 257, 160),
    ("resnet50", 8, 321, 1024),
    ("resnet101", 8, 321, 1024),
)
WARM = 5  # steps: kernels are chosen and loaded


def training(repetitions: int) -> None:
    for backbone, stride, crop, hidden in SHAPES:
        side, _ = Backbone(backbone, stride).grid.size(crop, crop)
        for precision in ("fp32", "bf16"):
            options = argparse.Namespace(
                backbone=backbone, stride=stride, crop=side, batch=16, hidden=hidden, precision=precision
            )
            name = f"{backbone}, stride {stride}, {side} px, batch 16, {precision}"
            ours, without = OurTraining(options, "cuda"), OurTraining(options, "cuda", "none")
            steps = [ours.step, without.step]
            if stride == STRIDE and precision == "fp32":
                steps.append(PlainTraining(options, "cuda").step)
            torch.cuda.reset_peak_memory_stats()
            for _ in range(WARM):
                seconds(ours.step)
            memory = torch.cuda.max_memory_allocated() / 2**30
            for step in steps[1:]:
                for _ in range(WARM):
                    seconds(step)
            rounds = [[seconds(step) for step in steps] for _ in range(repetitions)]
            medians = [statistics.median(column) for column in zip(*rounds, strict=True)]
            speed = f"{16 / medians[0]:.0f} images/s, {1000 * medians[0]:.0f} ms, at most {memory:.1f} GB"
            figure(f"CIAN step / without the module: {name}", [row[0] / row[1] for row in rounds], note=speed)
            if len(steps) > 2:
                plain = f"{1000 * medians[2]:.0f} ms"
                figure(f"plain transcription / CIAN step: {name}", [r[2] / r[0] for r in rounds], "×", note=plain)


def crf(repetitions: int) -> None:
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
    image = np.asarray(small.resize((500, 375), Image.Resampling.BICUBIC))
    for classes in (3, 21):
        unary = rng.normal(size=(classes, 375, 500)).astype(np.float32)
        energies = torch.from_numpy(unary).cuda()
        on_gpu, on_cpu = partial(dense_crf_on_gpu, image, energies), partial(dense_crf, image, unary)
        same = on_gpu().cpu().numpy().argmax(0) == on_cpu().argmax(0)
        pairs = [(seconds(on_cpu), seconds(on_gpu)) for _ in range(repetitions)]
        mine = statistics.median(pair[1] for pair in pairs)
        figure(
            f"dense CRF, 375 × 500, {classes} classes: on the CPU's cores / on the GPU",
            [a / b for a, b in pairs],
            "×",
            note=f"{1000 * mine:.0f} ms; pixels of the same class {100 * same.mean():.3f} %",
        )


def predict(count: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        random_model(folder / "model")
        write_images(folder, count)
        settings = {"predict.scales": SCALES}
        times = [
            seconds(partial(predict_folder, folder / "model", folder / "images", folder / out, settings=settings))
            for out in ("first", "second")
        ]
        figure("`cian predict`, 3 scales, mirror, CRF, 21 live classes", [count / times[1]], "images/s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=15)
    parser.add_argument("--count", type=int, default=64)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("gpu.py: PyTorch sees no GPU here.")
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}")
    predict(options.count)
    crf(5)
    training(options.repetitions)


if __name__ == "__main__":
    main()
