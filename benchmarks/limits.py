"""How far the hot paths are from what the machine can do: operations over its matrix rate, bytes over its bandwidth.

    python benchmarks/limits.py [--backbone tf_efficientnet_lite0] [--stride 16] [--crop 257] [--batch 16]
        [--repetitions 5]

The rate is that of a large matrix product (float32, all cores). The bandwidth is that of copying a large array. Each
repetition measures the limit and then the work, so that another load on the machine slows both. Figures are medians.

* A training step of the backbone alone (forward, and backward of the mean of its features), and of the whole CIAN.
  PyTorch counts the operations while it runs: a multiplication and an addition are two. Weight gradients of depthwise
  convolutions, a few percent, are not counted.
* Dense CRF. All bytes that pixels and vertices read and write count, including those that a cache holds, so it can be
  faster than its limit.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from crf import HEIGHT, WIDTH, energies, photo
from figures import figure
from overhead import arguments, make_step, parser_of, random_batch
from torch.utils.flop_counter import FlopCounterMode

from cian.build import build_network
from cian.crf.dense import dense_crf
from cian.crf.lattice import Lattice, build_lattice
from cian.crf.mean_field import padded
from cian.crf.parts import one_after_another

Work = Callable[[], object]


def seconds(*works: Work, repetitions: int) -> list[list[float]]:
    """Times of each, measured in turn."""
    for work in works:
        work()
    times: list[list[float]] = [[] for _ in works]
    for _ in range(repetitions):
        for work, measured in zip(works, times, strict=True):
            start = time.perf_counter()
            work()
            measured.append(time.perf_counter() - start)
    return times


def matrix_product(size: int = 1024, images: int = 8, side: int = 32) -> tuple[Work, int]:
    """A float32 matrix product, and its operations: as a 1×1 convolution, whose library is often the faster one."""
    pixels = torch.rand(images, size, side, side).to(memory_format=torch.channels_last)
    weights = torch.rand(size, size, 1, 1).to(memory_format=torch.channels_last)
    return lambda: F.conv2d(pixels, weights), 2 * images * side**2 * size**2


def copy(size: int = 2**28) -> tuple[Work, int]:
    """Copying an array that no cache holds, on all cores, and the bytes read and written."""
    source, target = torch.zeros(2, size // 4)
    return lambda: target.copy_(source), 2 * size


def operations(work: Work) -> int:
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def crf_bytes(lattice: Lattice, classes: int, iterations: int) -> int:
    """What iterations read and write: each pixel's corners, their values, its energies; each vertex in each blur."""
    pixels, corners = lattice.vertices.shape
    width = 4 * padded(classes)
    splat_and_slice = pixels * (8 * corners + 3 * corners * width + width)
    blur = sum(axes * vertices * (8 + 4 * width) for axes, vertices, _ in (each.shape for each in lattice.neighbours))
    return iterations * (splat_and_slice + blur)


def main() -> None:
    options, config, crop = arguments(parser_of(__doc__, repetitions=5))
    product, product_operations = matrix_product()
    copying, copied = copy()
    (product_times,), (copy_times,) = (seconds(work, repetitions=options.repetitions) for work in (product, copying))
    rate, bandwidth = (
        n / statistics.median(times) / 1e9 for n, times in ((product_operations, product_times), (copied, copy_times))
    )
    figure(f"matrix product in float32, {torch.get_num_threads()} threads", [rate], "G operations/s", digits=0)
    figure("copying a large array", [bandwidth], "GB/s", digits=1)

    network = build_network(config, 21).train()
    pixels, labels = random_batch(options.batch, crop)

    def backbone_step() -> None:
        network.backbone(network.backbone.grid.normalise(pixels)).mean().backward()

    step = make_step(config, 21)
    works = (("backbone alone", backbone_step), ("CIAN step", lambda: step(pixels, labels)))
    shape = f"{options.backbone}, stride {options.stride}, {crop} px, batch {options.batch}"
    for name, work in works:
        count = operations(work)
        limits, times = seconds(product, work, repetitions=options.repetitions)
        shares = [count / product_operations * a / b for a, b in zip(limits, times, strict=True)]
        figure(
            f"{name} / the matrix rate: {shape}",
            [100 * share for share in shares],
            "%",
            digits=0,
            note=f"{count / 1e9:.0f} G operations in {statistics.median(times):.2f} s",
        )

    rng = np.random.default_rng(0)
    image = photo(None, rng)
    lattice = build_lattice(image, (3, 3), (80, 13, 10), one_after_another)
    for classes in (21, 3):
        unary = energies(rng, classes)
        runs = [partial(dense_crf, image, unary, iterations=n) for n in (10, 1)]
        limits, ten, one = seconds(copying, *runs, repetitions=options.repetitions)
        moved = crf_bytes(lattice, classes, 9)
        shares = [moved / copied * a / (b - c) for a, b, c in zip(limits, ten, one, strict=True)]
        figure(
            f"dense CRF, {HEIGHT} × {WIDTH}, {classes} live classes: an iteration / the memory's bandwidth",
            [100 * share for share in shares],
            "%",
            digits=0,
            note=f"nine move {moved / 1e9:.2f} GB; set-up and one iteration {statistics.median(one):.3f} of "
            f"{statistics.median(ten):.3f} s",
        )


if __name__ == "__main__":
    main()
