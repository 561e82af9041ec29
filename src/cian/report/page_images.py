"""Images on the page, each stored once, and the layers that lie over them."""

from __future__ import annotations

import base64
import io
from typing import Any

import matplotlib
import numpy as np
from PIL import Image

from cian.data.masks import resize_mask
from cian.data.overlay import mask_layer
from cian.data.palette import COLOURS

THUMB = 360  # longest side of an image on the page, in pixels

Layer = str  # data URI of a layer that lies over an image


class PageImages:
    """The images of the page, each stored once. `uris[i]` is shown by the CSS class `p{i}`."""

    def __init__(self) -> None:
        self.uris: list[str] = []
        self._known: dict[str, dict[str, Any]] = {}

    def add(self, image_id: str, image: np.ndarray) -> dict[str, Any]:
        """Its `id`, `index`, `width` and `height` on the page."""
        if image_id not in self._known:
            small = _shrunk(Image.fromarray(image), THUMB)
            self._known[image_id] = {
                "id": image_id,
                "index": len(self.uris),
                "width": small.width,
                "height": small.height,
            }
            self.uris.append(_data_uri(small, "JPEG", quality=85, optimize=True))
        return self._known[image_id]


def colour(class_id: int) -> str:
    """The colour of a class, in CSS."""
    return "#{:02x}{:02x}{:02x}".format(*COLOURS[class_id])


def draw_mask(mask: np.ndarray, size: tuple[int, int]) -> Layer:
    """A mask as a layer, see `mask_layer`.

    Args:
        mask: (H, W) uint8.
        size: (width, height) of the layer.
    """
    layer, table = mask_layer(resize_mask(mask, size[::-1]), alpha=0.5)
    if len(table) > 256:
        return _data_uri(Image.fromarray(table[layer]), "PNG", optimize=True)
    return _indexed(layer.astype(np.uint8), table)


def draw_heat(values: np.ndarray) -> Layer:
    """A heat map, (h, w): float in [0, 1] or uint8 levels. Low values are dark and half clear, high values bright."""
    if values.dtype != np.uint8:
        values = (values.clip(0, 1) * 255).round().astype(np.uint8)
    ramp = matplotlib.colormaps["inferno"](np.linspace(0, 1, 256))  # (256, 4)
    ramp[:, 3] = np.linspace(0.5, 0.82, 256)
    return _indexed(values, (ramp * 255).round().astype(np.uint8))


def _indexed(layer: np.ndarray, table: np.ndarray) -> Layer:
    """An indexed PNG of (h, w) uint8 rows of a table of colours, (n, 4) uint8 RGBA."""
    image = Image.fromarray(np.ascontiguousarray(layer)).convert("L")
    image.putpalette(table[:, :3].tobytes())
    return _data_uri(image, "PNG", optimize=True, transparency=table[:, 3].tobytes())


def _shrunk(image: Image.Image, side: int) -> Image.Image:
    scale = min(1.0, side / max(image.size))
    return image.resize(
        (max(1, round(image.width * scale)), max(1, round(image.height * scale))), Image.Resampling.LANCZOS
    )


def _data_uri(image: Image.Image, kind: str, **options: Any) -> str:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64_text(buffer.getvalue())}"


def base64_text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
