"""Run lengths of COCO, CVAT and Label Studio, from and to masks.

All count pixels of 0 and 1 in turn, zeros first. COCO (`maskApi.c` of pycocotools) goes down the columns; CVAT goes
along the rows of a box; Label Studio packs the bytes of an RGBA image (rle-pack of thi.ng), of which the alpha counts.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_SOLID = 128  # alpha from which a pixel belongs to an object: brushes have soft edges


def counts(values: np.ndarray) -> list[int]:
    """The run lengths of (P,) bool."""
    edges = np.flatnonzero(np.diff(values, prepend=False))
    return np.diff(edges, prepend=0, append=len(values)).tolist()


def values(lengths: Sequence[int], size: int) -> np.ndarray:
    """(size,) bool of run lengths.

    Raises:
        ValueError: these are no run lengths of that many pixels.
    """
    if not all(isinstance(length, int) and 0 <= length <= size for length in lengths) or sum(lengths) != size:
        raise ValueError(f"its run lengths are not those of {size} pixels")
    return np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)


def coco_counts(mask: np.ndarray) -> list[int]:
    """COCO's run lengths of (H, W) bool."""
    return counts(mask.T.ravel())


def compress(lengths: Sequence[int]) -> str:
    """COCO's compressed text: differences to the last but one in groups of 5 bits, the lowest first."""
    text = []
    for i, length in enumerate(lengths):
        value = length - lengths[i - 2] if i > 2 else length
        more = True
        while more:
            group = value & 31
            value >>= 5
            more = value != (-1 if group & 16 else 0)
            text.append(chr((group | 32 * more) + 48))
    return "".join(text)


def in_box(lengths: Sequence[int], box: tuple[int, int, int, int], height: int, width: int) -> np.ndarray:
    """(H, W) bool of CVAT's run lengths, along the rows of a box.

    Args:
        box: left, top, width, height.

    Raises:
        ValueError: the box leaves the image, or the run lengths do not fill it.
    """
    left, top, columns, rows = box
    if left < 0 or top < 0 or columns <= 0 or rows <= 0 or left + columns > width or top + rows > height:
        raise ValueError(f"its box {columns} x {rows} at {left}, {top} leaves the image of {width} x {height} pixels")
    mask = np.zeros((height, width), bool)
    mask[top : top + rows, left : left + columns] = values(lengths, rows * columns).reshape(rows, columns)
    return mask


def brush(packed: Sequence[int], height: int, width: int) -> np.ndarray:
    """(H, W) bool of Label Studio's brush: the bytes of a packed RGBA image.

    Raises:
        ValueError: the bytes are damaged, or not of this size.
    """
    wrong = f"its brush is not that of an image of {width} x {height} pixels"
    if not all(isinstance(byte, int) and 0 <= byte < 256 for byte in packed):
        raise ValueError("its brush holds no bytes")
    bits = np.unpackbits(np.array(packed, np.uint8)).tobytes().translate(_DIGITS)
    place = 0

    def take(count: int) -> int:
        nonlocal place
        place += count
        if place > len(bits):
            raise ValueError(wrong)
        return int(bits[place - count : place], 2)

    size, word = take(32), take(5) + 1
    widths = [take(4) + 1 for _ in range(4)]  # bits of a length
    if size != 4 * height * width or word != 8:
        raise ValueError(wrong)
    lengths, words = [], []
    left = size
    while left > 0:
        same = take(1)
        length = take(widths[take(2)]) + 1
        lengths += [length] if same else [1] * length
        words += [take(word) for _ in range(1 if same else length)]
        left -= length
    if left:
        raise ValueError(wrong)
    pixels = np.repeat(np.array(words, np.uint8), lengths).reshape(height, width, 4)
    return pixels[..., 3] >= _SOLID


_DIGITS = bytes.maketrans(b"\0\1", b"01")
