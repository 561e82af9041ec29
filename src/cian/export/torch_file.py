"""Writes a model as a program of `torch.export`, which PyTorch runs without cian's code."""

from __future__ import annotations

import io
import json
from pathlib import Path

import torch

from cian.errors import CianError
from cian.export.network import ExportedNetwork
from cian.files import write_bytes
from cian.inference.segmenter import Segmenter

_MOST_CELLS, _MOST_IMAGES = 512, 1024


def write_torch(segmenter: Segmenter, path: Path) -> None:
    """Writes the network as `torch.export.load` reads it.

    The module takes images (N, 3, H, W) float32, RGB in 0 … 255, of any size that fits the grid, and gives logits
    (N, K, h, w). The extra file `cian.json` holds the content of config.json.

    Raises:
        CianError: the network cannot be exported.
    """
    from torch.export import Dim, export, save

    network = ExportedNetwork(segmenter)
    stride, extra = network.grid.stride, int(network.grid.corner)
    height, width = (stride * Dim(name, min=2, max=_MOST_CELLS) + extra for name in ("rows", "columns"))
    sizes = {"images": {0: Dim("batch", max=_MOST_IMAGES), 2: height, 3: width}}
    data = io.BytesIO()
    try:
        with torch.no_grad():
            program = export(network, (network.example(),), dynamic_shapes=sizes)
        save(program, data, extra_files={"cian.json": json.dumps(segmenter.description())})
    except Exception as error:  # noqa: BLE001 - exporters raise any kind
        raise CianError(
            f"backbone {segmenter.config.backbone.name}: torch.export of PyTorch {torch.__version__} cannot export it "
            f"for images of any size ({' '.join(str(error).split())[:200]}). Use --format onnx."
        ) from None
    write_bytes(path, data.getvalue())
