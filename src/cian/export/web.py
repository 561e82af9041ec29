"""A page of HTML that holds the model and all that runs it: onnxruntime-web, which npm installs."""

from __future__ import annotations

import base64
import gzip
import json
import re
from pathlib import Path

from cian._version import __version__
from cian.errors import CianError
from cian.export.onnx_file import describe_for_programs
from cian.files import write_text
from cian.inference.segmenter import Segmenter

_RUNTIME, _WASM = "ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"


def write_page(segmenter: Segmenter, network: Path, runtime: Path, path: Path) -> None:
    """Writes the page. It needs no server and no connection: a browser opens it as a file.

    Args:
        network: the ONNX file of the model.
        runtime: the folder of the npm package onnxruntime-web, or one in which npm installed it.

    Raises:
        CianError: onnxruntime-web is not there.
    """
    files = _runtime_files(runtime)
    about = describe_for_programs(segmenter)
    config = about.pop("config")
    about |= {"max_side": config["max_side"], "own_threshold": config["predict"]["own_threshold"]}
    page = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
    parts = {
        "VERSION": __version__,
        "ABOUT": json.dumps(about).replace("<", "\\u003c"),  # nothing ends the element
        "RUNTIME": _packed(files[0]),
        "WASM": _packed(files[1]),
        "MODEL": _packed(network),
    }
    write_text(path, re.sub("%([A-Z]+)%", lambda found: parts[found[1]], page))


def _packed(file: Path) -> str:
    return base64.b64encode(gzip.compress(file.read_bytes(), mtime=0)).decode()


def _runtime_files(folder: Path) -> list[Path]:
    for place in (folder / "node_modules" / "onnxruntime-web" / "dist", folder / "dist", folder):
        files = [place / name for name in (_RUNTIME, _WASM)]
        if all(file.is_file() for file in files):
            return files
    raise CianError(
        f"--web {folder}: {_RUNTIME} and {_WASM} are not here. Run `npm install onnxruntime-web` there, or give the "
        "folder of that package."
    )
