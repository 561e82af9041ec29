"""Files of a finished run that are damaged, and images that change while a run works."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

import cian
from cian.seeds import estimate_cells, train_classifier
from cian.training.checkpoint import save_weights
from tests.helpers import TINY, bit_for_bit, draw_images, here, options, same, weights

SETTINGS = {"retrain.enabled": False, "data.val_fraction": 0.25}


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    """A finished run; its data lies beside it."""
    root = tmp_path_factory.mktemp("damage")
    data = draw_images(root, masks=True)
    masks = {"data.masks": str(data / "masks"), "data.classes": str(data / "classes.txt")}
    cian.run(data / "images", data / "tags.csv", root / "run", **{**TINY, **SETTINGS, **masks})
    return root / "run"


@pytest.fixture
def finished(original, tmp_path) -> Path:
    shutil.copytree(original, tmp_path / "run")
    return tmp_path / "run"


def flipped(content: bytes) -> bytes:
    place = len(content) * 2 // 3
    return content[:place] + bytes([content[place] ^ 0x40]) + content[place + 1 :]


def contents(run: Path) -> dict[str, bytes]:
    """The files that a run makes from the same data and settings, whenever it is run."""
    files = [*run.rglob("*.png"), *run.rglob("*.safetensors"), run / "metrics.json", run / "statistics.csv"]
    return {file.relative_to(run).as_posix(): file.read_bytes() for file in files}


@bit_for_bit
@pytest.mark.parametrize("damage", [lambda content: b"", lambda content: content[:-1], flipped])
def test_what_is_damaged_is_made_again(finished, capsys, damage):
    """And what is not damaged stays."""
    before = contents(finished)
    first = {folder: sorted((finished / folder).glob("*.png"))[0].name for folder in ("seeds", "predictions")}
    names = [
        "classify/cells.safetensors",
        f"seeds/{first['seeds']}",
        "train/model.safetensors",
        "model/model.safetensors",
        "model/config.json",
        f"predictions/{first['predictions']}",
        "metrics.json",
        "statistics.csv",
        "report.html",
    ]
    for name in names:
        (finished / name).write_bytes(damage((finished / name).read_bytes()))
    kept = {file: file.stat().st_mtime_ns for file in [*finished.rglob("*.png"), *finished.rglob("*.safetensors")]}
    cian.run(out=finished)
    said = " ".join(capsys.readouterr().err.split())
    for name in names:
        assert name in said
    assert "seed: making again what was damaged since it was written: seeds/" in said and "re-running" not in said
    assert contents(finished) == before and (finished / "report.html").read_text().rstrip().endswith("</html>")
    made = {file.relative_to(finished).as_posix() for file, time in kept.items() if file.stat().st_mtime_ns != time}
    both = f"compare/without-crf/{first['predictions']}"  # written together with the final one
    contrast = "classify/contrast.safetensors"  # written together with the scores of cells
    assert made == {both, contrast, *(name for name in names if name.endswith((".png", ".safetensors")))}
    cian.run(out=finished)
    assert "making again" not in (said := capsys.readouterr().err) and "resuming" not in said


def test_other_weights_are_noticed(finished, capsys, monkeypatch):
    """A GPU, for example, makes others from the same inputs."""
    file = finished / "train" / "model.safetensors"
    file.unlink()

    def save_half(model: nn.Module, path: Path) -> None:
        with torch.no_grad():
            for value in model.parameters():
                value.mul_(0.5)
        save_weights(model, path)

    monkeypatch.setattr("cian.training.trainer.save_weights", save_half)
    cian.run(out=finished)
    said = capsys.readouterr().err
    for name in ("export", "predict", "evaluate", "report"):
        assert f"{name}: re-running because" in said
    assert "classify: up to date" in said and "seed: up to date" in said and "train: resuming" in said


def test_the_model_stays_until_there_is_another(finished, monkeypatch):
    model = (finished / "model" / "model.safetensors").read_bytes()
    damaged = finished / "train" / "model.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1])

    def fails(*_: object, **__: object) -> None:
        raise cian.CianError("no memory")

    with monkeypatch.context() as patch:
        patch.setattr("cian.training.segmentation.fit", fails)
        with pytest.raises(cian.CianError, match="no memory"):
            cian.run(out=finished)
        patch.setattr("cian.inference.segmenter.Segmenter.save", fails)
        with pytest.raises(cian.CianError, match="no memory"):
            cian.run(out=finished, until="export", **{"predict.crf.iterations": 2, "train.min_steps": 2})
    assert (finished / "model" / "model.safetensors").read_bytes() == model


def test_a_run_of_an_earlier_version_gets_its_fingerprints(finished, capsys):
    shutil.rmtree(finished / "fingerprints")
    file = finished / "stages.json"
    whole = json.loads(file.read_text())
    file.write_text(json.dumps({name: {**record, "made": None} for name, record in whole.items()}))
    for _ in range(2):
        capsys.readouterr()
        cian.run(out=finished)
        said = capsys.readouterr().err
        assert [name for name in whole if f"{name}: up to date" not in said] == []
        assert json.loads(file.read_text()) == whole
    damaged = finished / "model" / "model.safetensors"
    damaged.write_bytes(flipped(damaged.read_bytes()))
    cian.run(out=finished)
    assert "export: making again what was damaged since it was written" in capsys.readouterr().err


def test_the_cure_for_a_damaged_record(finished, monkeypatch, capsys):
    (finished / "stages.json").write_bytes(b"")
    before = contents(finished), *((finished / name).read_bytes() for name in ("config.yaml", "data.csv"))
    assert here(monkeypatch, "run", "--out", finished, "--set", "predict.scales=1.5") == 1
    assert "start over with --overwrite" in capsys.readouterr().err
    assert (contents(finished), *((finished / name).read_bytes() for name in ("config.yaml", "data.csv"))) == before
    assert here(monkeypatch, "run", "--out", finished, "--overwrite") == 0


@pytest.mark.parametrize("content", [b"", b"- 1\n", b"[" * 5000, bytes(range(256)), "cut"])
def test_the_cure_for_damaged_settings(original, tmp_path, monkeypatch, capsys, content):
    """Settings that are cut off would be the defaults."""
    shutil.copytree(original, tmp_path / "run")
    file = tmp_path / "run" / "config.yaml"
    whole = file.read_bytes()
    if isinstance(content, str):
        content = whole[: whole.index(b"\n", 700) + 1]
        assert yaml.safe_load(content)
    file.write_bytes(content)
    assert here(monkeypatch, "run", "--out", tmp_path / "run") == 1
    assert "or give --images and all other options again" in " ".join(capsys.readouterr().err.split())
    command = ["run", *options(original.parent / "data", tmp_path / "run", **SETTINGS)]
    assert here(monkeypatch, *command) == 0
    assert "re-running" not in capsys.readouterr().err and file.read_bytes() == whole


@bit_for_bit
@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("put_back", [True, False])
def test_an_image_that_changes_while_it_is_used(original, tmp_path, monkeypatch, capsys, moment, put_back):
    """It is noticed, and the next run learns from what is there then."""
    data = shutil.copytree(original.parent / "data", tmp_path / "data")
    image = data / "images" / "000.png"
    other, fit = (data / "images" / "001.png").read_bytes(), train_classifier.fit

    def changing(*args: object) -> None:
        before = image.read_bytes()
        if moment == "after":
            fit(*args)
        image.write_bytes(other)
        try:
            if moment == "before":
                fit(*args)
        finally:
            if put_back:
                image.write_bytes(before)

    command = ["classify", *options(data, tmp_path / "run", **SETTINGS)]
    with monkeypatch.context() as patch:
        patch.setattr(train_classifier, "fit", changing)
        is_noticed = moment == "before" or not put_back
        assert here(patch, *command) == is_noticed
    said = " ".join(capsys.readouterr().err.split())
    assert ("000.png: has changed since the run began. Run the same command again" in said) == is_noticed
    assert here(monkeypatch, *command) == 0
    assert same(weights(original, "classify"), weights(tmp_path / "run", "classify")) == put_back


def test_what_changes_when_it_was_read_for_the_last_time(original, tmp_path, monkeypatch, capsys):
    data = shutil.copytree(original.parent / "data", tmp_path / "data")
    estimate: Callable[..., None] = estimate_cells.estimate_cells

    def then_change(*args: object) -> None:
        estimate(*args)
        shutil.copy(data / "images" / "001.png", data / "images" / "000.png")

    command = ["classify", *options(data, tmp_path / "run", **SETTINGS)]
    with monkeypatch.context() as patch:
        patch.setattr("cian.seeds.estimate_cells.estimate_cells", then_change)
        assert here(patch, *command) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "classify: the training images or their tags changed while it ran. Run the same command again." in said
    shutil.copy(original.parent / "data" / "images" / "000.png", data / "images")
    assert here(monkeypatch, *command) == 0
    assert "classify: up to date" not in capsys.readouterr().err
