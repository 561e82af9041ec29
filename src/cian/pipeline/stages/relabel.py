"""Dense masks of the training images from the first network: relabel/ID.png."""

from __future__ import annotations

from cian.pipeline.context import Context
from cian.pipeline.stages.predict import predict_masks
from cian.pipeline.stages.train import TRAINED

FOLDER = "relabel"


def run(context: Context) -> None:
    config = context.config
    crf = config.predict.crf.model_copy(update={"iterations": config.relabel.crf_iterations})
    predict_masks(
        context,
        context.train_table,
        TRAINED,
        "relabelling",
        with_crf=(FOLDER, crf),
        tag_filter=config.relabel.tag_filter,
        full_size=False,
    )
