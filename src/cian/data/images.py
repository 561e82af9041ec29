"""Reads images of any common format into one form: (H, W, 3) uint8 RGB, upright."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import threading
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
from PIL import (  # noqa: F401 (the decoders register themselves)
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageCms,
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
from cian.memory import give_back

try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None  # type: ignore[assignment]

# Pillow is given these names, so that none of its 30 other decoders runs: that of PostScript starts Ghostscript.
FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "DIB", "WEBP", "GIF", "PPM")
READ = "JPEG, PNG, TIFF, BMP, WebP, GIF or PPM"  # the same for messages
_HEIF = "HEIF"  # Pillow's name of HEIC, which pillow-heif registers
DECODING = 4  # raised when an image is read differently: what was learnt from earlier reading is then out of date

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jfif", ".jpe", ".pjpeg", ".pjp", ".mpo", ".png", ".apng", ".tif", ".tiff", ".bmp", ".dib"}
    | {".webp", ".gif", ".ppm", ".pgm", ".pbm", ".pnm"}
)
HEIF_SUFFIXES = frozenset({".heic", ".heif", ".hif"})  # read if pillow-heif is installed
KNOWN_SUFFIXES = (  # images of every kind; those that are not read are reported
    IMAGE_SUFFIXES
    | HEIF_SUFFIXES
    | {".avif", ".jxl", ".jp2", ".j2k", ".jpx", ".tga", ".exr", ".hdr", ".svg", ".eps", ".pdf", ".psd", ".xcf"}
    | {".raw", ".dng", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".sr2", ".orf", ".rw2", ".raf", ".pef", ".srw"}
    | {".3fr", ".iiq", ".x3f", ".kdc", ".dcr", ".erf", ".mef", ".mos", ".rwl", ".gpr"}
    | {".dcm", ".dicom", ".nii", ".mha", ".nrrd", ".fits", ".czi", ".svs", ".nd2", ".lif", ".ndpi", ".scn", ".mrxs"}
)
# Files that are not opened to see whether they are images; those of all other suffixes are.
_NO_IMAGE_SUFFIXES = frozenset(
    {".txt", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".html", ".htm", ".md", ".yaml", ".yml", ".log", ".ini"}
    | {".py", ".ipynb", ".sh", ".mat", ".npy", ".npz", ".pt", ".pth", ".h5", ".pkl", ".db", ".zip", ".tar", ".gz"}
    | {".xlsx", ".xls", ".docx", ".mp4", ".mov", ".avi", ".lock", ".part", ".crdownload", ".tmp"}
)
# Folders of operating systems and network drives, in lower case: thumbnails and deleted files.
_SYSTEM_FOLDERS = frozenset(
    {"@eadir", "@recycle", "@recently-snapshot", "@tmp", "#recycle", "#snapshot", "$recycle.bin", "recycler"}
    | {"lost+found", "system volume information", "__macosx", "network trash folder", "temporary items"}
)
_LARGE = 25_000_000  # pixels; of larger images, only one at a time is decoded
_STRIP = 1 << 20  # pixels that are converted at a time

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
    b"ZISRAWFILE": "a CZI image of a microscope",
    b"v/1\x01": "OpenEXR",
    b"#?RADIANCE": "a Radiance HDR image",
    b"SIMPLE  =": "FITS",
    b"FUJIFILMCCD-RAW": "a camera's raw image",
    b"IIRO": "a camera's raw image",
    b"IIU\0": "a camera's raw image",
    b"version https://git-lfs": "a Git LFS pointer",
    b"<!doctype html": "a web page",
    b"<html": "a web page",
}
_STARTS_OF_IMAGES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"II*\0", b"MM\0*", b"GIF87a", b"GIF89a")
_BITMAP_HEADERS = (12, 40, 52, 56, 64, 108, 124)  # bytes
_NO_IMAGES = ("a Git LFS pointer", "a web page")
_BRANDS = dict.fromkeys(
    (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"), "HEIC"
) | {b"avif": "AVIF", b"avis": "AVIF"}

# Pillow has a limit of its own (179 megapixels). `limit_pixels` replaces it.
_most_pixels = 100_000_000
Image.MAX_IMAGE_PIXELS = _most_pixels
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # ours is an error

# The texts and the colour profile of a PNG file unpack to at most this many bytes each; Pillow's own limit is 1 MB.
PngImagePlugin.MAX_TEXT_CHUNK = 32 * 2**20

_BITS_TAG, _PHOTOMETRIC_TAG, _BANDS_TAG, _PLANES_TAG, _NUMBERS_TAG = 258, 262, 277, 284, 339
_NUMBERS = {1: "whole numbers", 2: "signed numbers", 3: "floats", 5: "complex numbers", 6: "complex numbers"}
_SUBFILE_TAG, _PACKING_TAG, _DNG_TAG = 254, 259, 50706
_RARE_PACKINGS = {
    34712: "JPEG 2000", 33003: "JPEG 2000", 33005: "JPEG 2000", 34887: "LERC", 34925: "LZMA", 50000: "Zstandard",
    34927: "WebP", 50001: "WebP", 50002: "JPEG XL", 22610: "JPEG XR",
}  # fmt: skip
_ORIENTATION_TAG = 0x0112
_SIDEWAYS = frozenset({5, 6, 7, 8})
GREY_STEPS = {"L;2": 85, "L;4": 17}  # Pillow spreads grey of 2 and 4 bits over 0 … 255
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
        CianError: there is no such file, it is not an image, it is truncated, or it has too many pixels (see
            `limit_pixels`).
    """
    with open_image(path) as image:
        turn = orientation(image)  # before decoding: some decoders drop it
        size = None if max_side is None else _reduced(image.size, max_side)
        with _drafted(image, size):
            pixels = _file_rgb(path, image)  # (H, W, 3)
            image.im = None  # type: ignore[assignment] # its own pixels take more memory than these
            if max_side is not None:
                pixels = reduced(pixels, max_side)
            return turned(pixels, turn)


def limit_pixels(megapixels: float) -> None:
    """Sets how many pixels an image or a mask may have in this process (`data.max_megapixels`)."""
    global _most_pixels
    _most_pixels = int(megapixels * 1e6)
    Image.MAX_IMAGE_PIXELS = _most_pixels


def megapixel_limit() -> float:
    """What `limit_pixels` was told."""
    return _most_pixels / 1e6


def refuse_large(where: Path | str, height: int, width: int) -> None:
    """
    Raises:
        FileError: an image or a mask of this size has too many pixels.
    """
    if height * width > _most_pixels:
        value = f"{width} x {height} pixels, over the limit of {megapixel_limit():g} megapixels"
        needed = -(-height * width // 10**6)
        raise file_error(where, value, f"Reduce it, cut it into tiles, or set data.max_megapixels={needed}")


@contextlib.contextmanager
def alone(pixels: int) -> Iterator[None]:
    """Within the block nobody else works on a large image: no thread, and no other process on this machine.

    Args:
        pixels: of the image. For images that are not large, nobody waits.
    """
    if pixels <= _LARGE:
        yield
        return
    with _large, Path(__file__).open("rb") as file:  # a lock on any file that all processes can open
        if fcntl is not None:
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(file, fcntl.LOCK_EX)
        give_back()  # what work on another large image has left
        yield


_large = threading.Lock()


@contextlib.contextmanager
def _drafted(image: Image.Image, size: tuple[int, int] | None) -> Iterator[None]:
    """For decoding within the block, at about `size` (width, height) if the format can do this. See `alone`."""
    pixels = image.width * image.height
    if size is not None:
        image.draft(None, size)  # keeps the mode; only JPEG decoders do something
        if not image.info.get("progressive"):  # of those, all is in memory
            pixels = image.width * image.height
    with alone(pixels):
        yield


def upright(image: Image.Image) -> np.ndarray:
    """(H, W, 3) uint8 RGB of a Pillow image, as `read_image` returns it for a file.

    Raises:
        CianError: it is a file of a format that `read_image` does not read. Pillow decodes files late, here.
    """
    if isinstance(image, ImageFile.ImageFile):
        if image.format not in (*FORMATS, "MPO", _HEIF):
            raise CianError(
                f"image: a Pillow image of format {image.format}, which cian does not decode. Give "
                "image.convert('RGB')."
            )
        refuse_large("image", image.height, image.width)
    turn = orientation(image)
    with alone(image.width * image.height):
        return turned(_rgb(image), turn)


def turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """The pixels (H, W, …) of an image, upright.

    Args:
        orientation: as EXIF defines it, 1 … 8.
    """
    if orientation in _SIDEWAYS:
        pixels = pixels.swapaxes(0, 1)
    rows = -1 if orientation in (3, 4, 7, 8) else 1
    columns = -1 if orientation in (2, 3, 6, 7) else 1
    return np.ascontiguousarray(pixels[::rows, ::columns])


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
        return (width, height) if orientation(image) in _SIDEWAYS else (height, width)


class Decoded(NamedTuple):
    """What `decode` found.

    Attributes:
        several: whether the file holds more frames or pages than the first one, which is read.
    """

    height: int
    width: int
    several: bool


def decode(path: Path) -> Decoded:
    """Decodes all pixels of an image: `read_image` will read it.

    A JPEG file is decoded at an eighth of its size, which takes a 64th of the memory. All of the file is still read.

    Raises:
        CianError: as `read_image`.
    """
    with open_image(path) as image:
        width, height = image.size
        sideways = orientation(image) in _SIDEWAYS
        jpeg = image.format in ("JPEG", "MPO")  # not HEIC: its decoder would read the small image that lies in the file
        with _drafted(image, (max(1, width // 8), max(1, height // 8)) if jpeg else None):
            _file_rgb(path, image)
        several = not jpeg and _has_several(image)
        return Decoded(width, height, several) if sideways else Decoded(height, width, several)


def _has_several(image: Image.Image) -> bool:
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception:  # noqa: BLE001 (a broken second frame must not cost an intact image)
        return False


def find_images(folder: Path) -> list[Path]:
    """All images in a folder and its sub-folders, sorted. Hidden files and folders are ignored, and those of systems.

    Raises:
        CianError: the folder, or one in it, does not exist or cannot be read.
    """
    return find_all_images(folder)[0]


def find_all_images(folder: Path) -> tuple[list[Path], list[Path]]:
    """The images in a folder that can be read, and those of kinds that are not read. See `find_images`."""
    found = _walk(folder, KNOWN_SUFFIXES, others=True)
    found[""] = [file for file in found[""] if _starts_like_image(file)]
    read = {suffix for suffix, files in found.items() if files and (_is_read(suffix) or not suffix)}
    return _paths(found[suffix] for suffix in read), _paths(found[suffix] for suffix in found.keys() - read)


def _starts_like_image(file: str) -> bool:
    """Whether a file whose suffix says nothing holds an image that is read."""
    path = Path(file)
    try:
        if not path.stat().st_size:  # so that nothing is read from what systems show as files, which may block
            return False
    except OSError:
        return False
    start = _first_bytes(path)
    return (
        start.startswith(_STARTS_OF_IMAGES)
        or (start[:4] == b"RIFF" and start[8:12] == b"WEBP")
        or (start[:2] == b"BM" and int.from_bytes(start[14:18], "little") in _BITMAP_HEADERS)
        or (start[4:8] == b"ftyp" and _BRANDS.get(start[8:12]) == "HEIC" and _register_heif())
    )


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


def _walk(folder: Path, suffixes: Collection[str], others: bool = False) -> dict[str, list[str]]:
    """The files with each suffix.

    Args:
        others: whether "" stands for files with no suffix, or one that says nothing about them.
    """
    found: dict[str, list[str]] = {suffix: [] for suffix in suffixes}
    if others:
        found |= {"": []}
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
            suffix = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122 (10 x faster)
            files = found.get(suffix)
            if files is None and suffix not in _NO_IMAGE_SUFFIXES:
                files = found.get("")
            if files is not None and entry.is_file():
                files.append(entry.path)
    return folders


@contextlib.contextmanager
def open_image(path: Path, formats: Sequence[str] | None = None) -> Iterator[Image.Image]:
    """Opens an image with Pillow. Every failure within the block becomes an error that names the file.

    Args:
        formats: Pillow's names of the formats that may be decoded. Default: `FORMATS`, and HEIC.
    """
    try:
        with _open(path, formats) as image:
            refuse_large(path, image.height, image.width)
            if formats is None:
                _refuse_raw(path, image)
            yield image
    except CianError:
        raise
    except Image.DecompressionBombError as error:
        value = f"over the limit of {megapixel_limit():g} megapixels ({reason(error).partition(',')[0]})"
        raise file_error(path, value, "Reduce it, cut it into tiles, or raise data.max_megapixels") from None
    except UnidentifiedImageError:
        raise _unread(path, formats) from None
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise file_error(path, f"cannot be opened ({reason(error)})", "Give a readable image file") from None
    except MemoryError:
        raise file_error(path, "does not fit into memory", "Reduce it, or use a machine with more memory") from None
    except Exception as error:  # noqa: BLE001 (Pillow's decoders raise anything for a broken file)
        if packing := _rare_packing(path):
            raise file_error(path, *packing) from None
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
    if formats is None and (packing := _rare_packing(path)):
        return file_error(path, *packing)
    if formats is None and (kind := _tiff_kind(path)):
        return file_error(path, f"a TIFF of {kind}, which is not read", "Save it with 1 or 3 bands of 8 or 16 bits")
    names = READ if formats is None else " or ".join(formats)
    if not content or (content == "HEIC" and _register_heif()):
        cure = "Replace or remove it" if _is_read(suffix) else unread_cure([suffix])
        return file_error(path, f"not an image that can be read ({names})", cure)
    cure = "Replace or remove it" if content in _NO_IMAGES else unread_cure([".heic"] if content == "HEIC" else [])
    return file_error(path, f"holds {content}, not an image that can be read ({names})", cure)


def _refuse_raw(path: Path, image: Image.Image) -> None:
    """
    Raises:
        FileError: a TIFF is the raw image of a camera, whose first page is a small preview.
    """
    if isinstance(image, TiffImageFile) and (image.tag_v2.get(_SUBFILE_TAG, 0) & 1 or _DNG_TAG in image.tag_v2):
        raise file_error(path, "holds a camera's raw image, or a preview alone", unread_cure([]))


def _first_bytes(path: Path) -> bytes:
    """Enough of a file to know its kind; none if it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(132)
    except OSError:
        return b""


def _content(path: Path) -> str:
    """What a file that is not read holds, by its first bytes; empty if they are not known, or cannot be read."""
    start = _first_bytes(path)
    if start[4:8] == b"ftyp":
        return _BRANDS.get(start[8:12], "")
    if start[128:] == b"DICM":
        return "DICOM"
    start = start.removeprefix(b"\xef\xbb\xbf")
    return next((name for magic, name in _STARTS.items() if start.lower().startswith(magic.lower())), "")


def _tiff_tags(path: Path) -> Mapping[int, Any]:
    """The tags of an intact TIFF; none if the file is none."""
    try:
        with path.open("rb") as file:
            start = file.read(8)
            if start[:4] not in (b"II*\0", b"MM\0*"):
                return {}
            tags = ImageFileDirectory_v2(start)
            file.seek(tags.next)
            tags.load(file)
            return dict(tags)
    except Exception:  # noqa: BLE001 (a damaged one is no TIFF)
        return {}


def _tiff_kind(path: Path) -> str:
    """What the pixels of an intact TIFF are, for a message; empty if the file is none."""
    tags = _tiff_tags(path)
    try:
        bits = tags[_BITS_TAG]
        bands = int(tags.get(_BANDS_TAG, len(bits)))
        numbers = _NUMBERS[tags.get(_NUMBERS_TAG, (1,))[0]]
    except Exception:  # noqa: BLE001 (not intact)
        return ""
    return f"{bands} band{'s' * (bands != 1)} of {bits[0]} bit {numbers}"


def _rare_packing(path: Path) -> tuple[str, str] | None:
    """(value, cure) of the problem that a TIFF is packed in a way that not every decoder knows; None if it is not."""
    packing = _tiff_tags(path).get(_PACKING_TAG)
    name = _RARE_PACKINGS.get(packing) if isinstance(packing, int) else None
    return None if name is None else (f"a TIFF packed by {name}, which is not read", "Save it with LZW or Deflate")


def orientation(image: Image.Image) -> int:
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
    values = upper.astype(np.uint16)  # (H, W, C)
    values <<= 8
    values |= lower
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
    is_scaled = any(tile[0] == "ppm" for tile in getattr(image, "tile", ()))  # to 16 bits, by Pillow
    clear = image.info.get("transparency")  # the only transparent value, if it is a number
    if isinstance(clear, int):
        image.info["transparency"] = clear * GREY_STEPS.get(raw_mode(image), 1)
    image.load()
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        grey = _grey_8bit(image, is_scaled)  # (H, W)
        if isinstance(image, TiffImageFile) and image.tag_v2.get(_PHOTOMETRIC_TAG) == 0:  # white is 0
            grey = 255 - grey
        if isinstance(clear, int):
            grey[np.asarray(image) == clear] = 255
        return np.repeat(grey[..., None], 3, axis=2)
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    for rows in strips(pixels):
        pixels[rows] = np.asarray(_strip_rgb(image.crop((0, rows.start, image.width, rows.stop))))
    if isinstance(image, TiffImageFile) and image.tag_v2.get(_NUMBERS_TAG, (1,))[0] == 2:
        pixels ^= 128  # signed numbers of 8 bits, which Pillow takes for unsigned ones: -128 is black
    return pixels


def strips(pixels: np.ndarray) -> Iterator[slice]:
    """The rows of an image (H, W, …), a few at a time, so that what is computed of them takes little memory."""
    height, width = pixels.shape[:2]
    step = max(1, _STRIP // max(1, width))
    return (slice(top, min(top + step, height)) for top in range(0, height, step))


def lookup(values: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """`values[numbers]`, in little memory. numpy would make 64 bit integers of all numbers.

    Shape:
        numbers: (H, W, …) whole numbers; the result has this shape.
    """
    found = np.empty(numbers.shape, values.dtype)
    for rows in strips(numbers):
        found[rows] = values[numbers[rows]]
    return found


def _strip_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "LAB":
        return cast(Image.Image, ImageCms.applyTransform(image, _lab_to_rgb()))
    if image.mode in _WITH_ALPHA or "transparency" in image.info:
        if image.mode == "La":
            image = image.convert("LA")
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image if image.mode == "RGB" else image.convert("RGB")


@functools.cache
def _lab_to_rgb() -> ImageCms.ImageCmsTransform:
    return ImageCms.buildTransform(ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB")


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
    return lookup(_levels(top), values)


def _levels(top: int) -> np.ndarray:
    """(top + 1,) uint8: the values 0 … top, scaled to 0 … 255."""
    return (np.arange(top + 1) * (255 / top)).round().astype(np.uint8)


def _grey_8bit(image: Image.Image, is_scaled: bool) -> np.ndarray:
    """(H, W) uint8 of a grey image of more than 8 bits.

    Args:
        is_scaled: the values use all of 16 bits, even if none of them is large.
    """
    values = np.array(image)
    # Pillow gives 16 bit PGM the mode of 32 bit integers.
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):
        return lookup(_levels(_TOPS[-1]), values) if is_scaled else _scaled(values)
    low, high = np.inf, -np.inf
    for rows in strips(values):
        finite = values[rows][np.isfinite(values[rows])]
        if finite.size:
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
    grey = np.zeros(values.shape, np.uint8)
    if low < high:
        for rows in strips(values):
            scaled = (values[rows].astype(np.float64) - low) * (255 / (high - low))
            grey[rows] = np.nan_to_num(scaled, nan=0, posinf=255, neginf=0).round()
    return grey
