"""Predicts the masks of a table with one of the networks of a run."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from cian.config import CrfConfig
from cian.data.images import alone, image_size
from cian.data.masks import read_mask, with_labels, write_mask
from cian.data.table import TRAIN, Table
from cian.inference.decide import label_map, probabilities
from cian.inference.logits import segment_logits
from cian.pipeline.context import Context
from cian.pipeline.network_stage import NetworkStage
from cian.runs.each_image import for_each_image


def predict_masks(
    context: Context,
    table: Table,
    network_stage: NetworkStage,
    title: str,
    *,
    with_crf: tuple[str, CrfConfig] | None = None,
    without_crf: str | None = None,
    tag_filter: bool = True,
    full_size: bool = True,
    keep_labels: bool = False,
) -> None:
    """Predicts all images of a table.

    Args:
        network_stage: the stage that has trained the network.
        title: what the progress line says.
        with_crf: the folder of the masks with CRF, and the settings of the CRF.
        without_crf: the folder of the masks without CRF.
        tag_filter: whether masks of training images hold only classes among their tags.
        full_size: whether masks have the size of the image, also where the network sees it at a smaller one.
        keep_labels: whether the labelled pixels of an image's label map replace the predicted ones.
    """
    settings = context.config.predict
    folders = [folder for folder in (without_crf, with_crf and with_crf[0]) if folder]
    for folder in folders:
        context.clean_start(folder)
    network = context.load_network(network_stage)

    def allowed(row: int) -> np.ndarray | None:
        """Tags limit the masks of training images. Other splits measure the model alone."""
        return table.allowed(row) if tag_filter and table.splits[row] == TRAIN else None

    def compute(row: int, image: np.ndarray) -> Tensor:
        return segment_logits(network, image, settings)

    def write(folder: str, row: int, result: np.ndarray) -> None:
        size = image_size(table.images[row]) if full_size else (result.shape[1], result.shape[2])
        with alone(size[0] * size[1]):
            mask, labels = label_map(result, size), table.labels[row]
        if keep_labels and labels is not None:
            mask = with_labels(mask, read_mask(labels, table.mask_ids))
        write_mask(context.run.mask(folder, table.ids[row]), mask)

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
                target.unlink(missing_ok=True)  # both are written together, this one last
    context.accelerator.wait_for_everyone()
    for_each_image(context.accelerator, context.config.max_side, table, last, title, compute, finish)
