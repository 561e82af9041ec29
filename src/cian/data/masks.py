"""Masks and label maps: indexed PNG files. Values are class ids, 255 is ignore."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageChops
from PIL.PngImagePlugin import PngInfo

from cian.data.images import GREY_STEPS, alone, lookup, open_image, orientation, raw_mode, strips, turned
from cian.data.palette import COLOURS, VOC_COLOURS
from cian.data.problems import FileError, file_error, reason
from cian.data.sbd import read_sbd
from cian.data.table import IGNORE
from cian.files import atomic

_CURE = "Save it as an indexed or an 8 bit grey PNG whose values are class ids"
_NOTE = "cian"  # the key of a note in a PNG file
WHOLE = 0.5  # a label map is whole if at most this share of its pixels is unlabelled


def indexed(mask: np.ndarray, colours: np.ndarray = COLOURS) -> Image.Image:
    """A (H, W) uint8 mask as an indexed image.

    Args:
        colours: (256, 3) uint8, by class id; `VOC_COLOURS` where a format asks for them.
    """
    image = Image.fromarray(np.ascontiguousarray(mask)).convert("L")
    image.putpalette(colours.tobytes())
    return image


def write_mask(path: Path, mask: np.ndarray, note: str | None = None) -> None:
    """Writes a (H, W) uint8 mask as indexed PNG. The file is whole or not there.

    Args:
        note: a text to store in the file, see `read_note`.

    Raises:
        CianError: the file cannot be written.
        ValueError: the mask is not (H, W) uint8.
    """
    if mask.ndim != 2 or mask.dtype != np.uint8 or mask.size == 0:
        raise ValueError(f"a mask is (H, W) uint8, not {mask.shape} {mask.dtype}")
    path = Path(path)
    try:
        with atomic(path) as temporary:
            texts = PngInfo()
            if note is not None:
                texts.add_text(_NOTE, note)
            indexed(mask).save(temporary, format="PNG", pnginfo=texts)
    except OSError as error:
        raise file_error(path, f"cannot be written ({reason(error)})", "Free space or choose another folder") from None


def read_note(path: Path) -> str | None:
    """The text that was written with a mask; None if there is none, e.g. because another program saved it since."""
    try:
        with Image.open(path, formats=("PNG",)) as image:
            return image.info.get(_NOTE)
    except (OSError, ValueError, Image.DecompressionBombError):  # reading the mask says it
        return None


def read_mask(path: Path, ids: np.ndarray | None = None) -> np.ndarray:
    """Reads a mask or a label map: class ids from indexed or grey PNG files as they are, from RGB PNG files by our
    colours or those of PASCAL VOC, and from the MATLAB files of SBD (see `data.sbd`). It is turned upright, as
    images are, if it has an EXIF orientation of its own.

    Args:
        ids: (256,) uint8, the class id of each value: `Table.mask_ids` for the masks and label maps of a table, None
            for files that cian wrote.

    Returns:
        (H, W) uint8, writable.

    Raises:
        CianError: the file is missing, damaged or of another kind, has too many pixels, or it holds values over 255 or
            colours of no class.
    """
    values = _read_values(path)
    return values if ids is None else lookup(ids, values)


def _read_values(path: Path) -> np.ndarray:
    if path.suffix.lower() == ".mat":
        return read_sbd(path)
    with open_image(path, formats=["PNG"]) as image, alone(image.width * image.height):
        return turned(_decoded(image, path), orientation(image))


def _decoded(image: Image.Image, path: Path) -> np.ndarray:
    step = GREY_STEPS.get(raw_mode(image), 1)
    if image.mode in ("1", "L", "P"):
        values = np.array(image).astype(np.uint8, copy=False)
        return values if step == 1 else values // step
    if image.mode == "I" or image.mode.startswith("I;16"):
        return _narrow(np.array(image), path)
    if image.mode in ("LA", "RGB", "RGBA"):
        if (grey := grey_ids(image)) is not None:
            return grey
        values = np.empty((image.height, image.width), np.uint8)
        for rows in strips(values):
            pixels = np.array(image.crop((0, rows.start, image.width, rows.stop)).convert("RGBA"))  # (h, W, 4)
            values[rows] = _from_colours(pixels, path, rows.start)
        return values
    raise file_error(path, f"a mask of mode {image.mode}", _CURE)


def grey_ids(image: Image.Image) -> np.ndarray | None:
    """(H, W) uint8: the class ids of a colour file whose bands are alike, as image libraries save them; None if it is
    none, if it is black and white, or if all its greys are colours of classes."""
    red, green, blue, alpha = image.convert("RGBA").split()
    alike = ImageChops.difference(red, green).getbbox() is None and ImageChops.difference(green, blue).getbbox() is None
    if not alike or alpha.getextrema() != (255, 255):
        return None
    greys = np.flatnonzero(red.histogram())
    if not any(0 < grey < IGNORE for grey in greys.tolist()):
        return None
    known = {tuple(colour) for colour in np.concatenate((COLOURS, VOC_COLOURS)).tolist()}
    return None if all((grey, grey, grey) in known for grey in greys.tolist()) else np.array(red)


def count_ids(mask: np.ndarray) -> np.ndarray:
    """(256,) the pixels of each class id in a mask (H, W) uint8."""
    return np.array(Image.fromarray(mask).histogram())  # np.bincount takes eight times the memory


def only_ignored(where: Path) -> FileError:
    """The error for masks that show objects as 255, as masks of a single class often do. No object would count."""
    value = f"holds {IGNORE}, which is ignored, but no mask holds a class id from 1 up"
    return file_error(where, value, f"Write the class's id where an object is, e.g. 1 instead of {IGNORE}")


def resize_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(H, W) uint8 → size (height, width), writable, by the nearest pixel: class ids are never blended."""
    return np.array(Image.fromarray(mask).resize(size[::-1], Image.Resampling.NEAREST))


def reduce_labels(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A label map reduced to size (height, width), so that strokes that people drew do not vanish.

    A map of which most is labelled is reduced by the nearest pixel. In other maps a pixel gets the class that most of
    the labelled pixels under it have.

    Shape:
        labels: (H, W) uint8, 255 = unlabelled. Returns `size` uint8, writable.
    """
    (height, width), (rows, columns) = labels.shape, size
    counts = count_ids(labels)
    if height < rows or width < columns or counts[IGNORE] <= WHOLE * labels.size:
        return resize_mask(labels, size)
    reduced, most = np.full(rows * columns, IGNORE, np.uint8), np.zeros(rows * columns, np.int64)
    for class_id in np.flatnonzero(counts[:IGNORE]):
        y, x = np.nonzero(labels == class_id)
        cells = y * rows // height * columns + x * columns // width
        votes = np.bincount(cells, minlength=len(most))
        reduced[votes > most] = class_id
        np.maximum(most, votes, out=most)
    return reduced.reshape(size)


def with_labels(mask: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """A mask or a seed map, with the labelled pixels of a label map in place of its own.

    Shape:
        mask: (h, w) uint8; labels: (H, W) uint8, 255 = unlabelled, reduced to (h, w) by `reduce_labels`. Returns (h, w)
        uint8.
    """
    if labels.shape != mask.shape:
        labels = reduce_labels(labels, mask.shape)
    return np.where(labels == IGNORE, mask, labels)


def fits(mask: tuple[int, int], image: tuple[int, int]) -> bool:
    """Whether a mask can score its image: both have the same (height, width), or the mask is larger in the same
    proportions, because the image was reduced."""
    return mask[0] >= image[0] and mask[1] >= image[1] and proportional(mask, image)


def proportional(first: tuple[int, int], second: tuple[int, int]) -> bool:
    """Whether one (height, width) is the other one reduced, up to the rounding of a side to whole pixels."""
    (height, width), (large_height, large_width) = sorted((first, second))
    off_height = abs(large_height * width / large_width - height)
    off_width = abs(large_width * height / large_height - width)
    return min(off_height, off_width) <= 1


def _narrow(values: np.ndarray, path: Path) -> np.ndarray:
    """(H, W) class ids of 16 bits -> uint8."""
    if values.max() > IGNORE:
        raise file_error(path, f"holds the value {values.max()}, over {IGNORE}", _CURE)
    return values.astype(np.uint8)


def _from_colours(pixels: np.ndarray, path: Path, top: int) -> np.ndarray:
    """(H, W, 4) uint8 RGBA -> (H, W) uint8 class ids.

    Args:
        top: the row of the mask that is the first one here.
    """
    if pixels[..., 3].min() < 255:
        raise file_error(path, "a mask with transparency", _CURE)
    weights = np.array([1 << 16, 1 << 8, 1])
    known = np.concatenate((COLOURS, VOC_COLOURS)) @ weights  # (512,); they share black alone, which is background
    codes = pixels[..., :3] @ weights  # (H, W)
    order = np.argsort(known)
    rows = order[np.searchsorted(known[order], codes).clip(max=len(known) - 1)]
    wrong = np.argwhere(known[rows] != codes)
    if len(wrong):
        y, x = wrong[0]
        colour = tuple(int(value) for value in pixels[y, x, :3])
        raise file_error(path, f"colour {colour} at x={x}, y={top + y} is not one of cian's or PASCAL VOC's", _CURE)
    return (rows % 256).astype(np.uint8)
