"""Images on the page, each stored once, and the layers that lie over them."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from PIL import Image
from scipy.ndimage import maximum_filter, minimum_filter

from cian.data.masks import palette, resize_mask
from cian.data.table import IGNORE

THUMB = 360  # longest side of an image on the page, in pixels

Layer = str  # data URI of a layer that lies over an image


class Pictures:
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
    return "#{:02x}{:02x}{:02x}".format(*palette()[class_id])


def mask_layer(mask: np.ndarray, size: tuple[int, int], *, seeds: bool = False) -> Layer:
    """A mask in the colours of its classes, with solid outlines, transparent where there is no class.

    Args:
        mask: (H, W) uint8.
        size: (width, height) of the layer.
        seeds: whether it is a seed map: background is dark and unlabelled pixels (255) are clear. In other masks,
            background is clear and ignored pixels (255) are pale.
    """
    small = resize_mask(mask, size[::-1])
    classes = [int(i) for i in np.unique(small) if i not in (0, IGNORE)]
    if not classes and not (small == (0 if seeds else IGNORE)).any():
        return _paletted(np.zeros((1, 1), np.uint8), [(0, 0, 0, 0)])
    edge = maximum_filter(small, 3) != minimum_filter(small, 3)
    plain = (14, 17, 24, 170) if seeds else (255, 255, 255, 150)
    colours = [(0, 0, 0, 0), plain]
    layer = (small == (0 if seeds else IGNORE)).astype(np.uint8)
    for class_id in classes[:126]:
        layer[small == class_id] = len(colours)
        layer[(small == class_id) & edge] = len(colours) + 1
        red, green, blue = (int(value) for value in palette()[class_id])
        colours += [(red, green, blue, 150), (red, green, blue, 255)]
    return _paletted(layer, colours)


def heat_layer(values: np.ndarray) -> Layer:
    """A heat map, (h, w): float in [0, 1] or uint8 levels."""
    if values.dtype != np.uint8:
        values = (values.clip(0, 1) * 255).round().astype(np.uint8)
    return _paletted(values)


def _paletted(indices: np.ndarray, colours: Sequence[tuple[int, ...]] | None = None) -> Layer:
    """An indexed PNG. Without colours it is a heat map: low values are dark and half clear, high values bright."""
    if colours is None:
        ramp = matplotlib.colormaps["inferno"](np.linspace(0, 1, 256))
        ramp[:, 3] = np.linspace(0.5, 0.82, 256)
        colours = [tuple(int(v) for v in entry) for entry in (ramp * 255).round()]
    image = Image.fromarray(np.ascontiguousarray(indices)).convert("L")
    image.putpalette([value for entry in colours for value in entry[:3]])
    return _data_uri(image, "PNG", optimize=True, transparency=bytes(entry[3] for entry in colours))


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
