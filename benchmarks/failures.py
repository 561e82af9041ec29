"""The pictures that a finished run is worst at, as one image: picture, predicted mask, truth.

    python benchmarks/failures.py RUN [--count 8] [--out failures.png]

RUN is a run directory of `cian run` or `cian demo` with masks. Predicted images are ordered by their own mIoU (over the
classes in prediction or truth); the worst are shown, at half the size, and named with their score.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from cian.config import load_config
from cian.data.images import read_image
from cian.data.masks import overlay, read_mask, resize_mask
from cian.pipeline import check_data
from cian.runs import Run
from cian.scoring import image_miou
from cian.training import make_accelerator

ALPHA = 0.6
GAP = 6  # white px between pictures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--count", type=int, default=8)
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
        miou = image_miou(read_mask(prediction), read_mask(mask), table.num_classes)
        if miou is not None:
            found.append((miou, row))
    if not found:
        raise SystemExit(f"{run.path}: no predicted image has a true mask. Give a run with --masks.")
    found.sort()
    strips = []
    for miou, row in found[: options.count]:
        image_id, mask = table.ids[row], table.masks[row]
        assert mask is not None
        image = read_image(table.images[row])
        predicted = read_mask(run.mask("predictions", image_id))
        masks = (resize_mask(each, image.shape[:2]) for each in (predicted, read_mask(mask)))
        views = [image, *(overlay(image, each, ALPHA) for each in masks)]
        strips.append(np.hstack(views)[::2, ::2])
        names = ", ".join(table.class_names[i] for i in np.unique(predicted) if i)
        print(f"{image_id}: {miou:.1f}; found {names or 'nothing'}")
    height = max(strip.shape[0] for strip in strips) + GAP
    width = max(strip.shape[1] for strip in strips) + GAP
    rows = -(-len(strips) // 2)
    sheet = np.full((rows * height, 2 * width, 3), 255, np.uint8)
    for i, strip in enumerate(strips):
        top, left = i // 2 * height, i % 2 * width
        sheet[top : top + strip.shape[0], left : left + strip.shape[1]] = strip
    Image.fromarray(sheet).save(options.out)


if __name__ == "__main__":
    main()
