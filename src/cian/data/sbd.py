"""SBD, the Semantic Boundaries Dataset (Hariharan et al., ICCV 2011): masks of PASCAL VOC images as MATLAB files.

Written by its release (benchmark_RELEASE/dataset/cls/ID.mat): `GTcls.Segmentation` is a map of 8 bit class ids in VOC's
order, without a void border.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np

from cian.data.images import megapixel_limit, refuse_large
from cian.data.problems import FileError, file_error, reason

_HEADER, _COMPRESSED = 128, 15  # of MATLAB files: bytes at the start, and the type of an element
_REST = 1 << 20  # bytes that a file may hold besides the map


def read_sbd(path: Path) -> np.ndarray:
    """Reads a mask of SBD.

    Returns:
        (H, W) uint8, writable.

    Raises:
        FileError: the file is missing, damaged, or not of this kind, or the map has too many pixels.
    """
    from scipy.io import loadmat  # imported here because it slows down every start

    cure = "Give SBD's folder `cls`, or PNG masks"
    try:
        with path.open("rb") as file:
            _refuse_bomb(file, path)
            mask = loadmat(file, variable_names=["GTcls"])["GTcls"]["Segmentation"][0, 0]
    except FileError:
        raise
    except KeyError:
        raise file_error(path, "holds no GTcls", cure) from None
    except OSError as error:
        raise file_error(path, f"cannot be opened ({reason(error)})", "Give a readable file") from None
    except Exception as error:  # noqa: BLE001 (at a broken file loadmat raises anything)
        raise file_error(path, f"damaged, or no MATLAB file ({reason(error)})", cure) from None
    if not isinstance(mask, np.ndarray) or mask.ndim != 2 or mask.dtype != np.uint8 or not mask.size:
        raise file_error(path, "its GTcls.Segmentation is no map of 8 bit class ids", cure)
    refuse_large(path, *mask.shape)
    return np.array(mask)


def _refuse_bomb(file: BinaryIO, path: Path) -> None:
    """
    Raises:
        FileError: a part of the file unpacks to more bytes than the largest map has.
    """
    most = int(megapixel_limit() * 1e6) + _REST
    file.seek(_HEADER)
    while len(tag := file.read(8)) == 8:
        order: Literal["little", "big"] = "little" if tag[1:4] == bytes(3) or tag[0] == _COMPRESSED else "big"
        kind, length = int.from_bytes(tag[:4], order), int.from_bytes(tag[4:], order)
        if kind != _COMPRESSED:
            file.seek(length, 1)
            continue
        unpack, total = zlib.decompressobj(), 0
        packed = file.read(length)
        while packed and not unpack.eof:
            total += len(unpack.decompress(packed, _REST))
            packed = unpack.unconsumed_tail
            if total > most:
                value = f"unpacks to over {megapixel_limit():g} million bytes, the limit of data.max_megapixels"
                raise file_error(path, value, "Give a smaller map, or raise data.max_megapixels")
    file.seek(0)
