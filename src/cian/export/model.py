"""Exports a model: `cian export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from cian.errors import CianError
from cian.files import copy_file
from cian.inference.segmenter import load, model_folder

if TYPE_CHECKING:
    from cian.export.int8 import Int8

FORMATS = ("onnx", "torch")
ONNX, INT8, TORCH, SCRIPT, PAGE = "model.onnx", "model-int8.onnx", "model.pt2", "predict.py", "model.html"


class Exported(NamedTuple):
    """What `export` wrote.

    Attributes:
        files: the files.
        int8: what the quantisation costs and gains, with `int8`.
    """

    files: list[Path]
    int8: Int8 | None = None


def export(
    source: str | Path, out: Path | None = None, form: str = "onnx", int8: bool = False, web: Path | None = None
) -> Exported:
    """Writes a model for other programs.

    Args:
        source: see `cian.load`; no ONNX file.
        out: the folder to write to. Default: the model's own folder.
        form: "onnx" writes model.onnx, and predict.py, which makes masks with it; "torch" writes model.pt2.
        int8: also write model-int8.onnx, quantised with images of the run, which `source` must be.
        web: the folder of onnxruntime-web. Then model.html is written as well, which runs the model in a browser.

    Raises:
        CianError: there is no such model, it cannot be exported, or a package is missing.
    """
    if form not in FORMATS:
        raise CianError(f"--format {form}: no such format. Use {' or '.join(FORMATS)}.")
    if form != "onnx" and (int8 or web is not None):
        raise CianError(f"--{'int8' if int8 else 'web'}: has an effect only with --format onnx. Leave it out.")
    folder = out or model_folder(Path(source))
    segmenter = load(source, "cpu")
    if folder is None:
        raise CianError(f"{source}: comes from the hub. Give a folder to --out.")
    if form == "torch":
        from cian.export.torch_file import write_torch

        write_torch(segmenter, folder / TORCH)
        return Exported([folder / TORCH])
    from cian.export.onnx_file import write_onnx

    table = None
    if int8:
        from cian.export.int8 import write_int8
        from cian.reading.run import is_run, open_run, read_run

        if not is_run(Path(source)):
            raise CianError(f"{source}: is no run, and --int8 needs the images of one. Give the run, not its model.")
        _, table = read_run(open_run(source))  # what is wrong is said before anything is written
    write_onnx(segmenter, folder / ONNX)
    copy_file(Path(__file__).with_name("predict_alone.py"), folder / SCRIPT)
    files, quantised = [folder / ONNX, folder / SCRIPT], None
    if web is not None:
        from cian.export.web import write_page

        write_page(segmenter, folder / ONNX, web, folder / PAGE)
        files.append(folder / PAGE)
    if table is not None:
        quantised = write_int8(folder / ONNX, folder / INT8, table)
        files.append(folder / INT8)
    return Exported(files, quantised)
