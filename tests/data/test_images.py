"""Images of every format and mode become upright (H, W, 3) uint8 RGB; broken files name themselves and a cure."""

from __future__ import annotations

import contextlib
import itertools
import os
import pickle
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image, features

from cian.config import DataConfig
from cian.data import images
from cian.data.images import (
    FORMATS,
    IMAGE_SUFFIXES,
    decode,
    find_all_images,
    find_images,
    image_size,
    read_image,
    upright,
)
from cian.data.masks import read_mask
from cian.data.problems import FileError
from cian.errors import CianError
from cian.formats.file_index import FileIndex

COLOUR = (200, 100, 50)
CORNERS = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]], [[0, 0, 0], [255, 255, 255], [9, 9, 9]]], np.uint8)


def save(path: Path, mode: str = "RGB", colour: object = COLOUR, size: tuple[int, int] = (30, 20), **options) -> Path:
    Image.new(mode, size, colour).save(path, **options)
    return path


@pytest.mark.parametrize("suffix", sorted(IMAGE_SUFFIXES))
def test_every_format(tmp_path: Path, suffix: str) -> None:
    grey = suffix == ".pgm"
    if suffix == ".pbm":
        path = save(tmp_path / f"a{suffix}", "1", 1)
        assert (read_image(path) == 255).all()
        return
    kind = {".jpe": "JPEG", ".pjpeg": "JPEG", ".pjp": "JPEG", ".mpo": "MPO"}.get(suffix)
    path = save(tmp_path / f"a{suffix}", "L" if grey else "RGB", 77 if grey else COLOUR, format=kind)
    pixels = read_image(path)
    assert pixels.shape == (20, 30, 3)
    assert pixels.dtype == np.uint8
    assert pixels.flags.writeable
    assert np.abs(pixels.astype(int) - (77 if grey else COLOUR)).max() <= 8
    assert image_size(path) == (20, 30)


@pytest.mark.parametrize(
    ("mode", "colour", "suffix", "expected"),
    [
        ("1", 1, "png", (255, 255, 255)),
        ("L", 77, "png", (77, 77, 77)),
        ("LA", (77, 255), "png", (77, 77, 77)),
        ("LA", (77, 0), "png", (255, 255, 255)),
        ("RGBA", (*COLOUR, 255), "png", COLOUR),
        ("RGBA", (*COLOUR, 0), "webp", (255, 255, 255)),
        ("RGBA", (0, 0, 0, 51), "png", (204, 204, 204)),
        ("RGBA", (*COLOUR, 0), "tif", (255, 255, 255)),
        ("CMYK", (0, 255, 255, 0), "jpg", (255, 0, 0)),
        ("CMYK", (0, 255, 255, 0), "tif", (255, 0, 0)),
        ("I;16", 65535, "png", (255, 255, 255)),
        ("I;16", 128 * 257, "tif", (128, 128, 128)),
        ("I;16B", 257, "tif", (64, 64, 64)),  # of 10 bits
        ("I;16", 4095, "png", (255, 255, 255)),
        ("I;16", 4096, "png", (64, 64, 64)),
        ("I", 7, "tif", (0, 0, 0)),
        ("F", 7.5, "tif", (0, 0, 0)),
    ],
)
def test_every_mode(tmp_path: Path, mode: str, colour: object, suffix: str, expected: tuple[int, int, int]) -> None:
    pixels = read_image(save(tmp_path / f"a.{suffix}", mode, colour))
    assert pixels.shape == (20, 30, 3)
    assert np.abs(pixels.astype(int) - expected).max() <= 3


def test_palette(tmp_path: Path) -> None:
    image = Image.new("P", (30, 20), 1)
    image.putpalette([0, 0, 0, *COLOUR])
    image.save(tmp_path / "a.png")
    image.save(tmp_path / "b.png", transparency=1)
    assert (read_image(tmp_path / "a.png") == COLOUR).all()
    assert (read_image(tmp_path / "b.png") == 255).all()


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_unbounded_grey_is_scaled_by_its_extremes(tmp_path: Path, dtype: type) -> None:
    values = np.array([[-1000, 0], [1000, 3000]], dtype)
    Image.fromarray(values).save(tmp_path / "a.tif")
    assert read_image(tmp_path / "a.tif")[..., 0].tolist() == [[0, 64], [128, 255]]


def test_floats_that_are_not_finite(tmp_path: Path) -> None:
    values = np.array([[np.nan, np.inf], [0, 10], [-np.inf, 5]], np.float32)
    Image.fromarray(values).save(tmp_path / "a.tif")
    assert read_image(tmp_path / "a.tif")[..., 1].tolist() == [[0, 255], [0, 255], [0, 128]]


def test_16_bit_tiff_whose_white_is_zero(tmp_path: Path) -> None:
    path = save(tmp_path / "a.tif", "I;16", 65535)
    black_is_zero = b"\x06\x01\x03\x00\x01\x00\x00\x00\x01\x00"  # tag 262 in little endian, once 1
    assert path.read_bytes().count(black_is_zero) == 1
    path.write_bytes(path.read_bytes().replace(black_is_zero, black_is_zero[:-2] + b"\x00\x00"))
    assert (read_image(path) == 0).all()


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def write_png16(path: Path, pixels: np.ndarray) -> Path:
    """A PNG of (H, W, C) uint16, which Pillow does not write."""
    height, width, bands = pixels.shape
    header = struct.pack(">IIBBBBB", width, height, 16, {2: 4, 3: 2, 4: 6}[bands], 0, 0, 0)
    lines = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    chunks = (b"IHDR", header), (b"IDAT", zlib.compress(lines)), (b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*part) for part in chunks))
    return path


def write_tiff(path: Path, pixels: np.ndarray, *, planes: bool = False, packed: bool = False, order: str = "<") -> Path:
    """A TIFF of (H, W, C) of any type, in strips of 8 rows.

    Args:
        planes: one band after the other, not pixel by pixel.
        packed: with zlib.
        order: of the bytes: "<" or ">".
    """
    height, width, bands = pixels.shape
    parts = [pixels[..., band : band + 1] for band in range(bands)] if planes else [pixels]
    strips = [
        part[y : y + 8].astype(pixels.dtype.newbyteorder(order)).tobytes()
        for part in parts
        for y in range(0, height, 8)
    ]
    strips = [zlib.compress(strip) for strip in strips] if packed else strips
    starts = np.cumsum([8, *map(len, strips)]).tolist()
    kind = {"u": 1, "i": 2, "f": 3}[pixels.dtype.kind]
    tags = {
        256: [width], 257: [height], 258: [8 * pixels.itemsize] * bands, 259: [8 if packed else 1],
        262: [2 if bands > 2 else 1], 273: starts[:-1], 277: [bands], 278: [8], 279: [*map(len, strips)],
        284: [2 if planes else 1], **({338: [2]} if bands in (2, 4) else {}), 339: [kind] * bands,
    }  # fmt: skip
    start = starts[-1] + 2 + 12 * len(tags) + 4  # of the values that do not fit into their tag
    table, values = struct.pack(f"{order}H", len(tags)), b""
    for tag, numbers in tags.items():
        content = struct.pack(f"{order}{len(numbers)}I", *numbers)
        place = content if len(numbers) == 1 else struct.pack(f"{order}I", start + len(values))
        values += content if len(numbers) > 1 else b""
        table += struct.pack(f"{order}HHI", tag, 4, len(numbers)) + place
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", starts[-1])
    path.write_bytes(head + b"".join(strips) + table + bytes(4) + values)
    return path


def drawn(bands: int) -> np.ndarray:
    """(20, 30, bands) uint8 from 0 to 255; the last of 2 or 4 bands is alpha, opaque."""
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, bands), np.uint8)
    pixels[0, 0], pixels[0, 1] = 0, 255
    if bands in (2, 4):
        pixels[..., -1] = 255
    return pixels


def in_bits(pixels: np.ndarray, bits: int) -> np.ndarray:
    """uint8 -> uint16 that uses so many bits."""
    return (pixels.astype(np.uint32) * (2**bits - 1) // 255).astype(np.uint16)


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
@pytest.mark.parametrize("bands", [2, 3, 4])
def test_colour_of_few_bits_in_16(tmp_path: Path, bits: int, bands: int) -> None:
    pixels = drawn(bands)
    expected = pixels[..., : 3 if bands > 2 else 1].astype(int)
    files = [write_png16(tmp_path / "a.png", in_bits(pixels, bits))]
    if bands > 2:
        for number, (packed, order) in enumerate(itertools.product((False, True), "<>")):
            files.append(write_tiff(tmp_path / f"{number}.tif", in_bits(pixels, bits), packed=packed, order=order))
    for file in files:
        assert np.abs(read_image(file) - expected).max() <= 1, file


@pytest.mark.parametrize("bits", [12, 16])
def test_alpha_of_16_bits_next_to_colour_of_few(tmp_path: Path, bits: int) -> None:
    pixels = in_bits(drawn(4), bits)
    pixels[..., 3] = 65535
    pixels[5:, :, 3] = 0
    found = read_image(write_png16(tmp_path / "a.png", pixels))
    assert (found[5:] == 255).all()
    assert np.abs(found[:5] - drawn(4)[:5, :, :3].astype(int)).max() <= 1


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("bits", [10, 16])
def test_16_bit_tiff_in_planes(tmp_path: Path, bits: int, order: str) -> None:
    path = write_tiff(tmp_path / "a.tif", in_bits(drawn(3), bits), planes=True, order=order)
    assert np.abs(read_image(path) - drawn(3).astype(int)).max() <= 1
    packed = write_tiff(tmp_path / "b.tif", in_bits(drawn(3), bits), planes=True, packed=True, order=order)
    if bits == 16:
        assert np.abs(read_image(packed) - drawn(3).astype(int)).max() <= 1
    else:
        with pytest.raises(CianError, match=r"b\.tif: compressed planes of 16 bits.* Save it uncompressed"):
            read_image(packed)


def test_8_bit_tiff_in_planes(tmp_path: Path) -> None:
    for packed in (False, True):
        path = write_tiff(tmp_path / "a.tif", drawn(3), planes=True, packed=packed)
        assert (read_image(path) == drawn(3)).all()


@pytest.mark.parametrize(
    ("dtype", "bands", "kind"),
    [
        (np.float32, 3, "3 bands of 32 bit floats"),
        (np.float16, 1, "1 band of 16 bit floats"),
        (np.float64, 1, "1 band of 64 bit floats"),
        (np.uint16, 2, "2 bands of 16 bit whole numbers"),
        (np.uint16, 5, "5 bands of 16 bit whole numbers"),
        (np.uint32, 3, "3 bands of 32 bit whole numbers"),
    ],
)
def test_a_tiff_that_is_not_read_says_what_it_holds(tmp_path: Path, dtype: type, bands: int, kind: str) -> None:
    path = write_tiff(tmp_path / "a.tif", np.ones((20, 30, bands), dtype))
    for read in (read_image, image_size):
        with pytest.raises(CianError, match=rf"a\.tif: a TIFF of {kind}, which is not read\. Save"):
            read(path)


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt", b"iCCP", b"broken"])
def test_png_with_much_text_or_a_large_profile(tmp_path: Path, kind: bytes) -> None:
    text = b'{"type": "KSampler"},' * 80_000  # 1.7 MB; Pillow's own limit is 1 MB
    content = {
        b"zTXt": b"workflow\0\0" + zlib.compress(text),
        b"iTXt": b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(text),
        b"iCCP": b"large\0\0" + zlib.compress(bytes(1_700_000)),
        b"broken": b"broken\0\0no zlib at all",
    }[kind]
    kind = b"iCCP" if kind == b"broken" else kind
    path = tmp_path / "a.png"
    Image.new("L", (30, 20), 7).save(path)
    data = path.read_bytes()
    path.write_bytes(data[:33] + png_chunk(kind, content) + data[33:])  # after the header
    assert read_image(path).shape == (20, 30, 3)
    assert (read_mask(path) == 7).all()


def test_16_bit_pgm(tmp_path: Path) -> None:
    path = tmp_path / "a.pgm"
    path.write_bytes(b"P5 2 1 65535\n" + bytes([0, 0, 255, 255]))
    assert read_image(path)[0, :, 0].tolist() == [0, 255]


@pytest.mark.parametrize("top", [1, 100, 1000, 4095, 40_000])
def test_the_highest_value_of_a_pgm_counts(tmp_path: Path, top: int) -> None:
    dark = top // 10  # whatever the pixels use
    values = [0, dark, dark, 0]
    size = 1 if top < 256 else 2
    (tmp_path / "a.pgm").write_bytes(b"P5 2 2 %d\n" % top + b"".join(v.to_bytes(size, "big") for v in values))
    expected = round(255 * dark / top)
    assert read_image(tmp_path / "a.pgm")[..., 0].ravel().tolist() == [0, expected, expected, 0]
    colours = b"".join(v.to_bytes(size, "big") for v in (0, dark, top))
    (tmp_path / "a.ppm").write_bytes(b"P6 1 1 %d\n" % top + colours)
    assert np.abs(read_image(tmp_path / "a.ppm")[0, 0].astype(int) - [0, expected, 255]).max() <= 1


def test_signed_numbers_of_8_bits(tmp_path: Path) -> None:
    values = np.arange(-128, 128, dtype=np.int8).reshape(8, 32, 1)
    assert (read_image(write_tiff(tmp_path / "a.tif", values))[..., 0] == np.arange(256).reshape(8, 32)).all()


@pytest.mark.parametrize("bits", [2, 4, 8, 16])
def test_a_transparent_grey_is_white(tmp_path: Path, bits: int) -> None:
    path, numbers = tmp_path / "a.png", np.array([[0, 1, 2]], np.uint16)
    if bits == 16:
        line = numbers.astype(">u2").tobytes()
    else:
        digits = np.unpackbits(numbers.astype(np.uint8)[..., None], axis=2)[..., -bits:]
        line = np.packbits(digits.ravel()).tobytes()
    header = struct.pack(">IIBBBBB", 3, 1, bits, 0, 0, 0, 0)
    chunks = (b"IHDR", header), (b"tRNS", b"\0\1"), (b"IDAT", zlib.compress(b"\0" + line)), (b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*part) for part in chunks))
    black, white, grey = read_image(path)[0, :, 0]
    assert black == 0 and white == 255 and grey < 255


@pytest.mark.parametrize(("packing", "name"), [(50001, "WebP"), (34712, "JPEG 2000")])
def test_a_tiff_packed_in_a_rare_way(tmp_path: Path, packing: int, name: str) -> None:
    path = write_tiff(tmp_path / "a.tif", drawn(3))
    tag = struct.pack("<HHI", 259, 4, 1)
    assert path.read_bytes().count(tag) == 1
    path.write_bytes(path.read_bytes().replace(tag + struct.pack("<I", 1), tag + struct.pack("<I", packing)))
    with pytest.raises(CianError, match=rf"a\.tif: a TIFF packed by {name}, which is not read\. Save it with LZW"):
        read_image(path)


def test_lab(tmp_path: Path) -> None:
    Image.new("LAB", (30, 20), (136, 128, 128)).save(tmp_path / "a.tif")  # a grey of L* = 53
    assert np.abs(read_image(tmp_path / "a.tif").astype(int) - 127).max() <= 2


def test_first_frame_of_an_animation(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (20, 20), colour) for colour in (COLOUR, (0, 0, 0))]
    for suffix in ("gif", "webp", "png", "tif"):
        path = tmp_path / f"a.{suffix}"
        frames[0].save(path, save_all=True, append_images=frames[1:])
        assert np.abs(read_image(path).astype(int) - COLOUR).max() <= 8
        assert decode(path) == (20, 20, True)
        frames[0].save(path)
        assert decode(path) == (20, 20, False)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path: Path, suffix: str, orientation: int) -> None:
    stored = CORNERS.repeat(16, axis=0).repeat(16, axis=1)  # (32, 48, 3)
    turned = {
        1: stored,
        2: stored[:, ::-1],
        3: stored[::-1, ::-1],
        4: stored[::-1],
        5: stored.swapaxes(0, 1),
        6: np.rot90(stored, -1),
        7: np.rot90(stored, 2).swapaxes(0, 1),
        8: np.rot90(stored),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(stored).save(path, exif=exif, quality=100, lossless=True)
    pixels, expected = read_image(path), turned[orientation]
    assert pixels.shape == expected.shape
    assert decode(path)[:2] == expected.shape[:2]
    assert np.abs(pixels[8::16, 8::16].astype(int) - expected[8::16, 8::16]).max() <= 8
    assert image_size(path) == expected.shape[:2]


def save_heic(path: Path, pixels: np.ndarray, exif: Image.Exif) -> Path:
    pillow_heif = pytest.importorskip("pillow_heif")
    file = pillow_heif.from_pillow(Image.fromarray(pixels))
    file.save(path, exif=exif.tobytes(), quality=-1, chroma=444)  # writes the turn twice, as phones do
    return path


@pytest.mark.parametrize("orientation", range(1, 9))
def test_heic(tmp_path: Path, orientation: int) -> None:
    stored = CORNERS.repeat(32, axis=0).repeat(32, axis=1)  # (64, 96, 3)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save_heic(tmp_path / "a.HEIC", stored, exif)
    Image.fromarray(stored).save(tmp_path / "a.png", exif=exif)
    expected = read_image(tmp_path / "a.png")
    pixels = read_image(path)
    assert pixels.shape == expected.shape and pixels.dtype == np.uint8 and pixels.flags.writeable
    assert np.abs(pixels.astype(int) - expected).max() <= 8
    assert image_size(path) == expected.shape[:2]
    assert read_image(path, max_side=48).shape == (*np.array(expected.shape[:2]) // 2, 3)
    assert find_all_images(tmp_path) == ([path, tmp_path / "a.png"], [])


def test_damaged_heic(tmp_path: Path) -> None:
    path = save_heic(tmp_path / "a.heic", CORNERS.repeat(32, axis=0).repeat(32, axis=1), Image.Exif())
    content = path.read_bytes()
    for length in (0, 10, 100, len(content) - 50):
        path.write_bytes(content[:length])
        with pytest.raises(CianError, match=r"a\.heic: .*Replace"):
            read_image(path)


@pytest.fixture
def without_heif(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    images._register_heif.cache_clear()
    yield
    images._register_heif.cache_clear()


@pytest.mark.usefixtures("without_heif")
def test_images_that_are_not_read(tmp_path: Path) -> None:
    for name in ("b.HEIC", "a.jpg", "deep/c.Nef", "notes.txt", ".d.heic"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert find_all_images(tmp_path) == ([tmp_path / "a.jpg"], [tmp_path / "b.HEIC", tmp_path / "deep/c.Nef"])
    with pytest.raises(CianError, match=r"b\.HEIC: not an image.*Convert to JPEG, or run `pip install pillow-heif`"):
        read_image(tmp_path / "b.HEIC")
    with pytest.raises(CianError, match=r"c\.Nef: not an image.*Convert to JPEG$"):
        read_image(tmp_path / "deep/c.Nef")


@pytest.mark.parametrize("name", ["jpg", "png", "HEIC"])
def test_the_content_counts_not_the_suffix(tmp_path: Path, name: str) -> None:
    for kind in FORMATS:
        path = save(tmp_path / f"a.{name}", format=kind)
        assert np.abs(read_image(path).astype(int) - COLOUR).max() <= 8, kind
        assert image_size(path) == (20, 30)


def test_heic_in_a_jpg(tmp_path: Path) -> None:
    path = save_heic(tmp_path / "a.heic", CORNERS.repeat(32, axis=0).repeat(32, axis=1), Image.Exif())
    path = path.rename(tmp_path / "IMG_1.jpg")
    code = f"import cian.data.images as i, pathlib; print(i.read_image(pathlib.Path({str(path)!r})).shape)"
    fresh = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert fresh.stdout == "(64, 96, 3)\n"  # nothing else has registered pillow-heif before


@pytest.mark.usefixtures("without_heif")
def test_heic_in_a_jpg_without_pillow_heif(tmp_path: Path) -> None:
    path = tmp_path / "IMG_1.jpg"
    path.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    with pytest.raises(CianError, match=r"IMG_1\.jpg: holds HEIC.*`pip install pillow-heif` for HEIC"):
        read_image(path)


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 40\n%%EndComments\nshowpage\n"


@pytest.fixture
def ghostscript(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that a stand-in for Ghostscript writes when it is run."""
    ran, program = tmp_path / "ran.txt", tmp_path / "bin/gs"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" >> {ran}\n[ "$1" = --version ] && echo 10.03\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)  # Pillow looks for it again
    return ran


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in for Ghostscript is a shell script")
def test_postscript_starts_nothing(tmp_path: Path, ghostscript: Path) -> None:
    for name in ("holiday.jpg", "mask.png", "real.eps"):
        path = tmp_path / name
        path.write_bytes(POSTSCRIPT)
        for read in (read_image, image_size, read_mask):
            with pytest.raises(CianError, match=rf"{name}: holds PostScript, not an image"):
                read(path)
        with Image.open(path) as image, pytest.raises(CianError, match=r"format EPS.*Give image\.convert"):
            upright(image)
    assert not ghostscript.exists()
    with Image.open(tmp_path / "holiday.jpg") as image, contextlib.suppress(subprocess.CalledProcessError):
        image.load()
    assert ghostscript.exists()  # so this test can fail


@pytest.mark.parametrize("kind", ["TGA", "ICO", "PCX", "SGI", "JPEG2000", "AVIF", "ICNS", "MSP", "XBM"])
def test_no_other_decoder_runs(tmp_path: Path, kind: str) -> None:
    if not (features.check("jpg_2000") if kind == "JPEG2000" else kind != "AVIF" or features.check("avif")):
        pytest.skip("Pillow is built without it")
    mode = {"MSP": "1", "XBM": "1"}.get(kind, "RGB")
    path = tmp_path / "a.jpg"
    Image.new(mode, (32, 32)).save(path, format=kind)
    with Image.open(path) as image:
        assert image.format == kind
    for read in (read_image, image_size, read_mask):
        with pytest.raises(CianError, match=r"a\.jpg: .*not an image that can be read"):
            read(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"%PDF-1.7", r"holds PDF, .* Convert to JPEG$"),
        (b"\0\0\0\x20ftypavif", r"holds AVIF, .* Convert to JPEG$"),
        (b"<!DOCTYPE html><html>", r"holds a web page, .* Replace or remove it$"),
        (b"version https://git-lfs.github.com/spec/v1\n", r"holds a Git LFS pointer, .* Replace or remove it$"),
    ],
)
def test_what_is_no_image_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(CianError, match=rf"a\.jpg: {message}"):
        read_image(tmp_path / "a.jpg")


def test_an_image_with_broken_exif_is_read(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", exif=b"Exif\0\0garbage that is no TIFF header")
    assert read_image(path).shape == (20, 30, 3)
    assert image_size(path) == (20, 30)


def test_size_needs_no_pixels(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", size=(300, 200))
    path.write_bytes(path.read_bytes()[:60])
    assert image_size(path) == (200, 300)


def _broken(folder: Path) -> dict[str, Path]:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    files = {"missing": folder / "none.jpg", "folder": folder / "dir.jpg"}
    files["folder"].mkdir()
    for suffix in ("jpg", "png", "webp", "tif", "gif", "bmp", "ppm"):
        path = files[f"truncated {suffix}"] = folder / f"truncated.{suffix}"
        Image.fromarray(noise).save(path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    for name, content in {
        "empty": b"",
        "text": b"<html>404</html>",
        "start": b"\x89PNG\r\n\x1a\n",
        "bm": b"BM",
    }.items():
        files[name] = folder / f"{name}.png"
        files[name].write_bytes(content)
    return files


@pytest.mark.parametrize("read", [read_image, decode])
def test_broken_files_name_themselves_and_a_cure(tmp_path: Path, read: Callable[[Path], object]) -> None:
    for kind, path in _broken(tmp_path).items():
        with pytest.raises(CianError) as caught:
            read(path)
        message = str(caught.value)
        assert message.startswith(f"{path}: "), kind
        assert "\n" not in message
        assert any(word in message for word in ("Replace", "Give", "Reduce")), message


@pytest.mark.parametrize("seed", range(30))
def test_damaged_bytes_never_raise_anything_else(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    suffix = ["jpg", "png", "gif", "tif", "webp", "bmp"][seed % 6]
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(rng.integers(0, 255, (40, 40, 3), np.uint8)).save(path)
    content = bytearray(path.read_bytes())
    for position in rng.integers(0, len(content), 20):
        content[position] = rng.integers(0, 256)
    path.write_bytes(content)
    for read in (read_image, image_size):
        try:
            read(path)
        except CianError as error:
            assert str(error).startswith(f"{path}: ")


@pytest.fixture
def limit() -> Iterator[Callable[[float], None]]:
    assert images.megapixel_limit() == DataConfig().max_megapixels == 100
    yield images.limit_pixels
    images.limit_pixels(100)


def test_large_images(tmp_path: Path, limit: Callable[[float], None]) -> None:
    path = tmp_path / "a.png"
    Image.new("1", (20_000, 10_000)).save(path)
    said = r"a\.png: .*over the limit of 100 megapixels.* data\.max_megapixels"
    for read in (read_image, image_size, decode, read_mask):
        with pytest.raises(CianError, match=said):
            read(path)
    limit(200)  # Pillow by itself would refuse them
    assert image_size(path) == (10_000, 20_000)
    with Image.open(path) as image:
        limit(199.9)
        with pytest.raises(CianError, match=r"image: 20000 x 10000 pixels, over the limit of 199\.9 megapixels"):
            upright(image)
    with pytest.raises(CianError, match=r"a\.png: 20000 x 10000 pixels, .*set data\.max_megapixels=200$"):
        read_image(path)


def test_large_images_one_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [save(tmp_path / f"{i}.png", size=(300, 200)) for i in range(8)]
    small = [save(tmp_path / f"small{i}.png", size=(30, 20)) for i in range(8)]
    decoding: list[str] = []
    most = {"large": 0, "all": 0}
    rgb = images._rgb

    def watched(image: Image.Image) -> np.ndarray:
        kind = "large" if image.width == 300 else "small"
        decoding.append(kind)
        most["large"] = max(most["large"], decoding.count("large"))
        most["all"] = max(most["all"], len(decoding))
        time.sleep(0.02)
        decoding.remove(kind)
        return rgb(image)

    monkeypatch.setattr(images, "_rgb", watched)
    monkeypatch.setattr(images, "_LARGE", 50_000)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(read_image, paths + small))
    assert most["large"] == 1 and most["all"] > 1


@pytest.mark.skipif(sys.platform == "win32", reason="no lock between processes there")
def test_a_large_image_waits_for_another_process(tmp_path: Path) -> None:
    code = (
        "import cian.data.images as i, sys\nwith i.alone(10**9):\n    print('in', flush=True)\n    sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdout.readline() == b"in\n"
        entered = threading.Event()

        def enter() -> None:
            with images.alone(10**9):
                entered.set()

        thread = threading.Thread(target=enter)
        thread.start()
        with images.alone(1000):  # small ones do not wait
            assert not entered.wait(0.2)
        other.communicate()
        assert entered.wait(10)
        thread.join()


def test_a_jpeg_is_checked_at_an_eighth_of_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = []
    monkeypatch.setattr(images, "_rgb", lambda image: decoded.append(image.size))
    for name in ("a.jpg", "a.png"):
        assert decode(save(tmp_path / name, size=(1600, 800))) == (800, 1600, False)
    assert decoded == [(200, 100), (1600, 800)]


def test_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(image: Image.Image) -> None:
        raise MemoryError

    monkeypatch.setattr(images, "_rgb", fail)
    with pytest.raises(CianError, match="does not fit into memory"):
        read_image(save(tmp_path / "a.png"))


def test_errors_can_be_pickled(tmp_path: Path) -> None:
    with pytest.raises(FileError) as caught:
        read_image(tmp_path / "none.jpg")
    copy = pickle.loads(pickle.dumps(caught.value))
    assert str(copy) == str(caught.value)
    assert copy.problem == caught.value.problem


def test_find_images(tmp_path: Path) -> None:
    for name in [
        "b.JPG",
        "a/c.png",
        "a/d/e.Jpeg",
        "z.webp",
        ".hidden.jpg",
        ".cache/x.jpg",
        "notes.txt",
        "jpg",
        "é.tif",
    ]:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "folder.jpg").mkdir()
    found = [path.relative_to(tmp_path).as_posix() for path in find_images(tmp_path)]
    assert found == ["a/c.png", "a/d/e.Jpeg", "b.JPG", "z.webp", "é.tif"]


def test_images_under_any_name(tmp_path: Path) -> None:
    kinds = {"photo": "JPEG", "a.jpg_large": "JPEG", "b.123": "PNG", "c.IMG": "TIFF", "d.x": "BMP", "e.y": "GIF"}
    for name, kind in {**kinds, "f.z": "WEBP", "folder.d/no-suffix": "PNG"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (30, 20), COLOUR).save(tmp_path / name, format=kind)
    for name, content in {"notes": b"BMW is a car", "cache.db": b"\xff\xd8\xff", "Makefile": b"all:", "0": b""}.items():
        (tmp_path / name).write_bytes(content)
    found, unread = find_all_images(tmp_path)
    expected = ["a.jpg_large", "b.123", "c.IMG", "d.x", "e.y", "f.z", "folder.d/no-suffix", "photo"]
    assert [path.relative_to(tmp_path).as_posix() for path in found] == expected and not unread
    assert FileIndex(tmp_path, found).ids == ["a", "b", "c", "d", "e", "f", "folder.d/no-suffix", "photo"]
    for path in found:
        assert np.abs(read_image(path).astype(int) - COLOUR).max() <= 8


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.dcm", bytes(128) + b"DICM", "holds DICOM"),
        ("a.czi", b"ZISRAWFILE\0", "holds a CZI image of a microscope"),
        ("a.exr", b"v/1\x01", "holds OpenEXR"),
        ("a.raf", b"FUJIFILMCCD-RAW", "holds a camera's raw image"),
        ("a.nd2", b"\xda\xce\xbe\n", "not an image that can be read"),
    ],
)
def test_scientific_and_raw_images_are_named(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(CianError, match=rf"{name}: {says}.* Convert to JPEG$"):
        read_image(path)
    assert find_all_images(tmp_path) == ([], [path])


@pytest.mark.parametrize("tag", [254, 50706])
def test_the_preview_in_a_raw_image_is_not_taken_for_it(tmp_path: Path, tag: int) -> None:
    path = tmp_path / "a.tif"
    Image.new("RGB", (160, 120), COLOUR).save(path, tiffinfo={tag: 1})
    with pytest.raises(CianError, match=r"a\.tif: holds a camera's raw image, or a preview alone\. Convert to JPEG"):
        read_image(path)


def test_find_images_follows_links_once(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real/a.jpg").touch()
    (tmp_path / "root").mkdir()
    (tmp_path / "root/link").symlink_to(tmp_path / "real")
    (tmp_path / "real/back").symlink_to(tmp_path / "root")
    assert find_images(tmp_path / "root") == [tmp_path / "root/link/a.jpg"]


def test_find_images_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name in ("file", "nul\0l"):
        with pytest.raises(CianError, match=r"cannot be listed.*Give a readable folder"):
            find_images(tmp_path / name)
    with pytest.raises(CianError, match=r"none: no such folder\. Give one that exists"):
        find_images(tmp_path / "none")
