"""Masks from the trained networks: predictions/ID.png, and for comparison compare/…/ID.png."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from cian.config import CrfConfig
from cian.data.images import image_size
from cian.data.masks import write_mask
from cian.data.table import TRAIN, Table
from cian.inference.decide import label_map, probabilities
from cian.inference.logits import segment_logits
from cian.pipeline.context import Context, clean_start
from cian.pipeline.stages.train import BASELINE, TRAINED, load_network
from cian.runs.each_image import for_each_image

FOLDER = "predictions"
WITHOUT_CRF = "compare/without-crf"
COMPARED = {BASELINE: "compare/without-affinity", TRAINED: "compare/before-retraining"}
COMPARED_CRF = {name: f"{folder}-crf" for name, folder in COMPARED.items()}


def run(context: Context) -> None:
    """The final masks, with CRF and, to compare, without."""
    predict_masks(
        context,
        context.predict_table,
        context.final_network,
        "predictions",
        with_crf=(FOLDER, context.config.predict.crf),
        without_crf=WITHOUT_CRF,
    )


def run_compare(context: Context) -> None:
    """Masks of the other networks, without and with CRF, of the images that have a mask to score them on."""
    config, table = context.config, context.scored_table
    for name in ([BASELINE] if config.compare else []) + ([TRAINED] if config.retrain.enabled else []):
        with_crf = (COMPARED_CRF[name], config.predict.crf) if config.predict.crf.iterations else None
        predict_masks(context, table, name, f"predictions ({name})", without_crf=COMPARED[name], with_crf=with_crf)


def predict_masks(
    context: Context,
    table: Table,
    network_name: str,
    label: str,
    *,
    with_crf: tuple[str, CrfConfig] | None = None,
    without_crf: str | None = None,
    tag_filter: bool = True,
    full_size: bool = True,
) -> None:
    """Predicts all images of a table.

    Args:
        network_name: the folder of the network.
        with_crf: folder and settings of the masks with CRF.
        without_crf: folder of the masks without.
        tag_filter: training images hold only classes among their tags.
        full_size: masks of the image's size, also where it is worked on at a smaller one.
    """
    settings = context.config.predict
    folders = [folder for folder in (without_crf, with_crf and with_crf[0]) if folder]
    for folder in folders:
        clean_start(context, folder)
    network = load_network(context, network_name)

    def allowed(row: int) -> np.ndarray | None:
        """Tags tell what a training image may hold; other splits measure the model alone."""
        return table.allowed(row) if tag_filter and table.splits[row] == TRAIN else None

    def compute(row: int, image: np.ndarray) -> Tensor:
        return segment_logits(network, image, settings)

    def write(folder: str, row: int, result: np.ndarray) -> None:
        size = image_size(table.images[row]) if full_size else (result.shape[1], result.shape[2])
        write_mask(context.run.mask(folder, table.ids[row]), label_map(result, size))

    def finish(row: int, image: np.ndarray, logits: Tensor) -> None:
        if without_crf is not None:
            write(without_crf, row, probabilities(logits, image, allowed(row), settings.own_threshold, None))
        if with_crf is not None:
            folder, crf = with_crf
            write(folder, row, probabilities(logits, image, allowed(row), settings.own_threshold, crf))

    *earlier, last = ([context.run.mask(folder, image_id) for image_id in table.ids] for folder in folders)
    if context.accelerator.is_main_process:
        for *others, target in zip(*earlier, last, strict=True):
            if not all(mask.exists() for mask in others):
                target.unlink(missing_ok=True)  # they are written together, this one last
    context.accelerator.wait_for_everyone()
    for_each_image(context.accelerator, context.config.max_side, table, last, label, compute, finish)
