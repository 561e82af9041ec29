"""Speed of `cian.crf.dense_crf` against `pydensecrf2`, alternating in one run, with the agreement of the two.

    python benchmarks/crf.py [--image FILE] [--repetitions 7] [--threads N]

Prints the time of each and their ratio (median, smallest and largest of the repetitions) for 375×500 pixels, 21 classes
and 10 iterations: once with all classes alive, once with 3, as when an image's tags exclude the others. A ratio is that
of two neighbouring calls, so that another load on the machine slows both. The ratio of processor time (all threads
together) says what one core gains, and hardly depends on whether other programs leave a second one free.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import pydensecrf.densecrf as densecrf
from PIL import Image

from cian import crf

HEIGHT, WIDTH, CLASSES, ITERATIONS = 375, 500, 21, 10
IMPOSSIBLE = 100.0


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
        crf._threads = lambda: args.threads
    rng = np.random.default_rng(0)
    image = photo(args.image, rng)
    first, _, _ = seconds(crf.dense_crf, image, energies(rng, CLASSES))
    print(f"first call {first:.2f} s (compiles, or loads what an earlier run compiled); {crf._threads()} thread(s)")
    for live in (CLASSES, 3):
        unary = energies(rng, live)
        times = []
        for _ in range(args.repetitions):
            ours, ours_cpu, q = seconds(crf.dense_crf, image, unary)
            theirs, theirs_cpu, expected = seconds(reference, image, unary)
            times.append((ours, theirs, theirs / ours, theirs_cpu / ours_cpu))
        low, median, high = np.min(times, axis=0), np.median(times, axis=0), np.max(times, axis=0)
        print(f"{live:2d} live classes of {CLASSES}:", end="")
        columns = (("cian", " s"), ("pydensecrf2", " s"), ("ratio", "x"), ("ratio of processor time", "x"))
        for column, (name, unit) in enumerate(columns):
            print(f"  {name} {median[column]:.3f}{unit} [{low[column]:.3f}, {high[column]:.3f}]", end="")
        print(
            f"  largest difference {np.abs(q - expected).max():.1e}, "
            f"same class {(q.argmax(0) == expected.argmax(0)).mean():.4%}"
        )


if __name__ == "__main__":
    main()
