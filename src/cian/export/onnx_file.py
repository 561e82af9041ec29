"""Writes a model as one ONNX file, which holds the network and, in its metadata, all that is needed to use it."""

from __future__ import annotations

import inspect
import io
import json
import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cian.data.palette import COLOURS
from cian.errors import CianError
from cian.export.network import ExportedNetwork
from cian.files import write_bytes
from cian.inference.onnx_network import INPUT, METADATA, OUTPUT
from cian.inference.segmenter import Segmenter
from cian.onnx_session import import_onnxruntime, open_session

TOLERANCE = 1e-4  # of the largest logit, or of 1
_OPSET = 17
_CHECKED = ((9, 6, 1), (3, 11, 3), (2, 2, 2))  # rows and columns of cells, images


def write_onnx(segmenter: Segmenter, path: Path) -> None:
    """Writes the network as ONNX.

    Its input `images` is (N, 3, H, W) float32, RGB in 0 … 255, for any N, H and W. Its output `logits` is (N, K, h, w).
    The key `cian` of the metadata holds the content of config.json, the grid (`stride`, `alignment`) and the colours of
    the classes, as JSON.

    Raises:
        CianError: onnx or onnxruntime is not installed, or the network cannot be exported: onnxruntime does not compute
            the same for images of other sizes.
    """
    onnx = import_onnx()
    runtime = import_onnxruntime("cian export", "export")
    network = ExportedNetwork(segmenter)
    model = onnx.load_model_from_string(_traced(network, segmenter.config.backbone.name))
    _describe(onnx, model, segmenter)
    content = model.SerializeToString()
    _compare(network, open_session(content, runtime), segmenter.config.backbone.name)
    write_bytes(path, content)


def import_onnx() -> Any:
    """
    Raises:
        CianError: it is not installed.
    """
    try:
        import onnx  # imported here because it is optional
    except ImportError:
        raise CianError(
            "cian export: needs onnx. Run `pip install '.[export]'` in the folder of cian's source."
        ) from None
    return onnx


def describe_for_programs(segmenter: Segmenter) -> dict[str, Any]:
    """What a program must know to use the network: the content of config.json, the grid, and the classes' colours."""
    grid = segmenter.network.backbone.grid
    colours = [f"#{bytes(colour).hex()}" for colour in COLOURS[: len(segmenter.class_names)]]
    return {**segmenter.description(), "stride": grid.stride, "alignment": grid.alignment, "colours": colours}


def _describe(onnx: Any, model: Any, segmenter: Segmenter) -> None:
    """Writes the description into an ONNX model."""
    onnx.helper.set_model_props(model, {METADATA: json.dumps(describe_for_programs(segmenter))})
    model.producer_name = "cian"
    grid = segmenter.network.backbone.grid
    fit = f"{grid.stride} n{' + 1' if grid.corner else ''}"
    model.doc_string = (
        f"{INPUT}: (N, 3, H, W) float32, RGB in 0 … 255; height and width are best {fit}. {OUTPUT}: (N, K, h, w), one "
        f"cell for each {grid.stride} pixels, background first. The metadata '{METADATA}' has the names of the classes."
    )


def _traced(network: ExportedNetwork, backbone: str) -> bytes:
    """The ONNX file of a network, without metadata.

    PyTorch's newer exporter, which `dynamo` chooses, takes half a minute for what this one does in a second.
    """
    options: dict[str, Any] = {}
    if "dynamo" in inspect.signature(torch.onnx.export).parameters:
        options["dynamo"] = False
    data = io.BytesIO()
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    try:
        logger.setLevel(logging.ERROR)
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # about the exporter, and about sizes that it takes for numbers
            torch.onnx.export(
                network,
                (network.example(),),
                data,  # type: ignore[arg-type] # newer versions declare a path alone
                opset_version=_OPSET,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_axes={
                    INPUT: {0: "N", 2: "H", 3: "W"},
                    OUTPUT: {0: "N", 2: "h", 3: "w"},
                },
                **options,
            )
    except Exception as error:  # noqa: BLE001 - exporters raise any kind
        raise _not_exported(backbone, " ".join(str(error).split())[:200]) from None
    finally:
        logger.setLevel(level)
    return data.getvalue()


@torch.no_grad()
def _compare(network: ExportedNetwork, session: Any, backbone: str) -> None:
    """
    Raises:
        CianError: onnxruntime and PyTorch differ.
    """
    for rows, columns, batch in _CHECKED:
        images = network.example(rows, columns, batch)
        expected = network(images).numpy()
        try:
            found = session.run([OUTPUT], {INPUT: images.numpy()})[0]
        except Exception as error:  # noqa: BLE001 - onnxruntime's exceptions have no public base class
            raise _not_exported(backbone, " ".join(str(error).split())[:200]) from None
        if found.shape != expected.shape:
            raise _not_exported(backbone, f"{found.shape} instead of {expected.shape}")
        difference = float(np.abs(found - expected).max())
        if not difference <= TOLERANCE * max(1.0, float(np.abs(expected).max())):
            raise _not_exported(backbone, f"logits differ by {difference:.1e}")


def _not_exported(backbone: str, why: str) -> CianError:
    return CianError(
        f"backbone {backbone}: cannot be exported for images of any size ({why}). Use a convolutional one, for example "
        "an EfficientNet or a ResNet."
    )
