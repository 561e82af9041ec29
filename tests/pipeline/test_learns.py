"""The whole pipeline learns to segment from tags alone: drawn discs and squares of two colours on noise."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

import cian
from cian.runs.class_labels import class_labels
from tests.helpers import TINY
from tests.workspace import ROOT

SIDE = 64
COUNT = 48
SETTINGS = {
    **TINY,
    "seed": 2,
    "classify.min_steps": 60,
    "classify.batch_size": 8,
    "classify.augment.crop": 65,
    "classify.optimizer.lr": 0.004,
    "classify.optimizer.clip_norm": 1,
    "train.min_steps": 80,
    "train.batch_size": 8,
    "train.augment.crop": 65,
    "train.optimizer.lr": 0.003,
    "train.optimizer.clip_norm": 1,
    "retrain.enabled": False,
    "predict.scales": [2.0],
    "predict.crf.iterations": 10,
    "data.val_fraction": 0.25,
}


def test_the_notebook_learns_shapes_of_two_colours():
    """The example runs from top to bottom, and learns to segment from tags alone."""
    cells = json.loads((ROOT / "examples/first_run.ipynb").read_text(encoding="utf-8"))["cells"]
    names: dict[str, Any] = {"__name__": "__main__"}
    for number, cell in enumerate(cells):
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), f"cell {number}", "exec"), names)
    try:
        scores = names["scores"]
        assert scores["split"] == "val"
        assert scores["stages"]["seeds"]["val"]["miou"] > 80  # what the classifier has learned
        assert scores["stages"]["CIAN"]["val"]["miou"] > 80  # what the network has learned, without the CRF's help
        assert scores["miou"] > 80
        assert set(names["result"].classes) == {"disc", "square"}
    finally:
        shutil.rmtree(names["folder"])


def test_a_face_that_is_never_without_its_body_keeps_labels(tmp_path, capsys):
    draw_figures(tmp_path)
    write_weights(tmp_path / "images", tmp_path / "weights.safetensors")
    settings = {**SETTINGS, "backbone.weights": str(tmp_path / "weights.safetensors"), "data.val_fraction": 0.0}
    run = cian.run(tmp_path / "images", tmp_path / "tags.csv", tmp_path / "run", until="statistics", **settings)
    assert "face is tagged without body in 0 of its 24 images" in capsys.readouterr().err
    for row in class_labels(run):
        assert row.labelled_images > 0.7 * row.images, row


def draw_figures(folder: Path) -> None:
    """Images of a ball, or of a body that mostly has a face, with tags.csv."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:SIDE, :SIDE]
    rows = ["image,tags"]
    (folder / "images").mkdir()
    for i in range(COUNT):
        image = rng.normal(120, 25, (SIDE, SIDE, 3)).clip(0, 255)
        middle, top = rng.integers(16, SIDE - 16), rng.integers(4, 14)
        ball = np.hypot(y - top - 20, x - middle) < 15
        face = np.hypot(y - top - 8, x - middle) < 8
        body = (np.abs(y - top - 28) < 20) & (np.abs(x - middle) < 10)
        tags = ["ball"] if i % 12 >= 7 else ["body"] if i % 12 == 6 else ["body", "face"]
        for name, shape, colour in (
            ("ball", ball, (60, 90, 250)),
            ("body", body, (30, 200, 60)),
            ("face", face, (250, 60, 60)),
        ):
            if name in tags:
                image[shape] = 0.2 * image[shape] + 0.8 * np.array(colour)
        Image.fromarray(image.astype(np.uint8)).save(folder / "images" / f"{i:02}.png")
        rows.append(f"{i:02}.png,{';'.join(tags)}")
    (folder / "tags.csv").write_text("\n".join(rows) + "\n")


def write_weights(images: Path, file: Path) -> None:
    """Random weights of the tiny backbone, with the batch statistics of these images: so it trains in a few steps."""
    torch.manual_seed(2)
    model = timm.create_model(str(TINY["backbone.name"]), pretrained=False)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the running statistics become the mean over all batches: here one
    pixels = torch.stack([torch.from_numpy(np.array(Image.open(path))) for path in sorted(images.iterdir())])
    with torch.no_grad():
        model.train()(pixels.permute(0, 3, 1, 2) / 127.5 - 1)
    save_file(model.state_dict(), file)
