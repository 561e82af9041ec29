"""model.html: the model in a browser, from one file."""

from __future__ import annotations

import base64
import gzip
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cian import CianError
from cian.data.masks import read_mask
from cian.export.model import export

RUNTIME = Path(os.environ.get("CIAN_ORT_WEB") or Path(__file__).parents[2])  # where `npm install onnxruntime-web` ran
PARTS = ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm")


@pytest.mark.parametrize("place", ["", "dist", "node_modules/onnxruntime-web/dist"])
def test_the_page_holds_model_and_runtime(model, tmp_path, place):
    (tmp_path / "npm" / place).mkdir(parents=True)
    for name in PARTS:
        (tmp_path / "npm" / place / name).write_text(f"%MODEL% {name}")
    files = export(model, tmp_path / "out", web=tmp_path / "npm").files
    page = (tmp_path / "out" / "model.html").read_text(encoding="utf-8")
    assert files[-1] == tmp_path / "out" / "model.html"
    held = {
        name: gzip.decompress(base64.b64decode(text)) for name, text in re.findall(r'id="(\w+)">(\S*)</script>', page)
    }
    assert held["runtime"].decode() == f"%MODEL% {PARTS[0]}" and held["wasm"].decode() == f"%MODEL% {PARTS[1]}"
    assert held["model"] == (model / "model.onnx").read_bytes()
    assert "http" not in re.sub(r">\S{200,}<", "><", page), "the page needs no connection"


def test_without_the_runtime_there_is_one_message(model, tmp_path):
    with pytest.raises(CianError, match=r"--web .*: ort\.wasm.* are not here\. Run `npm install onnxruntime-web`"):
        export(model, web=tmp_path)
    with pytest.raises(CianError, match="--web: has an effect only with --format onnx"):
        export(model, tmp_path, "torch", web=tmp_path)


def test_the_page_segments_an_image_in_a_browser(model, segmenter, tmp_path):
    """It is opened as a file. Its mask is that of one scale, without mirror."""
    playwright = pytest.importorskip("playwright.sync_api")
    browser_file = shutil.which("chromium")
    if browser_file is None or not (RUNTIME / "node_modules" / "onnxruntime-web").is_dir():
        pytest.skip("needs Chromium, and `npm install onnxruntime-web` beside the tests or in CIAN_ORT_WEB")
    noise = np.random.default_rng(1).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    image = Image.fromarray(noise).resize((49, 33), Image.Resampling.BICUBIC)  # fits the cells
    image.save(tmp_path / "small.png")
    (tmp_path / "broken.png").write_bytes(b"no image")
    export(model, tmp_path / "out", web=RUNTIME)
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=browser_file, args=["--no-sandbox"])
        page = browser.new_page()
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto((tmp_path / "out" / "model.html").as_uri(), wait_until="commit")
        page.set_input_files("#file", tmp_path / "small.png")  # before the model is loaded
        page.wait_for_selector("#result:not([hidden])", timeout=60_000)
        assert page.get_attribute("html", "data-ready") == "yes"
        page.set_input_files("#file", tmp_path / "broken.png")
        page.wait_for_function("document.querySelector('#status').textContent.includes('cannot be read as an image')")
        page.set_input_files("#file", tmp_path / "small.png")
        page.wait_for_selector("#result:not([hidden])")
        with page.expect_download() as download:
            page.click("#save")
        download.value.save_as(tmp_path / "mask.png")
        found, name = page.inner_text("#classes"), download.value.suggested_filename
        browser.close()
    settings = segmenter.config.predict.model_copy(update={"scales": (1.0,), "mirror": False})
    expected = segmenter.predict(image, settings=settings)
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png"), expected.mask)
    assert expected.classes and all(each in found for each in expected.classes)
    assert name == "small-mask.png" and not errors
