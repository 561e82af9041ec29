"""onnxruntime, which runs the networks in ONNX files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from cian.errors import CianError


def import_onnxruntime(needs_it: Path | str, extra: str) -> Any:
    """The module, with its telemetry off. Its wheels would send a device id home and keep it in the user's folder.

    Args:
        needs_it: the file that needs it, for the error.
        extra: of cian's package, which installs it.

    Raises:
        CianError: it is not installed.
    """
    # Read while the module loads. Its function `disable_telemetry_events` comes too late.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    try:
        import onnxruntime  # imported here because it is optional
    except ImportError:
        raise CianError(
            f"{needs_it}: needs onnxruntime. Run `pip install '.[{extra}]'` in the folder of cian's source."
        ) from None
    onnxruntime.set_default_logger_severity(3)
    return onnxruntime


def open_session(source: str | bytes, onnxruntime: Any) -> Any:
    """A session that computes with one thread, because it is called from several threads at once.

    Args:
        source: the path of the file, or its content, which can name no other files.

    Raises:
        Exception: it is no ONNX network. onnxruntime's exceptions have no public base class.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(source, options, providers=onnxruntime.get_available_providers())
