"""From logits to a label map: the threshold between objects and background, the dense CRF, the arg-max."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cian.config import CrfConfig
from cian.crf import gpu
from cian.crf.dense import dense_crf
from cian.seeds.otsu import otsu

_CELLS = 64  # on the longer side: of a picture, those that its own threshold is looked for among
_SURE = 1.5  # nats: an object is somewhere 4.5 times as probable as background
_HOPELESS = 1 / 250  # a class that is nowhere more probable than this share of the most probable one


def probabilities(
    logits: Tensor, image: np.ndarray, allowed: np.ndarray | None, own_threshold: float, crf: CrfConfig | None
) -> np.ndarray:
    """Class probabilities at every pixel, without and with dense CRF.

    Args:
        logits: (K, H, W) at full size; on a GPU the CRF runs there, too.
        image: (H, W, 3) uint8.
        allowed: (K,) bool, the classes that may occur, background among them; others get 0. None = all.
        own_threshold: how far the border between objects and background moves to the picture's own, see `border`.
        crf: None or 0 iterations = softmax alone. A class that is nowhere more than 1/250 as probable as the most
            probable one takes no part and gets 0: of 21 classes of photographs half, without changing the mask.

    Returns:
        (K, H, W) float32.
    """
    device = logits.device
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
    """(K, …), some of the rows; without a copy if it is all."""
    return values if chosen.all() else values[chosen]


def border(logits: Tensor, within: float) -> float:
    """By how many nats an object must be more probable than background, in this picture, to be called one.

    How sure a network is varies from one picture to the next. If it is somewhere sure of an object, the border is drawn
    where the picture itself divides into two: at Otsu's threshold of the log odds of objects against background, looked
    for within ± `within`. Otherwise 0, as in the paper: a picture without objects divides into two, as well.

    Shape:
        logits: (K, H, W), background first.
    """
    step = max(1, max(logits.shape[1:]) // _CELLS)
    some = logits[:, step // 2 :: step, step // 2 :: step]
    odds = (some[1:].logsumexp(0) - some[0]).cpu().numpy()  # -inf without any other class
    return otsu(odds.clip(-within, within), -within, within) if odds.max(initial=0) > _SURE else 0.0


def _contenders(energies: Tensor) -> Tensor:
    """The classes that may win a pixel by CRF: (K,) bool for energies (K, H, W).

    A message is a mean of the class's probabilities times the weights of the kernels (some 13 in all): a class that is
    hopeless everywhere gets 0.05 nats.
    """
    lowest = energies.amin(0)
    behind = torch.stack([(each - lowest).amin() for each in energies])
    return behind < -math.log(_HOPELESS)


def label_map(result: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The most probable class of each pixel, at the full size of an image that was perhaps worked on at a smaller one.

    One class after the other is enlarged (bilinearly), so that memory does not grow with their number.

    Shape:
        result: (K, h, w) float32 probabilities; returns (H, W) uint8 for `size` (H, W).
    """
    best, mask = np.zeros(size, np.float32), np.zeros(size, np.uint8)
    for class_id, each in enumerate(result):
        if not each.any():
            continue
        if each.shape != size:
            each = np.asarray(Image.fromarray(each).resize(size[::-1], Image.Resampling.BILINEAR))
        np.putmask(mask, each > best, class_id)
        np.maximum(best, each, out=best)
    return mask
