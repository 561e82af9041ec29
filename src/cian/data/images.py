"""Reads images of any common format into one form: (H, W, 3) uint8 RGB, upright."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, cast

import numpy as np
from PIL import (  # noqa: F401 (the decoders register themselves)
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)
from PIL.TiffImagePlugin import ImageFileDirectory_v2, TiffImageFile

from cian.data.problems import FileError, file_error, reason
from cian.errors import CianError

# Pillow is given these names, so that none of its 30 other decoders runs: that of PostScript starts Ghostscript.
FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "WEBP", "GIF", "PPM")
_HEIF = "HEIF"  # Pillow's name of HEIC, which pillow-heif registers
DECODING = 3  # raised when an image is read differently: what was learnt from earlier reading is then out of date

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".jfif", ".png", ".tif", ".tiff", ".bmp", ".webp", ".gif", ".ppm", ".pgm"})
HEIF_SUFFIXES = frozenset({".heic", ".heif", ".hif"})  # read if pillow-heif is installed
KNOWN_SUFFIXES = (  # images of every kind; those that are not read are reported
    IMAGE_SUFFIXES
    | HEIF_SUFFIXES
    | {".avif", ".jxl", ".jp2", ".j2k", ".tga", ".exr", ".dcm", ".svg", ".eps", ".pdf", ".psd", ".xcf"}
    | {".raw", ".dng", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".sr2", ".orf", ".rw2", ".raf", ".pef", ".srw"}
)
# Folders of operating systems and network drives, in lower case: thumbnails and deleted files.
_SYSTEM_FOLDERS = frozenset(
    {"@eadir", "@recycle", "@recently-snapshot", "@tmp", "#recycle", "#snapshot", "$recycle.bin", "recycler"}
    | {"lost+found", "system volume information", "__macosx", "network trash folder", "temporary items"}
)
MAX_PIXELS = 500_000_000

_STARTS = {  # of files that are often found under the name of an image
    b"%!PS": "PostScript",
    b"\xc5\xd0\xd3\xc6": "PostScript",
    b"%PDF": "PDF",
    b"8BPS": "a Photoshop image",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"\0\0\0\x0cJXL ": "JPEG XL",
    b"\xff\x0a": "JPEG XL",
    b"<svg": "SVG",
    b"version https://git-lfs": "a Git LFS pointer",
    b"<!doctype html": "a web page",
    b"<html": "a web page",
}
_NO_IMAGES = ("a Git LFS pointer", "a web page")
_BRANDS = dict.fromkeys(
    (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"), "HEIC"
) | {b"avif": "AVIF", b"avis": "AVIF"}

# Pillow's own limit (179 Mpx) refuses large photographs and maps; ours is checked before any pixel is decoded.
Image.MAX_IMAGE_PIXELS = MAX_PIXELS

# The texts and the colour profile of a PNG file unpack to at most this many bytes each; Pillow's own limit is 1 MB.
PngImagePlugin.MAX_TEXT_CHUNK = 32 * 2**20

_BITS_TAG, _PHOTOMETRIC_TAG, _BANDS_TAG, _PLANES_TAG, _NUMBERS_TAG = 258, 262, 277, 284, 339
_NUMBERS = {1: "whole numbers", 2: "signed numbers", 3: "floats", 5: "complex numbers", 6: "complex numbers"}
_ORIENTATION_TAG = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = frozenset({5, 6, 7, 8})
_TOPS = (1023, 4095, 16383, 65535)  # of 10, 12, 14 and 16 bits: cameras store fewer bits in 16
_FEW_BITS = 63  # the highest upper byte of values of 14 bits
_WITH_ALPHA = frozenset({"LA", "La", "PA", "RGBA", "RGBa"})


def read_image(path: Path, max_side: int | None = None) -> np.ndarray:
    """Reads the first frame of an image, turned upright by its EXIF orientation.

    Transparent images are composited on white. 16 bit grey and colour are scaled by the bits that they use
    (10, 12, 14 or 16).
    Integers of 32 bits and floats have no natural range, so they are scaled by their minimum and maximum.

    The content decides which decoder reads the file, whatever its suffix, and only those of `FORMATS` do. HEIC is read
    if pillow-heif is installed.

    Args:
        max_side: larger images are reduced so that their longer side has this many pixels (JPEGs are decoded at a
            reduced size, which is fast).

    Returns:
        (H, W, 3) uint8 RGB, writable.

    Raises:
        CianError: there is no such file, it is not an image, it is truncated, or it has over `MAX_PIXELS` pixels.
    """
    with open_image(path) as image:
        orientation = _orientation(image)  # before decoding: some decoders drop it
        size = None if max_side is None else _reduced(image.size, max_side)
        if size is not None:
            image.draft(None, size)  # keeps the mode; only JPEG decoders do something
        pixels = _file_rgb(path, image)  # (H, W, 3)
        if max_side is not None:
            pixels = reduced(pixels, max_side)
        return _turned(pixels, orientation)


def upright(image: Image.Image) -> np.ndarray:
    """(H, W, 3) uint8 RGB of a Pillow image, as `read_image` returns it for a file.

    Raises:
        CianError: it is a file of a format that `read_image` does not read. Pillow decodes files late, here.
    """
    if isinstance(image, ImageFile.ImageFile) and image.format not in (*FORMATS, "MPO", _HEIF):
        raise CianError(
            f"image: a Pillow image of format {image.format}, which cian does not decode. Give image.convert('RGB')."
        )
    orientation = _orientation(image)
    return _turned(_rgb(image), orientation)


def _turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    if orientation not in _UPRIGHT:
        return pixels
    return np.array(Image.fromarray(pixels).transpose(_UPRIGHT[orientation]))


def reduced(image: np.ndarray, max_side: int) -> np.ndarray:
    """The image reduced to a longer side of at most `max_side` pixels. A smaller image is returned as it is.

    Shape:
        image: (H, W, 3) uint8; the result is of the same kind.
    """
    size = _reduced(image.shape[1::-1], max_side)
    if size is None:
        return image
    return np.array(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))


def _reduced(size: tuple[int, int], max_side: int) -> tuple[int, int] | None:
    """The size with its longer side reduced to `max_side`; None if it is not longer."""
    width, height = size
    scale = max_side / max(size)
    return None if scale >= 1 else (max(1, round(width * scale)), max(1, round(height * scale)))


def image_size(path: Path) -> tuple[int, int]:
    """(height, width) of the image as `read_image` returns it, without decoding its pixels.

    Raises:
        CianError: as `read_image`, except for files that are truncated after their header.
    """
    with open_image(path) as image:
        width, height = image.size
        return (width, height) if _orientation(image) in _SIDEWAYS else (height, width)


def decode(path: Path) -> tuple[int, int]:
    """(height, width) of the image, all of whose pixels are decoded: `read_image` will read it.

    A JPEG file is decoded at an eighth of its size, which takes a 64th of the memory. All of the file is still read.

    Raises:
        CianError: as `read_image`.
    """
    with open_image(path) as image:
        width, height = image.size
        sideways = _orientation(image) in _SIDEWAYS
        if image.format in ("JPEG", "MPO"):  # not HEIC: its decoder would read the small image that lies in the file
            image.draft(None, (max(1, width // 8), max(1, height // 8)))
        _file_rgb(path, image)
        return (width, height) if sideways else (height, width)


def find_images(folder: Path) -> list[Path]:
    """All images in a folder and its sub-folders, sorted. Hidden files and folders are ignored, and those of systems.

    Raises:
        CianError: the folder, or one in it, does not exist or cannot be read.
    """
    return find_all_images(folder)[0]


def find_all_images(folder: Path) -> tuple[list[Path], list[Path]]:
    """The images in a folder that can be read, and those of kinds that are not read. See `find_images`."""
    found = _walk(folder, KNOWN_SUFFIXES)
    read = {suffix for suffix, files in found.items() if files and _is_read(suffix)}
    return _paths(found[suffix] for suffix in read), _paths(found[suffix] for suffix in found.keys() - read)


def find_files(folder: Path, suffixes: Collection[str]) -> list[Path]:
    """All files with some suffixes in a folder and its sub-folders, sorted. See `find_images`.

    Links to folders are followed. Each folder is visited once.

    Args:
        suffixes: in lower case, with their dot. File names may be in upper case.
    """
    return _paths(_walk(folder, suffixes).values())


def unread_cure(suffixes: Iterable[str]) -> str:
    """What to do about images of kinds that are not read."""
    return "Convert to JPEG" + ", or run `pip install pillow-heif` for HEIC" * any(s in HEIF_SUFFIXES for s in suffixes)


def _is_read(suffix: str) -> bool:
    return suffix in IMAGE_SUFFIXES or (suffix in HEIF_SUFFIXES and _register_heif())


@functools.cache
def _register_heif() -> bool:
    """Lets Pillow read HEIC; False if pillow-heif is not installed."""
    try:
        from pillow_heif import register_heif_opener  # imported here because it is optional and slows down every start
    except ImportError:
        return False
    register_heif_opener()
    return True


def _walk(folder: Path, suffixes: Collection[str]) -> dict[str, list[str]]:
    """The files with each suffix."""
    found: dict[str, list[str]] = {suffix: [] for suffix in suffixes}
    visited: set[tuple[int, int]] = set()
    pending = [str(folder)]
    while pending:
        current = pending.pop()
        try:
            status = Path(current).stat()
            if (status.st_dev, status.st_ino) in visited:
                continue
            visited.add((status.st_dev, status.st_ino))
            folders = _list(current, found)
            pending += sorted(folders, reverse=True)  # in order, so that always the same link is followed
        except FileNotFoundError:
            raise file_error(current, "no such folder", "Give one that exists") from None
        except (OSError, ValueError) as error:
            raise file_error(current, f"cannot be listed ({reason(error)})", "Give a readable folder") from None
    return found


def _paths(names: Iterable[list[str]]) -> list[Path]:
    return [Path(name) for name in sorted(chain.from_iterable(names))]


def _list(folder: str, found: dict[str, list[str]]) -> list[str]:
    """Adds the files directly in a folder to those of their suffix, and returns the folders in it."""
    folders = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(".") or entry.name.casefold() in _SYSTEM_FOLDERS:
                continue
            if entry.is_dir():
                folders.append(entry.path)
                continue
            files = found.get(os.path.splitext(entry.name)[1].lower())  # noqa: PTH122 (10 x faster)
            if files is not None and entry.is_file():
                files.append(entry.path)
    return folders


@contextmanager
def open_image(path: Path, formats: Sequence[str] | None = None) -> Iterator[Image.Image]:
    """Opens an image with Pillow. Every failure within the block becomes an error that names the file.

    Args:
        formats: Pillow's names of the formats that may be decoded. Default: `FORMATS`, and HEIC.
    """
    try:
        with _open(path, formats) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise Image.DecompressionBombError
            yield image
    except CianError:
        raise
    except Image.DecompressionBombError:
        raise file_error(path, f"over {MAX_PIXELS // 10**6} megapixels", "Cut it into tiles or reduce it") from None
    except UnidentifiedImageError:
        raise _unread(path, formats) from None
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise file_error(path, f"cannot be opened ({reason(error)})", "Give a readable image file") from None
    except MemoryError:
        raise file_error(path, "does not fit into memory", "Reduce it, or use a machine with more memory") from None
    except Exception as error:  # noqa: BLE001 (Pillow's decoders raise anything for a broken file)
        raise file_error(path, f"damaged ({reason(error)})", "Replace it by an intact copy, or remove it") from None


def _open(path: Path, formats: Sequence[str] | None) -> Image.Image:
    try:
        return Image.open(path, formats=FORMATS if formats is None else tuple(formats))
    except UnidentifiedImageError:
        if formats is None and _content(path) == "HEIC" and _register_heif():
            return Image.open(path, formats=(_HEIF,))
        raise


def _unread(path: Path, formats: Sequence[str] | None) -> FileError:
    """The error for a file that no decoder of these formats takes."""
    content, suffix = _content(path), path.suffix.lower()
    if formats is None and (kind := _tiff_kind(path)):
        return file_error(path, f"a TIFF of {kind}, which is not read", "Save it with 1 or 3 bands of 8 or 16 bits")
    names = "JPEG, PNG, TIFF, BMP, WebP, GIF or PPM" if formats is None else " or ".join(formats)
    if not content or (content == "HEIC" and _register_heif()):
        cure = "Replace or remove it" if _is_read(suffix) else unread_cure([suffix])
        return file_error(path, f"not an image that can be read ({names})", cure)
    cure = "Replace or remove it" if content in _NO_IMAGES else unread_cure([".heic"] if content == "HEIC" else [])
    return file_error(path, f"holds {content}, not an image that can be read ({names})", cure)


def _content(path: Path) -> str:
    """What a file that is not read holds, by its first bytes; empty if they are not known, or cannot be read."""
    try:
        with path.open("rb") as file:
            start = file.read(32)
    except OSError:
        return ""
    if start[4:8] == b"ftyp":
        return _BRANDS.get(start[8:12], "")
    start = start.removeprefix(b"\xef\xbb\xbf")
    return next((name for magic, name in _STARTS.items() if start.lower().startswith(magic.lower())), "")


def _tiff_kind(path: Path) -> str:
    """What the pixels of an intact TIFF are, for a message; empty if the file is none."""
    try:
        with path.open("rb") as file:
            start = file.read(8)
            if start[:4] not in (b"II*\0", b"MM\0*"):
                return ""
            tags = ImageFileDirectory_v2(start)
            file.seek(tags.next)
            tags.load(file)
        bits = tags[_BITS_TAG]
        bands = int(tags.get(_BANDS_TAG, len(bits)))
        numbers = _NUMBERS[tags.get(_NUMBERS_TAG, (1,))[0]]
    except Exception:  # noqa: BLE001 (a damaged one is no TIFF)
        return ""
    return f"{bands} band{'s' * (bands != 1)} of {bits[0]} bit {numbers}"


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 … 8, from the part of the file before the pixels; 1 if it is missing or broken."""
    if image.format in ("TIFF", "HEIF"):  # their decoders turn the image
        return 1
    try:
        # Not `image.getexif()`: for PNG it decodes all pixels, to look behind them.
        return int(Image.Image.getexif(image).get(_ORIENTATION_TAG, 1))
    except Exception:  # noqa: BLE001 (broken EXIF must not cost an intact image)
        return 1


def _file_rgb(path: Path, image: Image.Image) -> np.ndarray:
    """(H, W, 3) uint8 of an image that has just been opened, not yet upright."""
    _mend_planes(image, "high")
    raw = raw_mode(image)
    if (
        ";16" not in raw
        or raw.startswith("RGBa")
        or image.mode not in ("LA", "RGB", "RGBA")
        or "transparency" in image.info
    ):
        return _rgb(image)
    # Pillow has no colour of 16 bits. It gives the upper bytes, which are all but black if the file uses few bits.
    upper = np.array(image)  # (H, W, C)
    if raw.startswith("LA"):
        upper = upper[..., [0, -1]]  # newer versions of Pillow repeat the grey
    colours = 3 if upper.shape[2] > 2 else 1
    if upper[..., :colours].max(initial=0) > _FEW_BITS:
        return _rgb(image)
    with open_image(path) as again:
        lower = _lower_bytes(path, again)
    values = upper.astype(np.uint16) << 8 | lower
    scaled = [_scaled(part) for part in np.split(values, [colours], axis=2)]  # colour, and alpha if there is any
    return _rgb(Image.fromarray(np.concatenate(scaled, axis=2)))


def _lower_bytes(path: Path, image: Image.Image) -> np.ndarray:
    """(H, W, C) uint8: the lower bytes of an image whose upper bytes Pillow gives."""
    raw = raw_mode(image)
    if raw.startswith("LA"):  # two bytes of grey, two of alpha
        image._mode = "RGBA"  # older ones have LA
        _decode_as(image, "RGBA")
        return np.array(image)[..., 1::2]
    if isinstance(image, TiffImageFile) and image.tag_v2.get(_PLANES_TAG) == 2:
        if not _mend_planes(image, "low"):
            value = "compressed planes of 16 bits, of which it uses fewer"
            raise file_error(path, value, "Save it uncompressed, or with its bands pixel by pixel")
        return np.array(image)
    _decode_as(image, raw[:-1] + _other_order(raw[-1]))
    return np.array(image)


def _rgb(image: Image.Image) -> np.ndarray:
    """(H, W, 3) uint8 of an image of any mode, not yet upright."""
    image.load()
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        grey = _grey_8bit(image)  # (H, W)
        if isinstance(image, TiffImageFile) and image.tag_v2.get(_PHOTOMETRIC_TAG) == 0:  # white is 0
            grey = 255 - grey
        return np.repeat(grey[..., None], 3, axis=2)
    if image.mode in _WITH_ALPHA or "transparency" in image.info:
        if image.mode == "La":
            image = image.convert("LA")
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return np.array(image.convert("RGB"))


def _mend_planes(image: Image.Image, byte: str) -> bool:
    """Lets Pillow decode an uncompressed TIFF with 16 bits in planes, which it takes for 8 bits. False if it is none.

    Args:
        byte: "high" or "low": which byte of each value the image gets.
    """
    if not isinstance(image, TiffImageFile) or image.tag_v2.get(_PLANES_TAG) != 2:
        return False
    if image.tag_v2.get(_BITS_TAG, (8,))[0] != 16 or any(tile[0] != "raw" for tile in image.tile):
        return False
    order = "L" if image.tag_v2.prefix == b"II" else "B"
    if byte == "low":
        order = _other_order(order)
    planes = [(tile, cast(tuple[Any, ...], tile.args)) for tile in image.tile]
    image.tile = [tile._replace(args=(f"{band};16{order}", *others)) for tile, (band, *others) in planes]
    return True


def _other_order(order: str) -> str:
    """The other order of bytes: "L" (little endian), "B" (big endian) or "N" (this machine's)."""
    return "B" if order == "L" or (order == "N" and sys.byteorder == "little") else "L"


def _decode_as(image: Image.Image, raw: str) -> None:
    """Sets how an image that is not yet decoded is packed in its file."""
    assert isinstance(image, ImageFile.ImageFile)
    image.tile = [tile._replace(args=(raw, *tile.args[1:]) if type(tile.args) is tuple else raw) for tile in image.tile]


def raw_mode(image: Image.Image) -> str:
    """How the pixels are packed in the file, e.g. "L;4" or "RGB;16B". Known only before they are decoded."""
    tiles = getattr(image, "tile", None)
    if not tiles:
        return ""
    args = tiles[0][3]
    return str(args[0] if isinstance(args, tuple) and args else args)


def _scaled(values: np.ndarray) -> np.ndarray:
    """uint16 of any shape -> uint8, scaled by the bits that the values use."""
    top = next(top for top in _TOPS if values.max(initial=0) <= top)
    levels = (np.arange(top + 1) * (255 / top)).round().astype(np.uint8)
    return levels[values]


def _grey_8bit(image: Image.Image) -> np.ndarray:
    """(H, W) uint8 of a grey image of more than 8 bits."""
    values = np.array(image)
    # Pillow gives 16 bit PGM the mode of 32 bit integers.
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):
        return _scaled(values)
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    if low == high:
        return np.zeros(values.shape, np.uint8)
    scaled = (values.astype(np.float64) - low) * (255 / (high - low))
    return np.nan_to_num(scaled, nan=0, posinf=255, neginf=0).round().astype(np.uint8)
