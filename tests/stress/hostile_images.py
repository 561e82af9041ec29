"""Hostile images and masks: broken ones, bombs, other contents than their names say, names that are no names."""

from __future__ import annotations

import io
import os
import random
import shutil
import struct
import zlib
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin
from scipy.io import savemat

from tests.stress.hostile import CANARY, IMAGES, Input, Make, check, checked, small_images, trials
from tests.stress.mutations import mutated
from tests.stress.stand import Stand, Trials

MEGABYTE = 1 << 20


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def _png(
    width: int, height: int, depth: int = 8, colour: int = 2, more: bytes = b"", pixels: bytes | None = None
) -> bytes:
    """A PNG of zeros. Without `pixels`, all of them, packed row by row.

    Args:
        colour: as PNG numbers it: 0 grey, 2 RGB, 3 palette, 6 RGBA.
        more: chunks before the pixels.
        pixels: the packed pixels.
    """
    if pixels is None:
        packer = zlib.compressobj(9)
        row = bytes(1 + (width * depth * {0: 1, 2: 3, 3: 1, 6: 4}[colour] + 7) // 8)
        pixels = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    head = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    palette = _chunk(b"PLTE", bytes(768)) if colour == 3 else b""
    return b"\x89PNG\r\n\x1a\n" + head + palette + more + _chunk(b"IDAT", pixels) + _chunk(b"IEND", b"")


def _saved(image: Image.Image, form: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


@cache
def encoded() -> dict[str, bytes]:
    """A sound image of each kind, by a file name."""
    rng = np.random.default_rng(0)
    rgb = Image.fromarray(rng.integers(0, 255, (40, 48, 3), dtype=np.uint8))
    deep = Image.fromarray(rng.integers(0, 65535, (40, 48), dtype=np.uint16))
    exif, text = Image.Exif(), PngImagePlugin.PngInfo()
    exif[0x0112], exif[0x010F] = 6, "maker" * 20
    text.add_text("a", "b" * 500, zip=True)
    text.add_itxt("c", "d" * 500, zip=True)
    palette = rgb.convert("P")
    found = {
        "exif.jpg": _saved(rgb, "JPEG", exif=exif),
        "cmyk.jpg": _saved(rgb.convert("CMYK"), "JPEG", progressive=True),
        "grey.jpg": _saved(rgb.convert("L"), "JPEG"),
        "deep.png": _saved(deep, "PNG"),
        "text.png": _saved(rgb, "PNG", pnginfo=text, exif=exif),
        "deep.tif": _saved(deep, "TIFF"),
        "float.tif": _saved(Image.fromarray(rng.random((40, 48), dtype=np.float32)), "TIFF"),
        "lossy.webp": _saved(rgb, "WEBP", exif=exif),
        "lossless.webp": _saved(rgb.convert("RGBA"), "WEBP", lossless=True),
        "frames.gif": _saved(palette, "GIF", save_all=True, append_images=[palette] * 3),
        "a.bmp": _saved(rgb, "BMP"),
        "a.ppm": _saved(rgb, "PPM"),
    }
    for mode in ("RGB", "RGBA", "L", "LA", "P", "1"):
        found[f"{mode}.png"] = _saved(rgb.convert(mode), "PNG")
    for packing in ("raw", "tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits"):
        found[f"{packing}.tif"] = _saved(rgb, "TIFF", compression=packing)
    return found


def _app1(body: bytes, count: int = 1) -> bytes:
    """A JPEG with segments of metadata."""
    jpeg = encoded()["exif.jpg"]
    return jpeg[:2] + (b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body) * count + jpeg[2:]


def _jpeg_of(side: int) -> bytes:
    """A JPEG whose header claims more pixels than it has."""
    jpeg = encoded()["exif.jpg"]
    at = jpeg.index(b"\xff\xc0") + 5
    return jpeg[:at] + struct.pack(">HH", side, side) + jpeg[at + 4 :]


def _bmp(width: int, height: int, bits: int = 24, packing: int = 0) -> bytes:
    return b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, width, height, 1, bits, packing, 0, 0, 0, 0, 0)


def _tiff_with(tag: int, value: int) -> bytes:
    """A TIFF one of whose tags has another value. Tag 0 makes its list of tags a loop."""
    tiff = bytearray(encoded()["raw.tif"])
    (at,) = struct.unpack_from("<I", tiff, 4)
    (count,) = struct.unpack_from("<H", tiff, at)
    if not tag:
        struct.pack_into("<I", tiff, at + 2 + 12 * count, at)
    for entry in range(at + 2, at + 2 + 12 * count, 12):
        if struct.unpack_from("<H", tiff, entry)[0] == tag:
            struct.pack_into("<HHII", tiff, entry, tag, 4, 1, value)
    return bytes(tiff)


@cache
def bombs() -> dict[str, bytes]:
    """Small files that claim or unfold to large things, and files that are no images, by names that hold a suffix."""
    zipped = zlib.compress(b"x" * (100 * MEGABYTE), 9)
    loop = (
        b"Exif\0\0II*\0\x08\0\0\0\x02\0" + struct.pack("<HHII", 0x8769, 4, 1, 8) + struct.pack("<HHII", 0x0112, 3, 9, 6)
    )
    tags = [(256, 10**6), (256, 22_000), (257, 10**6), (258, 65_535), (277, 65_535), (278, 0), (273, 2**32 - 1), (0, 0)]
    return {
        "50,000 px claimed.png": _png(50_000, 50_000, pixels=zlib.compress(bytes(1000))),
        "2^31 px claimed.png": _png(2**31 - 1, 2**31 - 1, pixels=b""),
        "no pixels.png": _png(0, 0),
        "cut.png": _png(40, 40, pixels=zlib.compress(bytes(100))),
        "300 MB behind the pixels.png": _png(40, 40, pixels=zlib.compress(bytes(300 * MEGABYTE), 9)),
        "60,000 x 1.png": _png(60_000, 1),
        "1 x 60,000.png": _png(1, 60_000),
        "one pixel.png": _png(1, 1),
        "zTXt of 100 MB.png": _png(40, 40, more=_chunk(b"zTXt", b"cian\0\0" + zipped)),
        "iTXt of 100 MB.png": _png(40, 40, more=_chunk(b"iTXt", b"cian\0\x01\0\0\0" + zipped)),
        "200 texts.png": _png(40, 40, more=_chunk(b"zTXt", b"cian\0\0" + zlib.compress(b"x" * 900_000)) * 200),
        "profile of 100 MB.png": _png(40, 40, more=_chunk(b"iCCP", b"a\0\0" + zipped)),
        "2^31 frames.png": _png(40, 40, more=_chunk(b"acTL", struct.pack(">II", 2**31 - 1, 0))),
        "EXIF in a loop.jpg": _app1(loop + struct.pack("<I", 8)),
        "200 EXIF.jpg": _app1(b"Exif\0\0" + bytes(65_000), 200),
        "100 XMP.jpg": _app1(b"http://ns.adobe.com/xap/1.0/\0" + b"<x>" * 21_000, 100),
        "65,500 px claimed.jpg": _jpeg_of(65_500),
        "20,000 px claimed.jpg": _jpeg_of(20_000),
        "9,000 px claimed.jpg": _jpeg_of(9_000),
        "50,000 px claimed.ppm": b"P6 50000 50000 255\n",
        "20,000 px claimed.ppm": b"P6 20000 20000 255\n" + bytes(100),
        "negative.ppm": b"P6 -40 40 255\n",
        "maximum 0.pgm": b"P5 40 40 0\n" + bytes(1600),
        "a comment of 10 MB.ppm": b"P6 #" + b"x" * (10 * MEGABYTE) + b"\n40 40 255\n",
        "100,000 px claimed.bmp": _bmp(100_000, 100_000),
        "negative.bmp": _bmp(40, -(2**31)),
        "15,000 px in runs.bmp": _bmp(15_000, 15_000, 8, 1) + bytes(2000),
        "65,535 px.gif": b"GIF89a"
        + struct.pack("<HH", 65_535, 65_535)
        + b"\x80\0\0"
        + bytes(6)
        + b",\0\0\0\0"
        + struct.pack("<HH", 65_535, 65_535)
        + b"\0\x02\x02\x44\x01\0;",
        "16 million px a side.webp": b"RIFF\x1e\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + b"\xff" * 6,
        "empty.png": b"",
        "a text.png": b"hello",
        "SVG.png": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        "PostScript.png": f"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 40\n({CANARY}) (w) file\n".encode(),
        "PostScript.jpg": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 40\nshowpage\n",
        "PDF.jpg": b"%PDF-1.7\n" + bytes(200),
        "PSD.png": b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 40, 40, 8, 3) + bytes(20),
        "QOI of 20,000 px.png": b"qoif" + struct.pack(">II", 20_000, 20_000) + b"\3\0" + b"\xfd" * 500,
        "PCX of 60,000 px.png": b"\x0a\x05\x01\x08" + struct.pack("<HHHH", 0, 0, 60_000, 60_000) + bytes(200),
        "ICO.png": b"\0\0\1\0\1\0" + bytes(16) + _png(40, 40),
        **{f"tag {tag} is {value}.tif": _tiff_with(tag, value) for tag, value in tags},
    }


def _large() -> dict[str, Callable[[], bytes]]:
    """Sound images near and over the limit of pixels, of some hundred kB each."""
    return {
        "9,500 px.png": lambda: _png(9_500, 9_500),
        "9,500 px of 16 bits.png": lambda: _png(9_500, 9_500, 16, 0),
        "9,500 px with alpha.png": lambda: _png(9_500, 9_500, 8, 6),
        "20,000 px.png": lambda: _png(20_000, 20_000),
        "20,000 px of 1 bit.png": lambda: _png(20_000, 20_000, 1, 0),
    }


def _special(command: str, add: Callable[[Path], object], model: Path | None = None) -> Make:
    def make(folder: Path) -> list[str]:
        small_images(folder / "images" / "fox")
        (folder / "images" / "rabbit").mkdir()
        for name in IMAGES[::2]:
            (folder / "images" / "fox" / name).rename(folder / "images" / "rabbit" / f"r{name}")
        add(folder / "images" / "fox")
        if command == "check":
            return check()
        assert model is not None
        settings = ("predict.scales=1", "predict.crf.iterations=1")
        return ["predict", "--model", str(model), "--images", "images", "--out", "out", "--overlays"] + [
            part for setting in settings for part in ("--set", setting)
        ]

    return make


def _chain(folder: Path) -> None:
    for i in range(50):
        (folder / f"l{i}.png").symlink_to(f"l{i + 1}.png")


def _deep(folder: Path) -> None:
    inner = folder.joinpath(*["d" * 30] * 100)
    inner.mkdir(parents=True)
    shutil.copy(next(folder.glob("*.png")), inner / "z.png")


def _link(target: str) -> Callable[[Path], None]:
    return lambda folder: (folder / "y.png").symlink_to(target)


def _named(name: str | bytes) -> Callable[[Path], object]:
    text = name if isinstance(name, str) else os.fsdecode(name)
    return lambda folder: shutil.copy(next(folder.glob("*.png")), folder / text)


PLACES: dict[str, Callable[[Path], object]] = {
    "a folder called x.png": lambda folder: (folder / "x.png").mkdir(),
    "a pipe": lambda folder: os.mkfifo(folder / "y.png"),
    "a link to /dev/zero": _link("/dev/zero"),
    "a link to nothing": _link("nothing"),
    "a link to itself": _link("y.png"),
    "a link to /etc/passwd": _link("/etc/passwd"),
    "a link to the folder above": lambda folder: (folder / "up").symlink_to(".."),
    "a link to /proc": lambda folder: (folder / "proc").symlink_to("/proc/self"),
    "a chain of links": _chain,
    "100 folders deep": _deep,
    "a name that is no text": _named(b"y\xff\xfe.png"),
    "a name with a line break and an escape": _named("y\n\x1b[2J.png"),
    "a name of 255 letters": _named("y" * 251 + ".png"),
    "a name with quotes and code": _named(f"y\"'<b>&;$(touch {CANARY})`touch {CANARY}`.png"),
    "a name with a formula": _named("=1+1.png"),
    "a name as of a temporary file": _named(".cian-tmp-x.png"),
}


def images(stand: Stand, rng: random.Random, share: float) -> Trials:
    """Images, in `cian check` and `cian predict`."""
    model = stand.model

    def both(name: str, content: bytes | Callable[[], bytes]) -> list[Input]:
        def add(folder: Path) -> None:
            (folder / f"odd{Path(name).suffix}").write_bytes(content() if callable(content) else content)

        return [(f"{name}, {command}", _special(command, add, model)) for command in ("check", "predict")]

    def one(rng: random.Random) -> Input:
        name, content = rng.choice(list(encoded().items()))
        what, make = both(name, mutated(content, rng, rng.choice([32, 80, 300, None])))[rng.random() < 0.2]
        return f"mutated {what}", make

    crafted = [each for name, content in {**bombs(), **_large()}.items() for each in both(name, content)]
    crafted += [
        (f"{what}, {command}", _special(command, add, model))
        for what, add in PLACES.items()
        for command in ("check", "predict")
    ]
    for name, content in encoded().items():
        crafted += [
            (f"{name} called {suffix}", both(f"x{suffix}", content)[0][1])
            for suffix in (".png", ".jpg", ".tif")
            if not name.endswith(suffix)
        ]
    yield from trials(stand, rng, share, crafted, one, 150)


def _mat(mask: np.ndarray, form: str = "{}", packed: bool = True) -> bytes:
    """A mask as SBD writes it; `form` says what else it may be."""
    buffer = io.BytesIO()
    trees = {"{}": {"GTcls": {"Segmentation": mask}}, "no GTcls": {"x": mask}, "no struct": {"GTcls": mask}}
    savemat(buffer, trees[form], do_compression=packed)
    return buffer.getvalue()


def _scored(name: str, content: bytes | Callable[[], bytes], place: str) -> Make:
    """`cian evaluate` of sound masks, one of which is replaced."""

    def make(folder: Path) -> list[str]:
        mask = np.zeros((32, 40), np.uint8)
        mask[4:20, 4:20] = 1
        for part in ("predictions", "masks"):
            (folder / part).mkdir()
            for i in range(2):
                Image.fromarray(mask * (1 + i)).save(folder / part / f"p{i}.png")
        path = folder / place / f"p0{Path(name).suffix}"
        path.write_bytes(content() if callable(content) else content)
        (folder / "classes.txt").write_text("background\nfox\nrabbit\n")
        return ["evaluate", "--predictions", "predictions", "--masks", "masks", "--classes", "classes.txt"]

    return make


def masks(stand: Stand, rng: random.Random, share: float) -> Trials:
    """Masks, label maps and SBD's .mat files."""
    mask = np.zeros((32, 40), np.uint8)
    mask[4:20, 4:20] = 1
    sound = {f"{mode}.png": _saved(Image.fromarray(mask).convert(mode), "PNG") for mode in ("L", "P", "1", "RGB", "LA")}
    sound |= {"16 bits.png": _saved(Image.fromarray(mask.astype(np.uint16)), "PNG")}
    sound |= {"plain.mat": _mat(mask, packed=False), "packed.mat": _mat(mask)}

    def given(name: str, content: bytes | Callable[[], bytes]) -> list[Input]:
        def make(option: str, folder: Path) -> list[str]:
            data = content() if callable(content) else content
            return checked(f"masks/p0{Path(name).suffix}", data, "--tags", "tags.csv", option, "masks")(folder)

        found = [(f"{name}, {option}", partial(make, option)) for option in ("--masks", "--labels")]
        if name.endswith(".png"):
            found += [(f"{name}, evaluate", _scored(name, content, place)) for place in ("masks", "predictions")]
        return found

    def one(rng: random.Random) -> Input:
        name, content = rng.choice(list(sound.items()))
        what, make = rng.choice(given(name, mutated(content, rng, rng.choice([60, 200, None]))))
        return f"mutated {what}", make

    odd: dict[str, bytes | Callable[[], bytes]] = {name: content for name, content in bombs().items() if ".png" in name}
    odd |= {
        "20,000 px.png": lambda: _png(20_000, 20_000, 8, 3),
        "9,500 px.png": lambda: _png(9_500, 9_500, 8, 3),
        "a depth of 3 bits.png": (png := _png(40, 32, 8, 3))[:24] + b"\3" + png[25:],
        "without GTcls.mat": _mat(mask, "no GTcls"),
        "without a struct.mat": _mat(mask, "no struct"),
        "fractions.mat": _mat(mask.astype(float)),
        "three axes.mat": _mat(mask[None]),
        "no pixels.mat": _mat(np.zeros((0, 0), np.uint8)),
        "30,000 px.mat": lambda: _mat(np.zeros((30_000, 30_000), np.uint8)),
        "a pickle.mat": b"\x80\x04\x95" + bytes(100),
    }
    crafted = [each for name, content in odd.items() for each in given(name, content)]
    yield from trials(stand, rng, share, crafted, one, 80)
