"""A trained model: load it, give it an image, get a mask."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from pydantic import ValidationError

from cian._version import __version__
from cian.config import FILES, Config, PredictConfig, dump_config
from cian.config.former import from_earlier
from cian.data.images import read_image, reduced, upright
from cian.data.masks import overlay
from cian.errors import CianError
from cian.files import read_json, write_json
from cian.inference.decide import label_map, probabilities
from cian.inference.logits import segment_logits
from cian.network import CIAN, build_network
from cian.training.checkpoint import load_weights, save_weights

FORMAT = 1  # of a model folder's config.json


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
        tree, _ = from_earlier(saved["config"], str(folder))  # none of those settings concerns a trained network
        config = Config.model_validate(tree)
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
