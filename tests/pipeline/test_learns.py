"""The whole pipeline learns to segment from tags alone: drawn discs and squares of two colours on noise."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

import cian
from cian.data.masks import write_mask
from cian.runs.class_labels import class_labels
from tests.helpers import TINY

COLOURS = {"red": (250, 60, 60), "green": (30, 200, 60)}
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


def test_shapes_of_two_colours(tmp_path):
    draw(tmp_path)
    write_weights(tmp_path / "images", tmp_path / "weights.safetensors")
    settings = {
        **SETTINGS,
        "backbone.weights": str(tmp_path / "weights.safetensors"),
        "data.masks": str(tmp_path / "masks"),
        "data.classes": str(tmp_path / "classes.txt"),
    }
    run = cian.run(tmp_path / "images", tmp_path / "tags.csv", tmp_path / "run", until="evaluate", **settings)
    scores = json.loads(run.metrics_file.read_text())
    assert scores["split"] == "val"
    assert scores["stages"]["seeds"]["val"]["miou"] > 80  # what the classifier has learned
    assert scores["stages"]["CIAN"]["val"]["miou"] > 80  # what the network has learned, without the CRF's help
    assert scores["miou"] > 80


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


def draw(folder: Path) -> None:
    """Images of one shape, or of one of each colour, with tags.csv, classes.txt and, to score with, masks."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:SIDE, :SIDE]
    rows = ["image,tags"]
    (folder / "images").mkdir()
    for i in range(COUNT):
        kinds = [[0], [1], [0], [0], [1], [0, 1]][i % 6]
        image = rng.normal(120, 25, (SIDE, SIDE, 3)).clip(0, 255)
        mask = np.zeros((SIDE, SIDE), np.uint8)
        for place, kind in enumerate(kinds):
            radius = rng.integers(11, 15)
            left, right = (radius, SIDE - radius) if len(kinds) == 1 else (15 + 33 * place, 16 + 33 * place)
            dy, dx = np.abs(y - rng.integers(radius, SIDE - radius)), np.abs(x - rng.integers(left, right))
            shape = np.maximum(dy, dx) < radius if kind else np.hypot(dy, dx) < radius
            mask[shape] = kind + 1
            image[shape] = 0.2 * image[shape] + 0.8 * np.array(list(COLOURS.values())[kind])
        Image.fromarray(image.astype(np.uint8)).save(folder / "images" / f"{i:02}.png")
        write_mask(folder / "masks" / f"{i:02}.png", mask)
        rows.append(f"{i:02}.png,{';'.join(list(COLOURS)[kind] for kind in kinds)}")
    (folder / "tags.csv").write_text("\n".join(rows) + "\n")
    (folder / "classes.txt").write_text("\n".join(["background", *COLOURS]) + "\n")


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
