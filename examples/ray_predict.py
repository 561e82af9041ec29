"""Masks for a very large collection of images, on one machine or a cluster, with Ray Data.

    pip install 'ray[data]'
    python examples/ray_predict.py --model runs/first/model --images photos --out new-masks --workers 16

Each worker loads the model once and takes batches of images until none is left. Images that have a mask are skipped, so
the same command resumes after an interruption. Damaged images are named. All machines must see the model, the images
and the masks under the same paths. The model may also be a hub id.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import ray

import cian
from cian.data.images import find_images
from cian.data.masks import write_mask
from cian.errors import CianError
from cian.files import refuse_within
from cian.inference.folder import mask_ids


class Labeller:
    """One worker's model."""

    def __init__(self, model: str, images: str, out: str):
        self.segmenter = cian.load(model)
        self.images, self.out = Path(images), Path(out)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list]:
        found = []
        for name in batch["item"]:
            try:
                result = self.segmenter.predict(self.images / name)
            except CianError as error:  # a damaged image: the others still get their masks
                found.append(f"failed: {error}")
                continue
            write_mask(self.out / Path(name).with_suffix(".png"), result.mask)
            found.append(";".join(result.classes))
        return {"image": list(batch["item"]), "tags": found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--gpus", type=float, default=0, help="GPUs for each worker; with 0.25 four workers share one")
    parser.add_argument("--batch", type=int, default=8, help="images that a worker takes at a time")
    options = parser.parse_args()
    images, out = options.images.resolve(), options.out.resolve()
    refuse_within(out, images)
    files = find_images(images)
    mask_ids(images, files)  # no two images may share a mask
    names = [file.relative_to(images).as_posix() for file in files]
    missing = [name for name in names if not (out / name).with_suffix(".png").exists()]
    print(f"{len(names)} images, {len(names) - len(missing)} of them have a mask")
    if missing:
        model = str(Path(options.model).resolve()) if Path(options.model).exists() else options.model
        done = ray.data.from_items(missing).map_batches(
            Labeller,
            fn_constructor_args=(model, str(images), str(out)),
            batch_size=options.batch,
            concurrency=options.workers,
            num_gpus=options.gpus,
        )
        for row in done.iter_rows():
            print(f"{row['image']}: {row['tags'] or 'nothing found'}")


if __name__ == "__main__":
    main()
