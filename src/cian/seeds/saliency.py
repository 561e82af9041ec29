"""Saliency maps as evidence of background: from a folder, or from a network in an ONNX file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cian.data.images import read_image
from cian.errors import CianError
from cian.onnx_session import import_onnxruntime, open_session

_URL = "https://github.com/danielgatis/rembg/releases/download/v0.0.0/u2netp.onnx"
_KNOWN = f"u2netp.onnx (4.6 MB, from the U²-Net project: {_URL})"
_CURE = f"Use a saliency network such as {_KNOWN}."
_MEAN, _STD = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)


class SaliencyFolder:
    """Maps ID.png (grey of 8 or 16 bits, white = salient) in a folder."""

    def __init__(self, folder: Path):
        self.folder = folder

    def check(self, image_ids: Sequence[str]) -> None:
        """
        Raises:
            CianError: an image has no map.
        """
        missing = [path for path in (self.folder / f"{image_id}.png" for image_id in image_ids) if not path.is_file()]
        if missing:
            more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
            raise CianError(
                f"{missing[0]}{more}: no such saliency map. Make one for each image, or use seeds.background=cam."
            )

    def __call__(self, image_id: str, image: np.ndarray) -> np.ndarray:
        """(H, W) float32 in [0, 1].

        Raises:
            CianError: the map is unreadable.
        """
        grey = Image.fromarray(read_image(self.folder / f"{image_id}.png")).convert("L")
        return np.asarray(grey.resize(image.shape[1::-1], Image.Resampling.BILINEAR), np.float32) / 255


class SaliencyNetwork:
    """A salient object detector in an ONNX file, such as U²-Net (Qin et al. 2020, arXiv 2005.09007).

    Its input is (1, 3, S, S), RGB divided by the image's maximum and normalised with ImageNet's mean and deviation; its
    first output is (1, 1, S, S). Maps are min-max normalised.

    Raises:
        CianError: onnxruntime is not installed, or the file is no such network.
    """

    def __init__(self, path: Path):
        onnxruntime = import_onnxruntime(path, "saliency")
        try:
            self.session = open_session(str(path), onnxruntime)
        except Exception as error:  # noqa: BLE001 - onnxruntime's exceptions have no public base class
            raise CianError(f"{path}: is no ONNX network ({_short(error)}). {_CURE}") from None
        self.input = self.session.get_inputs()[0]
        shape = self.input.shape
        if len(shape) != 4 or shape[1] != 3:
            raise CianError(f"{path}: its input has shape {shape}; a saliency network takes (1, 3, S, S). {_CURE}")
        self.size = shape[2] if isinstance(shape[2], int) else 320
        try:
            found = np.shape(self._run(np.zeros((3, self.size, self.size), np.float32)))
        except Exception as error:  # noqa: BLE001 - see above
            raise CianError(f"{path}: cannot be run on an image ({_short(error)}). {_CURE}") from None
        if found != (*[1] * (len(found) - 2), self.size, self.size):
            raise CianError(
                f"{path}: its first output has shape {found}; a saliency network gives one map, "
                f"(1, 1, {self.size}, {self.size}). {_CURE}"
            )

    def __call__(self, image_id: str, image: np.ndarray) -> np.ndarray:
        """(H, W) float32 in [0, 1]."""
        small = Image.fromarray(image).resize((self.size, self.size), Image.Resampling.BILINEAR)
        pixels = np.asarray(small, np.float32)
        pixels = (pixels / max(float(pixels.max()), 1.0) - _MEAN) / _STD
        saliency = np.asarray(self._run(pixels.transpose(2, 0, 1)), np.float32).reshape(self.size, self.size)
        low, high = float(saliency.min()), float(saliency.max())
        saliency = (saliency - low) / max(high - low, 1e-6)
        return np.asarray(Image.fromarray(saliency).resize(image.shape[1::-1], Image.Resampling.BILINEAR))

    def _run(self, pixels: np.ndarray) -> Any:
        """The first output for (3, S, S) float32."""
        return self.session.run(None, {self.input.name: pixels[None]})[0]


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def saliency_folder(setting: str) -> SaliencyFolder | None:
    """The folder of maps that `seeds.background` names, if it names one."""
    return SaliencyFolder(Path(setting)) if setting != "cam" and Path(setting).is_dir() else None


def saliency_source(setting: str) -> SaliencyFolder | SaliencyNetwork | None:
    """What `seeds.background` names: None for "cam", else a folder or an ONNX file.

    Raises:
        CianError: it is none of these.
    """
    if setting == "cam":
        return None
    if folder := saliency_folder(setting):
        return folder
    path = Path(setting)
    if path.suffix == ".onnx" and path.is_file():
        return SaliencyNetwork(path)
    raise CianError(
        f"seeds.background = {setting}: no such folder or .onnx file. Use cam, a folder of maps, or a network such "
        f"as {_KNOWN}."
    )
