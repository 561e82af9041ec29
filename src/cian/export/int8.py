"""The network in whole numbers of 8 bits, which processors with instructions for them (VNNI, AMX) compute faster.

The quantisation is static and per channel: the ranges of the activations come from images of the run. Dynamic
quantisation ruins depthwise networks. Only the backbone is quantised; the affinity module and the head stay in float,
because steps of 1/256 of their range are visible in logits.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from cian.data.images import read_image
from cian.data.masks import read_mask, resize_mask
from cian.data.table import TRAIN, Table
from cian.evaluation.metrics import Confusion
from cian.export.network import NODES
from cian.export.onnx_file import import_onnx
from cian.files import atomic
from cian.inference.segmenter import Segmenter, load
from cian.terminal import Ticker

_CALIBRATION, _SCORED, _TIMED = 64, 200, 16  # images


class Int8(NamedTuple):
    """What the quantisation costs and gains: one scale, no mirror, no CRF.

    Attributes:
        images: number of held-out images with masks that were scored, at most 200.
        miou, miou_int8: in percent, before and after; None without such images.
        speed: how many times as fast the network is on this machine, with one thread.
    """

    images: int
    miou: float | None
    miou_int8: float | None
    speed: float

    def __str__(self) -> str:
        scores = "no held-out image has a mask to score with"
        if self.images:
            scores = f"mIoU {self.miou_int8:.1f} instead of {self.miou:.1f} on {self.images} held-out images"
        return f"int8: {scores}; {self.speed:.1f} × as fast on this machine (the network, one thread)"


def write_int8(network: Path, path: Path, table: Table) -> Int8:
    """Writes the quantised network.

    Args:
        network: the ONNX file to quantise.
        table: training images, which are calibrated on, and held-out ones, which are scored.
    """
    onnx = import_onnx()
    from onnxruntime import quantization

    before = load(network, "cpu")
    images = _spread(table.split(TRAIN), _CALIBRATION).images
    model = onnx.load(network)
    chosen = [node.name for node in model.graph.node if node.name.startswith(NODES)]

    class Reader(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self.batches = _inputs(before, images)

        def get_next(self) -> dict[str, Any] | None:
            return next(({"images": batch.numpy()} for batch in self.batches), None)

    level = logging.root.manager.disable
    try:
        logging.disable(logging.WARNING)  # onnxruntime recommends a step that the exporter has done already
        with atomic(path) as temporary:
            quantization.quantize_static(
                network,
                temporary,
                Reader(),
                quant_format=quantization.QuantFormat.QDQ,
                per_channel=True,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
                nodes_to_quantize=chosen,
            )
            quantised = onnx.load(temporary)
            del quantised.metadata_props[:]
            quantised.metadata_props.extend(model.metadata_props)
            onnx.save(quantised, temporary)
    finally:
        logging.disable(level)
    return _compare(before, load(path, "cpu"), table)


def _spread(table: Table, most: int) -> Table:
    """Some images of a table, evenly spread."""
    return table.select(np.linspace(0, len(table) - 1, min(most, len(table))).round().astype(int))


def _inputs(segmenter: Segmenter, images: Sequence[Path]) -> Iterator[torch.Tensor]:
    """The network's inputs (1, 3, H, W) for images at one scale."""
    grid = segmenter.network.backbone.grid
    for file in images:
        yield grid.scaled(grid.as_input(read_image(file, segmenter.config.max_side), torch.device("cpu")), 1.0)


def _compare(before: Segmenter, after: Segmenter, table: Table) -> Int8:
    held_out = table.select([i for i, split in enumerate(table.splits) if split != TRAIN]).with_masks()
    scored = _spread(held_out, _SCORED)
    plain = before.config.predict
    settings = plain.model_copy(
        update={"scales": (1.0,), "mirror": False, "crf": plain.crf.model_copy(update={"iterations": 0})}
    )
    mious: list[float | None] = []
    with Ticker("scoring int8", 2 * len(scored), unit="masks") as ticker:
        for segmenter in (before, after):
            confusion = Confusion(table.num_classes)
            for result, mask in zip(segmenter.predict(scored.images, settings=settings), scored.masks, strict=True):
                assert mask is not None
                truth = read_mask(mask, table.mask_ids)
                confusion.add(resize_mask(result.mask, truth.shape), truth)
                ticker.advance()
            mious.append(confusion.scores().miou if len(scored) else None)
    return Int8(len(scored), mious[0], mious[1], _speed(before, after, table))


def _speed(before: Segmenter, after: Segmenter, table: Table) -> float:
    """How many times as fast the second network is, measured in turn on the same images."""
    ratios = []
    for batch in _inputs(before, _spread(table, _TIMED).images):
        times = []
        for segmenter in (before, after):
            start = time.perf_counter()
            segmenter.network(batch)
            times.append(time.perf_counter() - start)
        ratios.append(times[0] / times[1])
    return float(np.median(ratios))
