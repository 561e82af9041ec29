"""model.onnx and predict.py give what the model gives in PyTorch."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from cian import CianError, Segmenter, load
from cian.build import build_network
from cian.config import load_config
from cian.data.masks import read_mask
from cian.export.model import export
from cian.export.network import ExportedNetwork
from cian.export.onnx_file import write_onnx
from cian.inference.folder import predict_folder
from tests.helpers import TINY, here
from tests.helpers import write_onnx as write_one_operation
from tests.inference.helpers import NAMES


def of(backbone: str) -> Segmenter:
    config = load_config(None, {**TINY, "backbone.name": backbone})
    return Segmenter(build_network(config, 3), config, NAMES)


@pytest.mark.parametrize("cells", [(3, 4), (9, 6), (5, 5)])
@pytest.mark.parametrize("batch", [1, 3])
def test_logits_agree_at_any_size_and_batch(segmenter, model, cells, batch):
    network = load(model / "model.onnx", "cpu").network
    grid = segmenter.network.backbone.grid
    size = [grid.stride * (cell - 1) + 1 for cell in cells]
    pixels = torch.randint(0, 256, (batch, 3, *size), dtype=torch.uint8)
    with torch.no_grad():
        expected = segmenter.network(grid.normalise(pixels))[0]
    torch.testing.assert_close(network(pixels.float())[0], expected, rtol=0, atol=1e-4)
    assert expected.std() > 0.1, "the logits are all but constant"


def test_an_image_of_any_size_may_be_given(model):
    """The cells lie where they lie on an image that fits, as far as it reaches."""
    network = load(model / "model.onnx", "cpu").network
    assert network(torch.zeros(1, 3, 50, 71))[0].shape == (1, 3, 4, 5)


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "test_resnet"])
def test_fixed_padding_equals_the_padding_of_tensorflow(name):
    model = of(name)
    images = ExportedNetwork(model).example(4, 7)
    with torch.no_grad():
        found = ExportedNetwork(model)(images)
        expected = model.network((images / 255 - ExportedNetwork(model).mean) / ExportedNetwork(model).std)[0]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_prediction_by_onnxruntime_equals_that_by_pytorch(segmenter, model, photo):
    found, expected = load(model / "model.onnx", "cpu").predict(photo), segmenter.predict(photo)
    np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=1e-4)
    np.testing.assert_array_equal(found.mask, expected.mask)
    assert expected.classes and found.class_names == NAMES


@pytest.mark.parametrize("own_threshold", [0, 2.5])
def test_the_script_gives_the_mask_without_torch_and_cian(segmenter, model, photo, tmp_path, own_threshold):
    """Also on an image that is reduced first, in a process that cannot import them."""
    config = segmenter.config.model_copy(
        update={"predict": segmenter.config.predict.model_copy(update={"own_threshold": own_threshold})}
    )
    file = tmp_path / "other.onnx"
    write_onnx(Segmenter(segmenter.network, config, NAMES), file)
    blocked = "import runpy, sys; sys.modules.update(torch=None, cian=None, scipy=None, timm=None)\n"
    code = f"{blocked}sys.argv[1:] = {[str(photo), str(tmp_path / 'mask.png'), str(file)]}\n"
    code += f"runpy.run_path({str(model / 'predict.py')!r}, run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    expected = Segmenter(segmenter.network, config, NAMES).predict(photo).mask
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png"), expected)


def test_the_command_line_exports_and_predicts(segmenter, photo, tmp_path, monkeypatch, capsys):
    pytest.importorskip("onnx")
    segmenter.save(tmp_path / "run" / "model")
    assert here(monkeypatch, "export", tmp_path / "run", "--json") == 0
    files = json.loads(capsys.readouterr().out)["files"]
    assert files == [str(tmp_path / "run" / "model" / name) for name in ("model.onnx", "predict.py")]
    predict = ("predict", "--images", photo, "--out", tmp_path / "masks", "--model")
    assert here(monkeypatch, *predict, files[0]) == 0
    np.testing.assert_array_equal(read_mask(tmp_path / "masks" / "photo.png"), segmenter.predict(photo).mask)
    assert here(monkeypatch, *predict, tmp_path / "run") == 1  # as for any other model
    assert "made with another model" in capsys.readouterr().err


def test_torch_export(segmenter, tmp_path):
    segmenter.save(tmp_path / "model")
    (file,) = export(tmp_path / "model", tmp_path / "out", "torch").files
    extra = {"cian.json": ""}
    module = torch.export.load(file, extra_files=extra).module()
    assert json.loads(extra["cian.json"])["classes"] == list(NAMES)
    images = ExportedNetwork(segmenter).example(4, 7, 3)
    with torch.no_grad():
        torch.testing.assert_close(module(images), ExportedNetwork(segmenter)(images), rtol=1e-4, atol=1e-5)


def test_a_network_of_fixed_size_is_refused(tmp_path):
    pytest.importorskip("onnx")
    of("test_vit").save(tmp_path)
    with pytest.raises(CianError, match=r"backbone test_vit: cannot be exported .* Use a convolutional one"):
        export(tmp_path)
    assert not (tmp_path / "model.onnx").exists()


def test_what_is_not_exported_is_refused(model, tmp_path, monkeypatch):
    with pytest.raises(CianError, match=r"--format coreml: no such format. Use onnx or torch"):
        export(model, form="coreml")
    with pytest.raises(CianError, match="is exported already"):
        export(model / "model.onnx", tmp_path)
    with pytest.raises(CianError, match="Copy the file"):
        load(model / "model.onnx", "cpu").save(tmp_path)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(CianError, match=r"needs onnx\. Run `pip install '\.\[export\]'`"):
        export(model)


def changed(model: Path, file: Path, **description: object) -> Path:
    """The file with other metadata."""
    import onnx

    content = onnx.load(model / "model.onnx")
    about = json.loads(content.metadata_props[0].value)
    onnx.helper.set_model_props(content, {"cian": json.dumps({**about, **description})})
    onnx.save(content, file)
    return file


def test_damaged_files_are_one_message(model, tmp_path):
    file = tmp_path / "m.onnx"
    with pytest.raises(CianError, match="cannot be read"):
        load(file)
    file.write_bytes((model / "model.onnx").read_bytes()[:-100])
    with pytest.raises(CianError, match=r"is no ONNX network .* Give a file that `cian export` wrote"):
        load(file)
    write_one_operation(file, "Identity")
    with pytest.raises(CianError, match="does not say how it was trained"):
        load(file)
    for wrong in ({"stride": 0}, {"stride": "16"}, {"alignment": "left"}):
        with pytest.raises(CianError, match="does not say how it was trained"):
            load(changed(model, file, **wrong))
    with pytest.raises(CianError, match=r"not logits of its 2 classes"):
        load(changed(model, file, classes=["background", "a"]))
    with pytest.raises(CianError, match=r"class .* occurs twice"):
        load(changed(model, file, classes=["background", "a", "a"]))
    with pytest.raises(CianError, match="has format 9"):
        load(changed(model, file, format=9))


def test_onnx_without_onnxruntime(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(CianError, match=r"needs onnxruntime\. Run `pip install '\.\[export\]'`"):
        load(model / "model.onnx")


def test_fast_takes_the_onnx_file_if_it_was_made_of_these_weights(model, photo, tmp_path, monkeypatch):
    used = []
    monkeypatch.setattr("cian.inference.folder.load", lambda *args: (used.append(Path(args[0]).name), load(*args))[1])
    model = Path(shutil.copytree(model, tmp_path / "model"))
    predict_folder(model, photo, tmp_path / "fast", settings={"runtime.device": "cpu"}, fast=True)
    predict_folder(model, photo, tmp_path / "slow", settings={"runtime.device": "cpu"})
    segmenter = load(model, "cpu")
    next(segmenter.network.parameters()).data += 0.1
    segmenter.save(model)
    predict_folder(model, photo, tmp_path / "other", settings={"runtime.device": "cpu"}, fast=True)
    assert used == ["model.onnx", "model", "model"]
