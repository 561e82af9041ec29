"""The group sampler on up to ten million images: time and memory to plan an epoch, and how they grow.

    python benchmarks/groups.py [--tags tags.csv] [--images 10000 … 10000000] [--group-size 2]

Tags are drawn from a long-tailed distribution: 1,000 classes, the k-th with a frequency of 1/k, and 1 to 4 tags an
image. With --tags they are also drawn from the rows of a file `image,tags` (with `;`), e.g. VOC's. Each size runs in
another process.
"""

from __future__ import annotations

import argparse
import csv
import multiprocessing
import resource
import statistics
import time
from pathlib import Path

import numpy as np
from figures import figure

from cian.data.sampler import form_groups

CLASSES, MOST_TAGS = 1000, 4
REPETITIONS = 3


def long_tailed(images: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Tags of images as compressed sparse rows; a class drawn twice for an image counts once."""
    counts = rng.integers(1, MOST_TAGS + 1, images)
    shares = 1 / np.arange(1, CLASSES + 1)
    tags = rng.choice(CLASSES, int(counts.sum()), p=shares / shares.sum()).astype(np.int32) + 1
    image = np.repeat(np.arange(images, dtype=np.int32), counts)
    order = np.lexsort((tags, image))
    tags, image = tags[order], image[order]
    keep = np.append(True, (np.diff(tags) != 0) | (np.diff(image) != 0))
    offsets = np.append(0, np.bincount(image[keep], minlength=images).cumsum())
    return tags[keep], offsets


def like_file(file: Path, images: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Whole rows of a tag file, drawn with replacement."""
    with file.open(encoding="utf-8") as lines:
        rows = [row["tags"].split(";") for row in csv.DictReader(lines)]
    ids = {tag: i for i, tag in enumerate(sorted({tag for row in rows for tag in row}), start=1)}
    lengths = np.array([len(row) for row in rows])
    table = np.zeros((len(rows), lengths.max()), np.int32)
    for i, row in enumerate(rows):
        table[i, : len(row)] = [ids[tag] for tag in row]
    chosen = rng.integers(0, len(rows), images)
    drawn = table[chosen]
    return drawn[drawn > 0], np.append(0, lengths[chosen].cumsum())


def measure(source: Path | None, images: int, group_size: int, answer) -> None:
    rng = np.random.default_rng(0)
    tags, offsets = long_tailed(images, rng) if source is None else like_file(source, images, rng)
    form_groups(tags[: offsets[100]], offsets[:101], group_size, rng)  # compiled, or loaded from the disk
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    times = []
    for _ in range(REPETITIONS):
        start = time.perf_counter()
        groups = form_groups(tags, offsets, group_size, rng)
        times.append(time.perf_counter() - start)
    answer.put((times, before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, groups.size / images))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tags", type=Path)
    parser.add_argument("--images", type=int, nargs="+", default=[10_000, 100_000, 1_000_000, 10_000_000])
    parser.add_argument("--group-size", type=int, default=2)
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    for source in (None, options.tags) if options.tags else (None,):
        kind = f"tags like {source}" if source else f"long-tailed tags of {CLASSES} classes"
        print(kind)
        an_image = {}  # microseconds
        for images in options.images:
            answer = context.Queue()
            process = context.Process(target=measure, args=(source, images, options.group_size, answer))
            process.start()
            times, before, peak, used = answer.get()
            process.join()
            an_image[images] = [seconds / images * 1e6 for seconds in times]
            print(
                f"{images:11,d} images: {statistics.median(an_image[images]):5.2f} µs an image; the process takes "
                f"{peak / 2**20:.2f} GB ({before / 2**20:.2f} with the tags alone); {used:.1%} of the images used",
                flush=True,
            )
        name = f"group sampler, {images:,} images, groups of {options.group_size}, {kind}"
        figure(name, times, "s", most=60)
        figure(f"{name}: memory", [peak / 2**20], "GB", most=2)
        if len(an_image) > 1:
            fewer = options.images[-2]
            ratios = [a / b for a, b in zip(an_image[images], an_image[fewer], strict=True)]
            figure(f"{name}: time an image / with {fewer:,} images", ratios, most=2, note="1 is linear")


if __name__ == "__main__":
    main()
