"""What a predicted mask was made from: a note in the mask's own file.

From this note, `cian predict` knows which masks are up to date, which somebody has corrected since, and which it did
not write.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from cian.data.images import read_image
from cian.data.masks import read_mask, read_note, resize_mask, write_mask
from cian.data.overlay import overlay
from cian.errors import CianError
from cian.files import atomic

_CHOICE = "Give another --out, or --overwrite."


@dataclass(frozen=True)
class Origin:
    """What a mask was predicted from. The attributes are the keys of the note, as JSON.

    Attributes:
        made_with: fingerprint of the model and the settings.
        tags: the image's tags; None if none were given.
        picture: fingerprint of the image's pixels, as they were given to the network.
        file: size in bytes and time of change in ns of the image's file. While they are the same, so are the pixels.
        mask: fingerprint of the mask's pixels. They differ once somebody has corrected the mask.
    """

    made_with: str
    tags: list[str] | None
    picture: str
    file: list[int]
    mask: str


def write_predicted(
    path: Path, mask: np.ndarray, image: np.ndarray, image_file: Path, tags: list[str] | None, made_with: str
) -> None:
    """Writes a mask with the note of its origin.

    Args:
        image: as it was given to the network.
    """
    origin = Origin(made_with, tags, fingerprint(image), _size_and_time(image_file), fingerprint(mask))
    write_mask(path, mask, json.dumps(asdict(origin)))


def read_origin(mask: Path) -> Origin | None:
    """None if `cian predict` did not write the mask, or if another program or version has saved it since."""
    text = read_note(mask)
    try:
        return None if text is None else Origin(**json.loads(text))
    except (ValueError, TypeError, RecursionError):
        return None


def write_overlay(path: Path, image: np.ndarray, mask: np.ndarray) -> None:
    """Writes the image with its mask over it, to look at. The comment of the file says which mask it is.

    Shape:
        image: (H, W, 3) uint8; mask: uint8, of any size.
    """
    view = overlay(image, resize_mask(mask, image.shape[:2]))
    with atomic(path) as temporary:
        Image.fromarray(view).save(temporary, quality=90, comment=fingerprint(mask))


def shows_mask(path: Path, mask: np.ndarray) -> bool:
    """Whether `write_overlay` wrote this file for this mask."""
    try:
        with Image.open(path, formats=("JPEG",)) as view:
            return view.info.get("comment") == fingerprint(mask).encode()
    except (OSError, ValueError):
        return False


def is_corrected(mask: Path, origin: Origin) -> bool:
    """Whether somebody has changed the mask's pixels since it was predicted.

    Raises:
        CianError: the mask is damaged.
    """
    return fingerprint(read_mask(mask)) != origin.mask


def check_maker(mask: Path, origin: Origin, made_with: str) -> None:
    """
    Raises:
        CianError: the mask was made with another model or other settings.
    """
    if origin.made_with != made_with:
        raise CianError(f"{mask}: was made with another model or other settings. {_CHOICE}")


def check_image(mask: Path, origin: Origin, image_file: Path, max_side: int) -> None:
    """
    Raises:
        CianError: the mask was made from another image.
    """
    if origin.file == _size_and_time(image_file):
        return
    try:
        pixels = read_image(image_file, max_side)
    except CianError:  # reported when its turn comes
        return
    if fingerprint(pixels) != origin.picture:
        raise CianError(f"{mask}: belongs to another image than {image_file}. Remove the mask. Or: {_CHOICE}")


def check_tags(mask: Path, origin: Origin, tags: list[str] | None) -> None:
    """
    Raises:
        CianError: the mask was made with tags, and none are given now.
    """
    if tags is None and origin.tags is not None:
        raise CianError(f"{mask}: was made with tags, and none are given now. Give --tags. Or: {_CHOICE}")


def fingerprint(pixels: np.ndarray) -> str:
    """A short fingerprint of an image or a mask."""
    hashed = hashlib.blake2b(repr(pixels.shape).encode(), digest_size=8)
    hashed.update(pixels.tobytes())
    return hashed.hexdigest()


def _size_and_time(file: Path) -> list[int]:
    """Size in bytes and time of change in ns; empty if there is no such file."""
    with suppress(OSError):
        status = file.stat()
        return [status.st_size, status.st_mtime_ns]
    return []
