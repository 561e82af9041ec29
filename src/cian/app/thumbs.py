"""Images and masks for the page. They are encoded again: the page gets no file as it is."""

from __future__ import annotations

import contextlib
import io
import os
from pathlib import Path

import numpy as np
from PIL import Image

from cian.data.images import read_image
from cian.files import write_bytes

WIDTHS = (160, 320)  # of thumbnails, in pixels: the longer side


def jpeg(image: np.ndarray, quality: int = 88) -> bytes:
    """(H, W, 3) uint8 as a JPEG file."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, format="JPEG", quality=quality)
    return file.getvalue()


def png(mask: np.ndarray) -> bytes:
    """(H, W) uint8 as a grey PNG file."""
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(mask)).save(file, format="PNG", compress_level=1)
    return file.getvalue()


def thumbnail(source: Path, kept: Path, width: int) -> bytes:
    """A JPEG of an image, its longer side reduced to `width`. It is kept until the image changes.

    Args:
        kept: the file that keeps it. Its time is that of the image.

    Raises:
        CianError: the image cannot be read.
    """
    time_ns = source.stat().st_mtime_ns if source.exists() else -1
    with contextlib.suppress(OSError):
        if kept.stat().st_mtime_ns == time_ns:
            return kept.read_bytes()
    content = jpeg(read_image(source, width), 80)
    with contextlib.suppress(OSError):  # a run that cannot be written can be looked at
        write_bytes(kept, content)
        os.utime(kept, ns=(time_ns, time_ns))
    return content
