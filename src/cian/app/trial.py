"""The model on an image that a client sends. The image is not kept."""

from __future__ import annotations

import base64
import tempfile
from pathlib import Path
from typing import Any

from cian.app.network import Network
from cian.app.thumbs import jpeg, png
from cian.data.images import read_image, reduced
from cian.data.problems import FileError
from cian.errors import CianError

MOST_BYTES = 32 * 2**20
_SIDE, _SHOWN = 2048, 1024  # the longer side of the mask, and of the shown image, in pixels


def try_image(network: Network, content: bytes) -> dict[str, Any]:
    """What the model sees in an image, as JSON.

    Raises:
        Refusal: there is no model.
        CianError: the content is not an image that can be read. The first frame counts.
    """
    segmenter = network.worker.do(network.segmenter).result()
    with tempfile.TemporaryDirectory(prefix="cian-app-") as folder:
        file = Path(folder) / "image"  # the content alone says what it is
        file.write_bytes(content)
        try:
            image = read_image(file, _SIDE)
        except FileError as error:
            raise CianError(f"This image: {error.problem.value}. {error.problem.cure}.") from None
    found = network.worker.do(lambda: segmenter.predict(image)).result()
    ids = found.class_ids
    return {
        "width": found.mask.shape[1],
        "height": found.mask.shape[0],
        "found": [{"id": ids[name], "name": name, "share": share} for name, share in found.classes.items()],
        "mask": base64.b64encode(png(found.mask)).decode(),
        "photo": base64.b64encode(jpeg(reduced(image, _SHOWN))).decode(),
    }
