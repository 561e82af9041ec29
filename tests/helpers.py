"""What several test files share."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import FrameType

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from cian.data.masks import write_mask

SHARED = Path(__file__).parents[2] / "shared"  # real photographs and reference numbers; absent on users' machines


def heed_signals() -> None:
    """Makes Ctrl-C and a closed terminal work again, for this process and the programs that it starts: a background job
    of a script ignores SIGINT, and nohup ignores SIGHUP."""
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, handler)


# A network of a few layers and two steps of training: the whole pipeline in seconds.
TINY = {
    "backbone.name": "test_efficientnet",
    "backbone.weights": "random",
    "classify.epochs": 1,
    "classify.min_steps": 2,
    "classify.batch_size": 4,
    "classify.augment.crop": 49,
    "train.epochs": 1,
    "train.min_steps": 2,
    "train.batch_size": 4,
    "train.augment.crop": 49,
    "predict.scales": [1.0],
    "predict.crf.iterations": 1,
    "relabel.crf_iterations": 1,
    "retrain.enabled": True,
    "runtime.workers": 0,
    "runtime.device": os.environ.get("CIAN_TEST_DEVICE", "cpu"),
}

EXACT = TINY["runtime.device"] == "cpu"
bit_for_bit = pytest.mark.skipif(not EXACT, reason="a GPU sums in another order each time")


def options(data: Path, out: Path, **settings) -> list[str]:
    """What `cian run` and the stage commands get for a data set as `drawn` makes it."""
    args = ["--images", str(data / "images"), "--tags", str(data / "tags.csv"), "--out", str(out)]
    if (data / "masks").exists():
        args += ["--masks", str(data / "masks"), "--classes", str(data / "classes.txt")]
    for key, value in {**TINY, **settings}.items():
        args += ["--set", f"{key}={json.dumps(value)}"]
    return args


def here(monkeypatch: pytest.MonkeyPatch, *args: str | Path) -> int:
    """The exit code of `cian ARGS`, called within this process, which has torch imported already."""
    from cian.cli import main
    from cian.terminal import console

    monkeypatch.setattr(console, "quiet", console.quiet)  # --quiet must not outlive the test
    monkeypatch.setattr("sys.argv", ["cian", *map(str, args)])
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0)


def shared(name: str) -> Path:
    """A file or folder of the shared data; skips the test where it is absent."""
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"needs {name} beside the checkout")
    return path


def draw_images(
    root: Path, count: int = 12, masks: bool = False, name: str = "data", size: tuple[int, int] = (40, 56)
) -> Path:
    """A data set of coloured blobs: ROOT/NAME with images/, tags.csv and, with masks=True, masks/ and classes.txt."""
    folder = root / name
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    classes = ["blue", "red"]
    rows = ["image,tags"]
    for i in range(count):
        kind = i % 2
        image = rng.integers(90, 160, (*size, 3), dtype=np.uint8)
        truth = np.zeros(size, np.uint8)
        y, x = rng.integers(0, size[0] - 16), rng.integers(0, size[1] - 20)
        truth[y : y + 16, x : x + 20] = kind + 1
        image[truth > 0] = (30, 30, 220) if kind == 0 else (220, 30, 30)
        Image.fromarray(image).save(folder / "images" / f"{i:03d}.png")
        rows.append(f"{i:03d}.png,{classes[kind]}")
        if masks:
            write_mask(folder / "masks" / f"{i:03d}.png", truth)
    (folder / "tags.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    if masks:
        (folder / "classes.txt").write_text("background\nblue\nred\n", encoding="utf-8")
    return folder


CLI = [sys.executable, "-m", "cian"]


def cli(*args: str, **kwargs) -> subprocess.CompletedProcess:
    return subprocess.run([*CLI, *args], capture_output=True, text=True, timeout=300, **kwargs)


def weights(run: Path, name: str = "retrain") -> dict[str, np.ndarray]:
    return load_file(run / name / "model.safetensors")


def same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[key], b[key]) for key in a)


def fails(result: subprocess.CompletedProcess, *words: str, code: int = 1) -> None:
    assert result.returncode == code, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in result.stderr, result.stderr


ONNX_FLOAT, ONNX_DOUBLE = 1, 11  # ONNX's numbers of these types


def write_onnx(file: Path, operation: str, axis: int | None = None, number: int = ONNX_FLOAT) -> None:
    """A network of one operation on (1, 3, 8, 8), as protocol buffers written by hand: onnx is no dependency.

    Args:
        axis: the attribute `axes` of the operation has this one.
        number: type of the input.
    """

    def varint(value: int) -> bytes:
        return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + varint(value >> 7)

    def field(number: int, content: int | str | bytes) -> bytes:
        if isinstance(content, int):
            return varint(number << 3) + varint(content)
        content = content.encode() if isinstance(content, str) else content
        return varint(number << 3 | 2) + varint(len(content)) + content

    def value(name: str, size: tuple[int, ...] | None) -> bytes:
        shape = field(2, b"".join(field(1, field(1, side)) for side in size)) if size else b""
        return field(1, name) + field(2, field(1, field(1, number) + shape))

    axes = b"" if axis is None else field(5, field(1, "axes") + field(8, axis) + field(20, 7))
    node = field(1, "x") + field(2, "y") + field(4, operation) + axes
    graph = field(1, node) + field(2, "g") + field(11, value("x", (1, 3, 8, 8))) + field(12, value("y", None))
    file.write_bytes(field(1, 8) + field(7, graph) + field(8, field(2, 13)))


def lines_run(call: Callable[[], object]) -> int:
    """How many lines of cian's Python code a call runs: its work, the same on every machine."""
    count = 0
    ours = cache(lambda file: "cian" in Path(file).parts)  # asked at each call of a function

    def trace(frame: FrameType, event: str, argument: object) -> Callable | None:
        nonlocal count
        if not ours(frame.f_code.co_filename):
            return None
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return count
