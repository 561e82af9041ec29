"""The figures of docs/how-it-works.md, from a finished run.

    python benchmarks/method.py RUN [--images ID ID ID] [--out docs]

RUN is a run directory of `cian run` or `cian demo` with masks and held-out images. Writes OUT/method-steps.png (each
image at each step of the method) and OUT/method-affinity.png (where one cell of an image looks, in that image and in
others that share a class).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib
import numpy as np
import torch
from failures import ALPHA, seed_view, sheet
from PIL import Image
from scipy.ndimage import distance_transform_edt

from cian.build import build_network
from cian.config import load_config
from cian.data.images import read_image
from cian.data.masks import read_mask, resize_mask
from cian.data.overlay import overlay
from cian.data.table import IGNORE
from cian.network import CIAN
from cian.pipeline.context import Context
from cian.pipeline.run import check_data
from cian.runs.directory import Run
from cian.seeds.cam import class_activation_maps
from cian.training.checkpoint import load_weights
from cian.training.device import make_accelerator

STEPS = ("image", "CAM", "object map", "seeds", "mask", "with CRF", "true mask")
REFERENCES = 3
MARK = (255, 255, 255)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--images", nargs="+", help="IDs of held-out images; default: the first three")
    parser.add_argument("--out", type=Path, default=Path())
    options = parser.parse_args()
    run = Run(options.run)
    config = load_config(run.config_file)
    context = Context(config, check_data(config, make_accelerator(config.runtime)), run)
    table = context.held_out_seed_table
    rows = [table.ids.index(name) for name in options.images] if options.images else range(min(3, len(table)))
    strips = [steps(context, row) for row in rows]
    Image.fromarray(sheet(strips, 1, STEPS)).save(options.out / "method-steps.png")
    titles = ("image", "in itself", *[f"in image {n}" for n in range(1, REFERENCES + 1)])
    Image.fromarray(sheet([looks(context, row) for row in rows], 1, titles)).save(options.out / "method-affinity.png")


def steps(context: Context, row: int) -> list[np.ndarray]:
    """A held-out image at each of `STEPS`, at half the size."""
    table, run = context.held_out_seed_table, context.run
    image = read_image(table.images[row], context.config.max_side)
    image_id, truth = table.ids[row], table.masks[row]
    assert truth is not None
    maps = class_activation_maps(context.load_classifier(), image, table.tags(row), context.config.seeds)
    masks = [run.mask("compare/without-crf", image_id), run.mask("predictions", image_id), truth]
    views = [
        image,
        *(heated(image, values.max(0)) for values in maps),
        seed_view(image, context.find_mask("seeds", image_id)),
        *(overlay(image, resize_mask(read_mask(file), image.shape[:2]), ALPHA) for file in masks),
    ]
    return [view[::2, ::2] for view in views]


def looks(context: Context, row: int) -> list[np.ndarray]:
    """A held-out image with a cell marked, and where that cell looks, there and in others of its class."""
    table = context.held_out_seed_table
    network = build_network(context.config, table.num_classes, weights="random").eval()  # shipped may be another
    load_weights(network, context.run.folder("train") / "model.safetensors")
    class_id, (y, x) = innermost(read_mask_of(context, row))
    others = [other for other in range(len(table)) if other != row and class_id in table.tags(other)][:REFERENCES]
    images = [read_image(table.images[each], context.config.max_side) for each in (row, *others)]
    query = features(network, images[0])
    height, width = query.shape[2:]
    cell = round(y * (height - 1)), round(x * (width - 1))
    assert network.affinity is not None
    views = [marked(images[0], y, x)]
    for image in images:
        with torch.no_grad():
            affinity = network.affinity.look(query, features(network, image))[0][cell]  # (h', w')
        views.append(heated(image, (affinity / affinity.max()).numpy()))
    return [view[::2, ::2] for view in views]


def read_mask_of(context: Context, row: int) -> np.ndarray:
    """(H, W): the true mask of a held-out image."""
    file = context.held_out_seed_table.masks[row]
    assert file is not None
    return read_mask(file)


def innermost(mask: np.ndarray) -> tuple[int, tuple[float, float]]:
    """The largest class of a mask, and the place (y, x in [0, 1]) that lies deepest in it."""
    counts = np.bincount(mask[mask != IGNORE])
    class_id = int(counts[1:].argmax()) + 1
    depth = distance_transform_edt(np.pad(mask == class_id, 1))[1:-1, 1:-1]
    y, x = np.unravel_index(depth.argmax(), depth.shape)
    return class_id, (float(y) / (mask.shape[0] - 1), float(x) / (mask.shape[1] - 1))


def features(network: CIAN, image: np.ndarray) -> torch.Tensor:
    """(H, W, 3) uint8 → (1, C, h, w)"""
    grid = network.backbone.grid
    with torch.no_grad():
        return network.backbone(grid.scaled(grid.as_input(image, torch.device("cpu")), 1.0))


def heated(image: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The image under a heat map: (h, w) in [0, 1], of any size."""
    size = image.shape[1], image.shape[0]
    heat = np.asarray(Image.fromarray(values.astype(np.float32)).resize(size, Image.Resampling.BILINEAR))
    colours = matplotlib.colormaps["inferno"](heat)[..., :3] * 255  # (H, W, 3)
    strength = (0.5 + 0.32 * heat)[..., None]
    return (image * (1 - strength) + colours * strength).astype(np.uint8)


def marked(image: np.ndarray, y: float, x: float) -> np.ndarray:
    """The image with a ring at a place (y, x in [0, 1])."""
    height, width = image.shape[:2]
    rows, columns = np.ogrid[:height, :width]
    distance = np.hypot(rows - y * (height - 1), columns - x * (width - 1))
    result = image.copy()
    result[(distance < 9) & (distance > 5)] = MARK
    result[(distance <= 5) | ((distance >= 9) & (distance < 11))] = 0
    return result


if __name__ == "__main__":
    main()
