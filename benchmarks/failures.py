"""The images with the lowest scores of a finished run, each beside its predicted and its true mask, in one file.

    python benchmarks/failures.py RUN [--count 8 | --every N] [--out failures.png]

RUN is a run directory of `cian run` or `cian demo` with masks. Predicted images are ordered by the IoU of their
objects. The lowest are shown at half the size, and named with their score. With --every, each N-th predicted image is
shown instead, with its seeds beside it (docs/demo.png: 12).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cian.config import load_config
from cian.data.images import read_image
from cian.data.masks import read_mask, resize_mask
from cian.data.overlay import overlay
from cian.evaluation.folders import object_iou
from cian.pipeline.context import Context
from cian.pipeline.run import check_data
from cian.runs.directory import Run
from cian.training.device import make_accelerator

ALPHA = 0.6
GAP = 6  # white px between images
TITLE = 22  # px of the line of titles


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--count", type=int, default=8)
    parser.add_argument("--every", type=int)
    parser.add_argument("--out", type=Path, default=Path("failures.png"))
    options = parser.parse_args()
    run = Run(options.run)
    config = load_config(run.config_file)
    table = check_data(config, make_accelerator(config.runtime))
    found = []
    for row, image_id in enumerate(table.ids):
        mask, prediction = table.masks[row], run.mask("predictions", image_id)
        if mask is None or not prediction.exists():
            continue
        iou = object_iou(read_mask(prediction), read_mask(mask))
        if iou is not None:
            found.append((iou, row))
    if not found:
        raise SystemExit(f"{run.path}: no predicted image has a true mask. Give a run with --masks.")
    strips = []
    for iou, row in found[:: options.every] if options.every else sorted(found)[: options.count]:
        image_id, mask = table.ids[row], table.masks[row]
        assert mask is not None
        image = read_image(table.images[row])
        predicted = read_mask(run.mask("predictions", image_id))
        views = [overlay(image, resize_mask(each, image.shape[:2]), ALPHA) for each in (predicted, read_mask(mask))]
        if options.every:
            views.insert(0, seed_view(image, Context(config, table, run).find_mask("seeds", image_id)))
        strips.append([view[::2, ::2] for view in (image, *views)])
        names = ", ".join(table.class_names[i] for i in np.unique(predicted) if i)
        print(f"{image_id}: {iou:.1f}; found {names or 'nothing'}")
    titles = ("image", "seeds", "mask", "true mask") if options.every else ("image", "mask", "true mask")
    Image.fromarray(sheet(strips, 1 if options.every else 2, titles)).save(options.out)


def seed_view(image: np.ndarray, file: Path | None) -> np.ndarray:
    """The image under its seeds."""
    if file is None:
        raise SystemExit("An image has no seed map. Leave out --every, or run `cian run` to the end.")
    return overlay(image, resize_mask(read_mask(file), image.shape[:2]), ALPHA)


def sheet(strips: list[list[np.ndarray]], columns: int, titles: Sequence[str]) -> np.ndarray:
    """Strips of images side by side, on white, under a line of titles. Each image is centred in a cell that holds the
    largest ones.

    Args:
        titles: one for each image of a strip.
    """
    width = max(view.shape[1] for strip in strips for view in strip) + GAP
    lines = [_titles(list(titles) * columns, width)]
    for start in range(0, len(strips), columns):
        views = [view for strip in strips[start : start + columns] for view in strip]
        height = max(view.shape[0] for view in views) + GAP
        line = np.full((height, columns * len(strips[0]) * width, 3), 255, np.uint8)
        for i, view in enumerate(views):
            top, left = (height - view.shape[0]) // 2, i * width + (width - view.shape[1]) // 2
            line[top : top + view.shape[0], left : left + view.shape[1]] = view
        lines.append(line)
    return np.vstack(lines)


def _titles(titles: list[str], width: int) -> np.ndarray:
    line = Image.new("RGB", (len(titles) * width, TITLE), "white")
    for i, title in enumerate(titles):
        ImageDraw.Draw(line).text(((i + 0.5) * width, TITLE / 2), title, "black", ImageFont.load_default(14), "mm")
    return np.array(line)


if __name__ == "__main__":
    main()
