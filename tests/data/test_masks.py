"""Masks keep their class ids through files of every kind, and are drawn over images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cian.data import images
from cian.data.masks import read_mask, read_note, reduce_labels, resize_mask, write_mask
from cian.data.palette import COLOURS, VOC_COLOURS
from cian.errors import CianError
from cian.formats.label_maps import read_ids
from cian.formats.tree import Tree

ALL_IDS = np.arange(256, dtype=np.uint8).reshape(8, 32)


def test_write_and_read(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "a.png"
    write_mask(path, ALL_IDS)
    mask = read_mask(path)
    assert mask.dtype == np.uint8
    assert mask.flags.writeable
    assert (mask == ALL_IDS).all()
    with Image.open(path) as image:
        assert image.mode == "P"
        assert image.getpalette() == COLOURS.ravel().tolist()
    assert list(path.parent.iterdir()) == [path]
    write_mask(path, ALL_IDS[::-1, ::2])  # overwrites; any memory layout
    assert (read_mask(path) == ALL_IDS[::-1, ::2]).all()


def test_a_failed_write_keeps_the_old_mask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    write_mask(path, ALL_IDS)

    def fail(self: Image.Image, file: Path, **options: object) -> None:
        Path(file).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(CianError, match=r"a\.png: cannot be written \(No space left on device\)\. Free space"):
        write_mask(path, ALL_IDS * 0)
    monkeypatch.undo()
    assert (read_mask(path) == ALL_IDS).all()
    assert list(tmp_path.iterdir()) == [path]


def test_a_note_is_stored_in_the_mask(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    write_mask(path, ALL_IDS, "Füchse")
    assert read_note(path) == "Füchse" and (read_mask(path) == ALL_IDS).all()
    write_mask(path, ALL_IDS)
    assert read_note(path) is None and read_note(tmp_path / "none.png") is None


def test_write_where_a_file_is_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CianError, match="cannot be written"):
        write_mask(tmp_path / "file" / "a.png", ALL_IDS)


@pytest.mark.parametrize("mask", [ALL_IDS.astype(np.int64), ALL_IDS[None], ALL_IDS[:0]])
def test_write_only_masks(tmp_path: Path, mask: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"a mask is \(H, W\) uint8"):
        write_mask(tmp_path / "a.png", mask)


@pytest.mark.parametrize("kind", ["grey", "16 bit", "rgb", "rgb of VOC", "rgba", "other palette"])
def test_read_every_kind(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.png"
    opaque = np.full((8, 32, 1), 255, np.uint8)
    image = {
        "grey": Image.fromarray(ALL_IDS),
        "16 bit": Image.fromarray(ALL_IDS.astype(np.uint16)),
        "rgb": Image.fromarray(COLOURS[ALL_IDS]),
        "rgb of VOC": Image.fromarray(VOC_COLOURS[ALL_IDS]),
        "rgba": Image.fromarray(np.concatenate([VOC_COLOURS[ALL_IDS], opaque], axis=2)),
        "other palette": Image.fromarray(ALL_IDS),
    }[kind]
    if kind == "other palette":
        image.putpalette(COLOURS[::-1].tobytes())
    image.save(path)
    assert (read_mask(path) == ALL_IDS).all()


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("mode", ["L", "P"])
def test_fewer_bits(tmp_path: Path, bits: int, mode: str) -> None:
    ids = np.arange(2**bits, dtype=np.uint8)[None].repeat(3, axis=0)
    image = Image.fromarray(ids)
    if mode == "P":
        image.putpalette(COLOURS.tobytes())
        image.save(tmp_path / "a.png", bits=bits)
    else:
        _save_grey(tmp_path / "a.png", ids, bits)
    assert (read_mask(tmp_path / "a.png") == ids).all()


def _save_grey(path: Path, ids: np.ndarray, bits: int) -> None:
    """Pillow writes no grey PNG of 2 or 4 bits."""
    import struct
    import zlib

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    height, width = ids.shape
    digits = np.unpackbits(ids[..., None], axis=2)[..., -bits:].reshape(height, -1)
    lines = b"".join(b"\0" + np.packbits(line).tobytes() for line in digits)
    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (Image.fromarray(np.full((4, 4), 300, np.uint16)), "holds the value 300, over 255. Save it as"),
        (
            Image.new("RGB", (4, 4), (1, 2, 3)),
            r"colour \(1, 2, 3\) at x=0, y=0 is not one of cian's or PASCAL VOC's",
        ),
        (Image.new("RGB", (4, 4), "white"), r"colour \(255, 255, 255\)"),
        (Image.new("RGBA", (4, 4), (128, 0, 0, 7)), "a mask with transparency. Save it as"),
    ],
)
def test_files_that_are_no_masks(tmp_path: Path, image: Image.Image, message: str) -> None:
    image.save(tmp_path / "a.png")
    with pytest.raises(CianError, match=r"a\.png: " + message):
        read_mask(tmp_path / "a.png")


def test_unreadable_masks(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    with pytest.raises(CianError, match=r"a\.png: cannot be opened \(No such file"):
        read_mask(path)
    Image.new("L", (4, 4)).save(path, format="JPEG")
    with pytest.raises(CianError, match=r"a\.png: not an image that can be read \(PNG\)"):
        read_mask(path)
    write_mask(path, np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8))
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(CianError, match=r"a\.png: damaged"):
        read_mask(path)


def test_resize() -> None:
    mask = resize_mask(ALL_IDS, (4, 64))
    assert mask.flags.writeable  # torch.from_numpy wants it so
    assert mask.shape == (4, 64) and mask.dtype == np.uint8
    assert (mask == ALL_IDS[1::2].repeat(2, axis=1)).all()


def test_thin_strokes_stay_where_label_maps_are_reduced() -> None:
    labels = np.full((40, 60), 255, np.uint8)
    labels[7, 5:50] = 1
    labels[3:38, 21] = 2
    labels[30, 30] = 0
    for size in ((20, 30), (13, 20), (8, 12), (39, 59)):
        small = reduce_labels(labels, size)
        assert small.shape == size and small.dtype == np.uint8 and small.flags.writeable
        assert (small == 1).any(axis=0).sum() >= 44 * size[1] // 60  # as long as before
        assert (small == 2).any(axis=1).sum() >= 34 * size[0] // 40
        assert (small == 0).sum() == 1
    assert not (resize_mask(labels, (8, 12)) == 0).any()  # so this test can fail


def test_most_of_the_labelled_pixels_decide() -> None:
    labels = np.full((4, 8), 255, np.uint8)
    labels[0, :3] = 3, 1, 1
    labels[3, 7] = 2
    assert reduce_labels(labels, (1, 2)).tolist() == [[1, 2]]
    assert reduce_labels(labels, (8, 16)).tolist() == labels.repeat(2, 0).repeat(2, 1).tolist()


def test_whole_label_maps_are_reduced_by_the_nearest_pixel() -> None:
    labels = np.random.default_rng(0).choice(np.array([0, 1, 255], np.uint8), (40, 60))
    assert (reduce_labels(labels, (13, 20)) == resize_mask(labels, (13, 20))).all()


@pytest.mark.parametrize("orientation", [3, 6])
def test_a_mask_with_an_exif_orientation_is_turned(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(ALL_IDS).save(tmp_path / "a.png", exif=exif)
    expected = np.rot90(ALL_IDS, 2 if orientation == 3 else -1)
    assert read_mask(tmp_path / "a.png").tolist() == expected.tolist()


def test_the_place_of_a_wrong_colour_in_a_tall_mask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "_STRIP", 8)
    pixels = np.zeros((20, 4, 3), np.uint8)
    pixels[17, 2] = 1, 2, 3
    Image.fromarray(pixels).save(tmp_path / "a.png")
    with pytest.raises(CianError, match=r"colour \(1, 2, 3\) at x=2, y=17"):
        read_mask(tmp_path / "a.png")


@pytest.mark.parametrize("mode", ["LA", "RGB", "RGBA"])
def test_grey_ids_in_colour_files(tmp_path: Path, mode: str) -> None:
    """As OpenCV saves them, with all bands alike. Greys that are colours of classes stay colours."""
    ids = np.array([[0, 1, 2], [3, 20, 255]], np.uint8)
    Image.fromarray(ids).convert(mode).save(tmp_path / "a.png")
    assert np.array_equal(read_mask(tmp_path / "a.png"), ids)
    assert np.array_equal(read_ids(Tree(tmp_path), "a.png", ()), ids)
    grey = next(i for i, colour in enumerate(VOC_COLOURS.tolist()) if i and len(set(colour)) == 1)
    Image.fromarray(VOC_COLOURS[np.array([[0, grey]])]).save(tmp_path / "b.png")
    assert np.array_equal(read_mask(tmp_path / "b.png"), [[0, grey]])
