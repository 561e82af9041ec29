"""Masks that snap to strokes: the dense CRF over the network's scores, with the strokes as they are."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cian.app.network import Latest, Network
from cian.app.project import Project
from cian.app.strokes import MOST_FILLS, UNTOUCHED, Stroke, draw
from cian.data.images import reduced
from cian.data.masks import read_mask, resize_mask
from cian.data.table import IGNORE

SIDE = 512  # longer side of the mask, in pixels
_SURE = 3.0  # nats: how much an approved mask is trusted against new strokes beside it
_HOPELESS = 5.5  # nats: a class further behind at every pixel takes no part
# Chosen on ten of VOC's images with wrong masks: three strokes raise the IoU of their objects from 21 to 55 %.
_REACH = 0.12  # how far a stroke reaches, as a share of the longer side
_ALIKE = 25.0  # levels of 255: how much its colours may differ
_PULL = 8.0  # nats that it adds to its class
_DOUBT, _DOUBT_REACH = 0.5, 0.25  # how much less the network counts close to it, and how far that reaches


class _Start(NamedTuple):
    """What the CRF starts from."""

    image: np.ndarray  # (h, w, 3) uint8
    energies: np.ndarray  # (K, h, w) float32
    allowed: np.ndarray  # (K,) bool: the classes that may occur without a stroke


class Snapper:
    def __init__(self, project: Project, network: Network):
        self.project, self.network = project, network
        self._starts: Latest[tuple, _Start] = Latest(8)
        self._masks: Latest[tuple, np.ndarray] = Latest(2 * MOST_FILLS)  # a mask after each fill, and others

    def snap(self, i: int, strokes: tuple[Stroke, ...], base: str) -> np.ndarray:
        """(h, w) uint8: the mask after the strokes, 255 where a person is not sure.

        Args:
            base: where it starts from: "prediction", what the network says, or "label", the approved mask.

        Raises:
            Refusal: there is no model.
        """
        start = self._start(i, base)
        key = (start, strokes)
        if (mask := self._masks.find(key)) is None:
            begun = self._begun(i, start)
            mask = self._snapped(begun, self.draw(i, strokes, base, begun.image.shape[:2]))
            self._masks.keep(key, mask)
        return mask

    def prepare(self, i: int) -> None:
        """Asks the network about an image that someone has opened, before the first stroke."""
        if self.project.has_model:
            self.network.worker.do(lambda: self.network.scores(i), urgent=False)

    def draw(self, i: int, strokes: tuple[Stroke, ...], base: str, shape: tuple[int, int]) -> np.ndarray:
        """(h, w) int16 for a shape (h, w): the strokes, in order. A fill takes the part of the mask that its point was
        in when it was made."""
        drawn = np.full(shape, UNTOUCHED, np.int16)
        for count, stroke in enumerate(strokes):
            mask = None
            if stroke.kind == "fill":
                mask = resize_mask(self.snap(i, strokes[:count], base), shape)
            draw(stroke, drawn, self.project.size(i), mask)
        return drawn

    def _start(self, i: int, base: str) -> tuple:
        """What a mask starts from, and changes with it."""
        file = self.project.mask_file("label", i) if base == "label" else None
        if file is not None:
            status = file.stat()
            return i, "label", status.st_mtime_ns, status.st_size
        return i, "prediction", self.project.model_stamp()

    def _begun(self, i: int, start: tuple) -> _Start:
        if (known := self._starts.find(start)) is None:
            known = self.network.worker.do(lambda: self._compute(i, start)).result()
            self._starts.keep(start, known)
        return known

    def _compute(self, i: int, start: tuple) -> _Start:
        scores = self.network.scores(i)
        image = reduced(scores.image, SIDE)
        shape, classes = image.shape[:2], self.project.table.num_classes
        if start[1] == "label" and (file := self.project.mask_file("label", i)) is not None:
            mask = resize_mask(read_mask(file, self.project.table.mask_ids), shape)
            energies = np.full((classes, *shape), _SURE, np.float32)
            energies[:, mask == IGNORE] = 0
            np.put_along_axis(energies, np.where(mask < classes, mask, 0)[None], 0, 0)
            held = np.isin(np.arange(classes), mask)
            return _Start(image, energies, held if held.any() else np.ones(classes, bool))
        segmenter = self.network.segmenter()
        from cian.inference.decide import border

        logits = segmenter.network.backbone.grid.upsample(scores.logits[None], shape)[0]
        below = -logits
        allowed = self.network.allowed(i)
        if within := segmenter.config.predict.own_threshold:
            below[0] -= border(logits if allowed is None else logits[allowed], within)
        return _Start(image, below.numpy(), np.ones(classes, bool) if allowed is None else allowed)

    def _snapped(self, begun: _Start, drawn: np.ndarray) -> np.ndarray:
        from cian.crf.dense import dense_crf

        self.network.worker.disturb()
        crf = self.project.config.predict.crf
        touched = (drawn != UNTOUCHED) & (drawn != IGNORE)
        stroked = np.unique(drawn[touched])
        energies = begun.energies
        behind = (energies - energies[begun.allowed].min(0)).min((1, 2))
        taking_part = begun.allowed & (behind < _HOPELESS)
        taking_part[stroked] = True
        chosen = np.flatnonzero(taking_part)
        unary = energies[chosen]
        if len(stroked):
            _draw_near(begun.image, unary, chosen, drawn, touched)
        unary[:, touched] = np.inf
        for row, class_id in enumerate(chosen):
            unary[row][drawn == class_id] = 0
        result = dense_crf(
            begun.image, unary, gaussian=crf.gaussian, bilateral=crf.bilateral, iterations=crf.iterations
        )
        mask = chosen[result.argmax(0)].astype(np.uint8)
        mask[drawn == IGNORE] = IGNORE
        return mask


def _draw_near(
    image: np.ndarray, unary: np.ndarray, class_ids: np.ndarray, drawn: np.ndarray, touched: np.ndarray
) -> None:
    """Lets each stroke speak for what lies near it in its colours, and the network less. Strokes alone, held fixed in
    the CRF, move the mask little: the network is sure of what it got wrong.

    Shape:
        image: (h, w, 3) uint8; unary: (L, h, w), is changed; class_ids: (L,); drawn: (h, w); touched: (h, w) bool,
        where `drawn` holds a class.
    """
    from scipy.ndimage import distance_transform_edt

    distance, (rows, columns) = distance_transform_edt(~touched, return_indices=True)  # the nearest stroked pixel
    far = np.square(distance / max(touched.shape)).astype(np.float32)
    colours = image.astype(np.float32)
    other = np.square((colours - colours[rows, columns]) / _ALIKE).sum(-1)
    unary *= 1 - _DOUBT * np.exp(-far / (2 * _DOUBT_REACH**2))
    pull = _PULL * np.exp(-far / (2 * _REACH**2) - other / 2)
    unary -= pull * (class_ids[:, None, None] == drawn[rows, columns])
