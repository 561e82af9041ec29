"""Run lengths become masks, and masks run lengths."""

from __future__ import annotations

import numpy as np
import pytest

from cian.formats.run_lengths import brush, coco_counts, compress, counts, in_box, values
from cian.formats.shapes import decompress, run_lengths


def random_mask(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.random(rng.integers(1, 60, 2)) < rng.random() ** 3


@pytest.mark.parametrize("seed", range(30))
def test_masks_survive(seed: int) -> None:
    mask = random_mask(seed)
    lengths = coco_counts(mask)
    size = list(mask.shape)
    assert np.array_equal(run_lengths(lengths, size, *mask.shape), mask)
    assert decompress(compress(lengths)) == lengths
    assert np.array_equal(values(counts(mask.ravel()), mask.size).reshape(mask.shape), mask)
    assert np.array_equal(brush(pack(mask, seed), *mask.shape), mask)


def test_known_counts() -> None:
    """Zeros first, down the columns."""
    mask = np.array([[1, 0, 0], [1, 0, 1]], bool)
    assert coco_counts(mask) == [0, 2, 3, 1]
    assert compress([0, 2, 3, 1]) == "023O"
    assert coco_counts(np.zeros((2, 2), bool)) == [4]


def test_boxes() -> None:
    mask = in_box([1, 2, 1, 2], (2, 1, 3, 2), 4, 6)
    expected = np.zeros((4, 6), bool)
    expected[1, 3:5] = expected[2, 3:5] = True
    assert np.array_equal(mask, expected)
    with pytest.raises(ValueError, match="leaves the image"):
        in_box([6], (4, 1, 3, 2), 4, 6)
    with pytest.raises(ValueError, match="not those of 6 pixels"):
        in_box([5], (2, 1, 3, 2), 4, 6)
    with pytest.raises(ValueError, match="not those of 6 pixels"):
        in_box([10**12, 6 - 10**12], (2, 1, 3, 2), 4, 6)


def pack(mask: np.ndarray, seed: int = 0) -> list[int]:
    """Label Studio's brush, written from the description of rle-pack, with lengths of varying numbers of bits."""
    data = np.repeat(np.where(mask, 255, 0)[..., None], 4, 2).ravel().tolist()
    widths = [1 + seed % 4, 4, 8, 16]
    bits = f"{len(data):032b}{7:05b}" + "".join(f"{width - 1:04b}" for width in widths)
    place = 0
    while place < len(data):
        end = place
        while end < len(data) and data[end] == data[place] and end - place < 1 << 16:
            end += 1
        if end - place == 1:  # runs of different words
            end = min(place + 2, len(data))
        kind = next(i for i, width in enumerate(widths) if end - place <= 1 << width)
        same = data[place:end] == [data[place]] * (end - place)
        words = data[place : place + 1] if same else data[place:end]
        bits += f"{int(same)}{kind:02b}{end - place - 1:0{widths[kind]}b}" + "".join(f"{word:08b}" for word in words)
        place = end
    bits += "0" * (-len(bits) % 8)
    return [int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)]


def test_a_brush_of_label_studio() -> None:
    """What label-studio-sdk 2.1 packs for the middle three pixels of the second of three rows."""
    packed = [0, 0, 0, 60, 57, 27, 254, 23, 0, 183, 255, 133, 192, 0]
    expected = np.zeros((3, 5), bool)
    expected[1, 1:4] = True
    assert np.array_equal(brush(packed, 3, 5), expected)


def test_damaged_brushes() -> None:
    mask = random_mask(3)
    packed = pack(mask)
    height, width = mask.shape
    for wrong, message in (
        (packed[:-2], "is not that of an image"),
        (packed[:3], "is not that of an image"),
        ([], "is not that of an image"),
        ([300], "holds no bytes"),
        (["a"], "holds no bytes"),
    ):
        with pytest.raises(ValueError, match=message):
            brush(wrong, height, width)
    with pytest.raises(ValueError, match="is not that of an image"):
        brush(packed, height + 1, width)
