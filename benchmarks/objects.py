"""How well the maps that seeds are made of tell objects from background: area under the ROC curve.

    python benchmarks/objects.py RUN [--split tune] [--step 2] [--saliency u2netp.onnx]

RUN is a run directory of `cian run` with masks. In each image of the split that has tags and a mask, pixels of any
class should score higher than those of background (the highest of its tags' maps counts). 0.5 is chance, 1 is perfect.
Prints the mean over the images for class activation maps, object maps, and a saliency network.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from torchmetrics.functional.classification import binary_auroc

from cian.config import load_config
from cian.data.images import read_image
from cian.data.masks import read_mask, resize_mask
from cian.data.table import IGNORE
from cian.pipeline.context import Context
from cian.pipeline.run import check_data
from cian.runs.directory import Run
from cian.seeds.cam import class_activation_maps
from cian.seeds.saliency import SaliencyNetwork
from cian.training.device import make_accelerator


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--split", default="tune")
    parser.add_argument("--step", type=int, default=1, help="take every N-th image")
    parser.add_argument("--saliency", type=Path)
    options = parser.parse_args()
    run = Run(options.run)
    config = load_config(run.config_file)
    table = check_data(config, make_accelerator(config.runtime))
    context = Context(config, table, run)
    model = context.load_classifier()
    network = SaliencyNetwork(options.saliency) if options.saliency else None
    images = table.split(options.split).with_masks()
    areas: dict[str, list[float]] = {}
    for row in range(0, len(images), options.step):
        tags, mask = images.tags(row), images.masks[row]
        assert mask is not None
        image = read_image(images.images[row], config.max_side)
        truth = resize_mask(read_mask(mask), (image.shape[0], image.shape[1]))
        counted = truth != IGNORE
        objects = truth[counted] > 0
        if not len(tags) or objects.all() or not objects.any():
            continue
        cams, maps = class_activation_maps(model, image, tags, config.seeds)
        found = {"class activation maps": cams.max(0), "object maps": maps.max(0)}
        if network is not None:
            found["saliency"] = network(images.ids[row], image)
        for name, values in found.items():
            area = binary_auroc(torch.from_numpy(values[counted]), torch.from_numpy(objects.astype(int)))
            areas.setdefault(name, []).append(float(area))
    for name, values in areas.items():
        print(f"{name}: {np.mean(values):.3f} (mean of {len(values)} images of {options.split})")


if __name__ == "__main__":
    main()
