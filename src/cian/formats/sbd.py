"""SBD, the Semantic Boundaries Dataset (Hariharan et al., ICCV 2011): masks of PASCAL VOC images as MATLAB files.

Written by its release (benchmark_RELEASE/dataset/cls/ID.mat): `GTcls.Segmentation` is a map of 8 bit class ids in VOC's
order, without a void border.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cian.data.problems import file_error, reason


def read_sbd(path: Path) -> np.ndarray:
    """Reads a mask of SBD.

    Returns:
        (H, W) uint8, writable.

    Raises:
        FileError: the file is missing, damaged, or not of this kind.
    """
    from scipy.io import loadmat  # imported here because it slows down every start

    cure = "Give SBD's folder `cls`, or PNG masks"
    try:
        with path.open("rb") as file:
            mask = loadmat(file)["GTcls"]["Segmentation"][0, 0]
    except KeyError:
        raise file_error(path, "holds no GTcls", cure) from None
    except OSError as error:
        raise file_error(path, f"cannot be opened ({reason(error)})", "Give a readable file") from None
    except Exception as error:  # noqa: BLE001 (at a broken file loadmat raises anything)
        raise file_error(path, f"damaged, or no MATLAB file ({reason(error)})", cure) from None
    if not isinstance(mask, np.ndarray) or mask.ndim != 2 or mask.dtype != np.uint8 or not mask.size:
        raise file_error(path, "its GTcls.Segmentation is no map of 8 bit class ids", cure)
    return np.array(mask)
