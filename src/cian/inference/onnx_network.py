"""The segmentation network from an ONNX file, computed by onnxruntime instead of PyTorch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from cian.backbone.grid import Grid
from cian.errors import CianError
from cian.onnx_session import import_onnxruntime, open_session

METADATA = "cian"  # the key of the model's description in the metadata of the file: JSON, as in config.json
INPUT, OUTPUT = "images", "logits"
_CURE = "Give a file that `cian export` wrote."


class _Backbone(NamedTuple):
    """What prediction needs of a network's backbone."""

    grid: Grid


class OnnxNetwork(nn.Module):
    """Takes the place of `CIAN` in prediction.

    Attributes:
        path: the file.
        description: of the model, JSON as in config.json, and the keys `stride` and `alignment` of the grid.
        backbone: holds the grid. The file's network normalises the pixels, so here they stay in 0 … 255.

    Raises:
        CianError: there is no such file, onnxruntime is not installed, or `cian export` did not write the file.
    """

    def __init__(self, path: Path):
        super().__init__()
        self.path = path
        onnxruntime = import_onnxruntime(path, "export")
        try:
            content = path.read_bytes()
        except OSError as error:
            raise CianError(f"{path}: cannot be read ({error.strerror}). {_CURE}") from None
        try:
            self.session = open_session(content, onnxruntime)
        except Exception as error:  # noqa: BLE001 - onnxruntime's exceptions have no public base class
            raise CianError(f"{path}: is no ONNX network ({_short(error)}). {_CURE}") from None
        self.description: str = self.session.get_modelmeta().custom_metadata_map.get(METADATA, "")
        try:
            found = json.loads(self.description)
            stride, alignment = found["stride"], found["alignment"]
        except (ValueError, TypeError, KeyError, RecursionError):
            stride = alignment = None
        if not isinstance(stride, int) or not 0 < stride <= 256 or alignment not in ("corner", "centre"):
            raise CianError(f"{path}: does not say how it was trained. {_CURE}")
        self.backbone = _Backbone(Grid(stride, alignment, mean=(0.0, 0.0, 0.0), std=(1 / 255, 1 / 255, 1 / 255)))
        # The parameters of the network, for its fingerprint, and the device of its inputs.
        self.content = nn.Parameter(torch.from_numpy(np.frombuffer(content, np.uint8).copy()), requires_grad=False)

    def check(self, classes: int) -> None:
        """
        Raises:
            CianError: the network does not give logits of this number of classes.
        """
        size = self.backbone.grid.size(33, 49)
        cells = self.backbone.grid.cells(torch.empty(size)).shape
        try:
            found = self(torch.zeros(1, 3, *size))[0].shape
        except Exception as error:  # noqa: BLE001 - see above
            raise CianError(f"{self.path}: cannot be run on an image ({_short(error)}). {_CURE}") from None
        if found != (1, classes, *cells):
            raise CianError(f"{self.path}: gives {tuple(found)}, not logits of its {classes} classes. {_CURE}")

    def forward(self, images: Tensor, group_size: int = 1) -> tuple[Tensor, None]:
        """As `CIAN.forward`, for pixels in 0 … 255. Shape: (N, 3, H, W) → (N, K, h, w), and None."""
        pixels = np.ascontiguousarray(images.cpu().numpy())  # (N, 3, H, W)
        logits: Any = self.session.run([OUTPUT], {INPUT: pixels})[0]  # (N, K, h, w)
        return torch.from_numpy(logits).to(images.device), None


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
