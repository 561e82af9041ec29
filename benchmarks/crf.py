"""Speed of `cian.crf.dense.dense_crf` against `pydensecrf2`, alternating in one run, with the agreement of the two.

    python benchmarks/crf.py [--image FILE] [--repetitions 7] [--threads N]

Prints the ratio of their times (median, smallest and largest of the repetitions) for 375 × 500 pixels, 21 classes and
10 iterations: once with all classes alive, once with 3, as when an image's tags exclude the others. A ratio is of two
neighbouring calls, so another load on the machine slows both. The ratio of processor time (all threads together)
says what one core gains, whether or not other programs use the second one.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import pydensecrf.densecrf as densecrf
from figures import figure
from PIL import Image

from cian.crf import dense as crf
from cian.crf import parts

HEIGHT, WIDTH, CLASSES, ITERATIONS = 375, 500, 21, 10
IMPOSSIBLE = 100.0
LEAST = {CLASSES: 4, 3: 10}  # how many times faster, by live classes


def reference(image: np.ndarray, unary: np.ndarray) -> np.ndarray:
    """`dense_crf` with its defaults, by pydensecrf2."""
    classes, height, width = unary.shape
    model = densecrf.DenseCRF2D(width, height, classes)
    model.setUnaryEnergy(unary.reshape(classes, -1))
    model.addPairwiseGaussian(sxy=3, compat=3)
    model.addPairwiseBilateral(sxy=80, srgb=13, rgbim=image, compat=10)
    return np.asarray(model.inference(ITERATIONS)).reshape(unary.shape)


def photo(file: Path | None, rng: np.random.Generator) -> np.ndarray:
    """The photo, or smooth coloured regions with noise, (HEIGHT, WIDTH, 3) uint8."""
    if file is not None:
        return np.array(Image.open(file).convert("RGB").resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))
    regions = Image.fromarray(rng.integers(0, 256, (8, 10, 3), dtype=np.uint8))
    smooth = np.asarray(regions.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))
    return np.clip(smooth + rng.normal(0, 6, smooth.shape), 0, 255).astype(np.uint8)


def energies(rng: np.random.Generator, live: int) -> np.ndarray:
    """Logits as a network at output stride 16 gives them, up-sampled and negated; impossible from class `live` on."""
    unary = np.full((CLASSES, HEIGHT, WIDTH), IMPOSSIBLE, np.float32)
    for k in range(live):
        logits = Image.fromarray(rng.normal(0, 6, (HEIGHT // 16, WIDTH // 16)).astype(np.float32))
        unary[k] = -np.asarray(logits.resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR))
    return unary


def seconds(function, *args) -> tuple[float, float, np.ndarray]:
    """Elapsed time, processor time of all threads, and the result."""
    wall, processor = time.perf_counter(), time.process_time()
    result = function(*args)
    return time.perf_counter() - wall, time.process_time() - processor, result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", type=Path, help="a photo; default: a synthetic one")
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--threads", type=int, help="default: as in production")
    args = parser.parse_args()
    if args.threads:
        parts.threads = lambda: args.threads
    rng = np.random.default_rng(0)
    image = photo(args.image, rng)
    first, _, _ = seconds(crf.dense_crf, image, energies(rng, CLASSES))
    print(f"first call {first:.2f} s (compiles, or loads what an earlier run compiled); {parts.threads()} thread(s)")
    for live in LEAST:
        unary = energies(rng, live)
        times = []
        for _ in range(args.repetitions):
            ours, ours_cpu, q = seconds(crf.dense_crf, image, unary)
            theirs, theirs_cpu, expected = seconds(reference, image, unary)
            times.append((ours, theirs, theirs / ours, theirs_cpu / ours_cpu))
        mine, others, ratios, processor = zip(*times, strict=True)
        name = f"dense CRF, {HEIGHT} × {WIDTH}, {ITERATIONS} iterations, {live} live classes of {CLASSES}"
        seconds_each = f"{np.median(others):.3f} / {np.median(mine):.3f} s"
        figure(f"{name}: `pydensecrf2` / ours", ratios, "×", least=LEAST[live], digits=1, note=seconds_each)
        figure(f"{name}: the same, of processor time", processor, "×", digits=1)
        same = 100 * float((q.argmax(0) == expected.argmax(0)).mean())
        difference = f"largest difference of a probability {np.abs(q - expected).max():.0e}"
        figure(f"{name}: pixels of the same class", [same], "%", least=99.9, digits=3, note=difference)


if __name__ == "__main__":
    main()
