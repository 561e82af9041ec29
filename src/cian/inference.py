"""Prediction: multi-scale, mirrored, with dense CRF. Every stage that predicts goes through here."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from pydantic import ValidationError
from torch import Tensor

from cian import crf_torch
from cian._version import __version__
from cian.config import FILES, Config, CrfConfig, PredictConfig, dump_config
from cian.crf import dense_crf
from cian.data.images import read_image, reduced, upright
from cian.data.masks import overlay
from cian.errors import CianError
from cian.grid import as_input, scaled, upsample
from cian.network import CIAN, build_network
from cian.otsu import otsu
from cian.runs import read_json, write_json
from cian.training import load_weights, save_weights

FORMAT = 1  # of a model folder's config.json
_CELLS = 64  # on the longer side: of a picture, those that its own threshold is looked for among
_SURE = 1.5  # nats: an object is somewhere 4.5 times as probable as background
_HOPELESS = 1 / 250  # a class that is nowhere more probable than this share of the most probable one


@torch.no_grad()
def multi_scale_logits(network: CIAN, image: np.ndarray, scales: Sequence[float], mirror: bool) -> Tensor:
    """Logits of one image alone: the mean over the scales and, with several, over their maximum as one more map; then
    the mean with the mirrored image's.

    They are fused on the finest scale's grid and not yet at full size (see `grid.upsample`).

    Shape:
        image: (H, W, 3) uint8. Returns (K, h, w) float32.
    """
    pixels = as_input(image, network.backbone, next(network.parameters()).device)
    maps: list[Tensor] = []
    for scale in scales:
        batch = scaled(pixels, scale, network.backbone)
        if mirror:
            batch = torch.cat([batch, batch.flip(3)])
        maps.append(network(batch, group_size=1)[0].float())  # (1 or 2, K, h, w)
    finest = max((logits.shape[2:] for logits in maps), key=lambda size: size[0] * size[1])
    stack = torch.stack([upsample(logits, finest, network.backbone) for logits in maps])  # (S, 1 or 2, K, h, w)
    if len(scales) > 1:
        stack = torch.cat([stack, stack.amax(0, keepdim=True)])
    fused = stack.mean(0)
    return (fused[0] + fused[1].flip(2)) / 2 if mirror else fused[0]


def segment_logits(network: CIAN, image: np.ndarray, settings: PredictConfig) -> Tensor:
    """(H, W, 3) uint8 → multi-scale logits (K, H, W) float32 on the network's device.

    Sides over `settings.tile` are cut into tiles that overlap by a quarter; there the weight goes over from one tile to
    the next linearly, so that no seam shows.
    """
    height, width = image.shape[:2]
    rows, columns = (_tiles(side, settings.tile) for side in (height, width))
    total: Tensor | None = None
    for top, bottom, vertical in rows:
        for left, right, horizontal in columns:
            fused = multi_scale_logits(network, image[top:bottom, left:right], settings.scales, settings.mirror)
            logits = upsample(fused[None], (bottom - top, right - left), network.backbone)[0]  # (K, h, w)
            if len(rows) == len(columns) == 1:
                return logits
            if total is None:
                total = logits.new_zeros(len(logits), height, width)
            weights = torch.from_numpy(np.outer(vertical, horizontal)).to(logits)  # (h, w)
            total[:, top:bottom, left:right] += logits.mul_(weights)
    assert total is not None
    return total


def _tiles(side: int, most: int) -> list[tuple[int, int, np.ndarray]]:
    """(start, end, weights (end - start,)) of the tiles along one side: evenly laid, none longer than `most`; the
    weights of all tiles sum to 1 at every pixel."""
    if side <= most:
        return [(0, side, np.ones(side, np.float32))]
    overlap = most // 4
    count = -(-(side - overlap) // (most - overlap))
    starts = np.linspace(0, side - most, count).round().astype(int)
    ends = starts + most
    ramps, total = [], np.zeros(side, np.float32)
    for i, (start, end) in enumerate(zip(starts, ends, strict=True)):
        ramp = np.ones(most, np.float32)
        if i:
            shared = ends[i - 1] - start
            ramp[:shared] *= (np.arange(shared) + 0.5) / shared
        if i < count - 1:
            shared = end - starts[i + 1]
            ramp[-shared:] *= 1 - (np.arange(shared) + 0.5) / shared
        ramps.append(ramp)
        total[start:end] += ramp
    # where three tiles lie over each other, ramps alone do not sum to 1
    return [(int(s), int(e), ramp / total[s:e]) for s, e, ramp in zip(starts, ends, ramps, strict=True)]


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
            result = crf_torch.dense_crf(image, energies, **settings).cpu().numpy()
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


@dataclass(frozen=True)
class Prediction:
    """What a model says about one image.

    Attributes:
        image: (H, W, 3) uint8.
        mask: (H, W) uint8 class ids, 0 = background.
        probabilities: (K, h, w) float32, at the size that was worked on: that of the image, if it is not larger than
            the `max_side` of the configuration.
        class_names: K names by class id, background first.
    """

    image: np.ndarray
    mask: np.ndarray
    probabilities: np.ndarray
    class_names: tuple[str, ...]

    @property
    def classes(self) -> dict[str, float]:
        """The classes found, with their share of the picture, largest first; background left out."""
        shares = np.bincount(self.mask.ravel(), minlength=len(self.class_names)) / self.mask.size
        found = {self.class_names[i]: float(shares[i]) for i in np.argsort(-shares) if i and shares[i]}
        return found

    def overlay(self, alpha: float = 0.5) -> np.ndarray:
        """(H, W, 3) uint8: the picture with the mask over it."""
        return overlay(self.image, self.mask, alpha)


class Segmenter:
    """A trained network with its classes and its way of predicting.

    Args:
        network: put into evaluation mode.
        config: the configuration that it was trained with.
        class_names: K names, background first.
    """

    def __init__(self, network: CIAN, config: Config, class_names: Sequence[str], device: str | torch.device = "cpu"):
        self.network = network.eval().to(device).to(memory_format=torch.channels_last)
        self.config = config
        self.class_names = tuple(class_names)

    def predict(
        self,
        image: str | Path | np.ndarray | Image.Image,
        tags: Sequence[str] | None = None,
        settings: PredictConfig | None = None,
    ) -> Prediction:
        """Segments one image.

        Args:
            image: a path, a Pillow image (which is put upright by its EXIF orientation), or (H, W, 3) uint8 RGB. Large
                JPEG files are read at a reduced size, so that a few pixels may differ from those of the same pixels
                given as an array.
            tags: if known, the only classes that may occur besides background.
            settings: scales, mirror and CRF; default: as configured.

        Raises:
            CianError: the image cannot be read, or a tag is no class of the model.
        """
        settings = settings or self.config.predict
        side = self.config.max_side
        if isinstance(image, Image.Image):
            image = upright(image)
        if isinstance(image, np.ndarray):
            if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
                raise CianError(f"image: {image.dtype} {image.shape}; give (H, W, 3) uint8 RGB, or a path.")
            working = reduced(image, side)
        else:
            path = Path(image)
            image, working = read_image(path), read_image(path, side)
        allowed = None if tags is None else self.allowed(tags)
        logits = segment_logits(self.network, working, settings)
        result = probabilities(logits, working, allowed, settings.own_threshold, settings.crf)
        return Prediction(image, label_map(result, image.shape[:2]), result, self.class_names)

    def save(self, folder: str | Path) -> None:
        """Writes what `load` reads: config.json and model.safetensors. The paths and the device of the machine that
        trained the network stay behind: first weights, ready-made seeds and saliency maps are as by default."""
        folder = Path(folder)
        save_weights(self.network, folder / "model.safetensors")
        tree = dump_config(self.config)
        del tree["data"], tree["runtime"]
        defaults = dump_config(Config())
        for section, key in (name.split(".") for name in FILES):
            tree[section][key] = defaults[section][key]
        write_json(
            folder / "config.json",
            {"format": FORMAT, "cian": __version__, "classes": list(self.class_names), "config": tree},
        )

    def digest(self) -> str:
        """A fingerprint of the weights and the classes."""
        hashed = hashlib.sha256("\0".join(self.class_names).encode())
        for name, value in self.network.state_dict().items():
            hashed.update(name.encode() + value.cpu().contiguous().numpy().tobytes())
        return hashed.hexdigest()[:16]

    def allowed(self, tags: Sequence[str]) -> np.ndarray:
        """(K,) bool of background and some tags.

        Raises:
            CianError: a tag is no class of the model.
        """
        allowed = np.zeros(len(self.class_names), bool)
        allowed[0] = True
        for tag in [tags] if isinstance(tags, str) else tags:
            if tag not in self.class_names:
                raise CianError(
                    f"tag {tag!r}: not a class of this model. Its classes: {', '.join(self.class_names[1:])}."
                )
            allowed[self.class_names.index(tag)] = True
        return allowed


def load(source: str | Path, device: str | torch.device = "auto") -> Segmenter:
    """A trained model from its folder (`runs/NAME/model`, or a run) or from a Hugging Face hub id (`owner/name`).

    Raises:
        CianError: there is no model, or its files do not fit.
    """
    folder = Path(source)
    if (folder / "model" / "config.json").is_file():
        folder = folder / "model"
    if not (folder / "config.json").is_file():
        folder = _download(str(source))
    saved: dict[str, Any] = read_json(folder / "config.json")
    if saved.get("format") != FORMAT:
        raise CianError(
            f"{folder / 'config.json'}: format {saved.get('format')!r}; this version of cian reads {FORMAT}."
        )
    try:
        config = Config.model_validate(saved["config"])
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise CianError(
            f"{folder / 'config.json'}: {where}: {error.errors()[0]['msg']}. The model was saved by cian "
            f"{saved.get('cian')}, this is {__version__}: use that version, or train again."
        ) from None
    network = build_network(config, len(saved["classes"]), weights="random")
    load_weights(network, folder / "model.safetensors")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return Segmenter(network, config, saved["classes"], device)


def _download(hub_id: str) -> Path:
    owner, _, name = hub_id.partition("/")
    if not all(re.fullmatch(r"\w[\w.-]*", part, re.ASCII) for part in (owner, name)) or Path(owner).exists():
        raise CianError(
            f"{hub_id}: no model here (config.json is missing). Give runs/NAME/model, or a hub id owner/name."
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils import RepositoryNotFoundError

    try:
        return Path(snapshot_download(hub_id, allow_patterns=["config.json", "model.safetensors"]))
    except Exception as error:  # noqa: BLE001 - the hub client raises many kinds
        says = "has no such model" if isinstance(error, RepositoryNotFoundError) else "could not be reached"
        cause = error.__cause__ or error  # says it in one line
        reason = f"{type(cause).__name__}: {str(cause).strip().partition(chr(10))[0]}"
        raise CianError(
            f"{hub_id}: no such model folder here, and the Hugging Face hub {says} ({reason}). Give runs/NAME/model, "
            "or a hub id owner/name."
        ) from None
