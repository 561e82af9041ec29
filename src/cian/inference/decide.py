"""From logits to a mask: the threshold between objects and background, the dense CRF, the arg-max."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cian.config import CrfConfig
from cian.crf import gpu
from cian.crf.dense import dense_crf
from cian.errors import CianError
from cian.seeds.threshold import otsu

_CELLS = 64  # pixels, along the longer side, that an image's own threshold is estimated from
_SURE = 1.5  # nats; at one pixel an object must be 4.5 times as probable as background
_PART = 1 << 22  # pixels that are enlarged at a time
_HOPELESS = 1 / 250  # a class is hopeless if no pixel gives it this share of the most probable class


def probabilities(
    logits: Tensor, image: np.ndarray, allowed: np.ndarray | None, own_threshold: float, crf: CrfConfig | None
) -> np.ndarray:
    """Class probabilities at every pixel, with or without dense CRF.

    Args:
        logits: (K, H, W) at the size of the image. If they are on a GPU, the CRF runs there.
        image: (H, W, 3) uint8.
        allowed: (K,) bool, the classes that may occur, background among them; others get 0. None allows all.
        own_threshold: how far, in nats, the threshold between objects and background may move; see `border`.
        crf: None, or 0 iterations, gives the softmax. A class that is nowhere more than 1/250 as probable as the most
            probable one is left out of the CRF and gets 0. On photographs with 21 classes, this is half of them, and
            the mask does not change.

    Returns:
        (K, H, W) float32.

    Raises:
        CianError: logits are NaN or infinite.
    """
    device = logits.device
    if not torch.isfinite(logits).all():
        raise CianError(
            "the network's output is NaN or infinite: its weights are damaged. Train again, or take another model."
        )
    taking_part = torch.ones(len(logits), dtype=torch.bool) if allowed is None else torch.tensor(allowed)
    taking_part = taking_part.to(device)
    values = _rows(logits, taking_part)
    energies = -values
    if own_threshold:
        energies[0] -= border(values, own_threshold)
    if crf is None or not crf.iterations:
        result = (-energies).softmax(0).cpu().numpy()
    else:
        contenders = _contenders(energies)
        energies = _rows(energies, contenders)
        taking_part[taking_part.clone()] = contenders
        settings: dict[str, Any] = {"gaussian": crf.gaussian, "bilateral": crf.bilateral, "iterations": crf.iterations}
        if energies.is_cuda:
            result = gpu.dense_crf(image, energies, **settings).cpu().numpy()
        else:
            result = dense_crf(image, energies.numpy(), **settings)
    if len(result) == len(logits):
        return result
    full = np.zeros(logits.shape, np.float32)
    full[taking_part.cpu().numpy()] = result
    return full


def _rows(values: Tensor, chosen: Tensor) -> Tensor:
    """The chosen rows of (K, …); no copy if all are chosen."""
    return values if chosen.all() else values[chosen]


def border(logits: Tensor, within: float) -> float:
    """The image's own threshold between objects and background, in nats of the log odds.

    A network is more sure on one image than on the next. If some pixel is surely an object, the threshold is Otsu's, of
    the log odds of objects against background, searched for within ± `within`. Otherwise it is 0, as in the paper,
    because Otsu's method also divides an image without objects into two.

    Shape:
        logits: (K, H, W), background first.
    """
    step = max(1, max(logits.shape[1:]) // _CELLS)
    some = logits[:, step // 2 :: step, step // 2 :: step]
    odds = (some[1:].logsumexp(0) - some[0]).cpu().numpy()  # -inf without any other class
    return otsu(odds.clip(-within, within), -within, within) if odds.max(initial=0) > _SURE else 0.0


def _contenders(energies: Tensor) -> Tensor:
    """The classes that the CRF may give a pixel: (K,) bool for energies (K, H, W).

    A message is a mean of the class's probabilities times the kernels' weights, which sum to about 13. For a class that
    is hopeless everywhere, this is at most 0.05 nats.
    """
    lowest = energies.amin(0)
    behind = torch.stack([(each - lowest).amin() for each in energies])
    return behind < -math.log(_HOPELESS)


def label_map(result: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The most probable class of each pixel, at the size of the image.

    Probabilities of a smaller size are enlarged (bilinearly), one class after the other, so that memory does not grow
    with the number of classes.

    Shape:
        result: (K, h, w) float32 probabilities. Returns (H, W) uint8 for `size` (H, W).
    """
    best, mask = np.zeros(size, np.float32), np.zeros(size, np.uint8)
    for class_id, each in enumerate(result):
        if not each.any():
            continue
        for columns, part in _enlarged(each, size):
            np.copyto(mask[:, columns], class_id, where=part > best[:, columns])
            np.maximum(best[:, columns], part, out=best[:, columns])
    return mask


def _enlarged(values: np.ndarray, size: tuple[int, int]) -> Iterator[tuple[slice, np.ndarray]]:
    """(h, w) float32 enlarged to `size` (H, W): columns, a few at a time, and their values (H, columns).

    Pillow enlarges along x first, so that each column then depends on itself alone.
    """
    if values.shape == size:
        yield slice(None), values
        return
    (height, width), rows = size, len(values)
    wide = Image.fromarray(values).resize((width, rows), Image.Resampling.BILINEAR)
    step = max(1, _PART // height)
    for left in range(0, width, step):
        right = min(left + step, width)
        part = wide.crop((left, 0, right, rows)).resize((right - left, height), Image.Resampling.BILINEAR)
        yield slice(left, right), np.asarray(part)
