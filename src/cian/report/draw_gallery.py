"""Draws rows of images for the page: each image once, and layers over it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from PIL import Image

from cian.report.gallery import ImageRow, View
from cian.report.page_images import Layer, PageImages, draw_heat, draw_mask


def draw_rows(rows: Iterable[ImageRow], class_names: tuple[str, ...], images: PageImages) -> list[dict[str, Any]]:
    """What the page shows of each row."""

    def named(class_ids: list[int]) -> list[dict[str, Any]]:
        return [{"class_id": i, "name": class_names[i]} for i in class_ids]

    drawn = []
    for row in rows:
        place = images.add(row.image_id, row.image)
        size = place["width"], place["height"]
        found = row.found
        drawn.append(
            {
                **place,
                "tiles": [
                    {"name": view.name, "about": view.about, "layer": _draw(view, size), "score": view.score}
                    for view in row.views
                ],
                "classes": named(row.classes),
                "tagged": row.tagged,
                "missed": named(found.missed) if found else [],
                "invented": named(found.invented) if found else [],
            }
        )
    return drawn


def _draw(view: View, size: tuple[int, int]) -> Layer | None:
    if view.mask is not None:
        return draw_mask(view.mask, size)
    return None if view.heat is None else draw_heat(_resized(view.heat, size, 4))


def _resized(values: np.ndarray, size: tuple[int, int], factor: int) -> np.ndarray:
    """A smooth (H, W) float map at 1 / factor of a (width, height)."""
    target = (max(1, size[0] // factor), max(1, size[1] // factor))
    return np.asarray(Image.fromarray(values.astype(np.float32)).resize(target, Image.Resampling.BILINEAR))
