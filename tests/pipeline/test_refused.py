"""A run that is refused before its work starts leaves nothing behind."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import cian
from tests.helpers import TINY, here, options

REFUSALS = {
    "wrong value": ({"train.batch_size": 0}, "train.batch_size"),
    "wrong key": ({"train.batch_sise": 4}, "train.batch_sise"),
    "wrong backbone": ({"backbone.name": "resnet5000"}, "resnet5000"),
    "missing weights": ({"backbone.weights": "none.safetensors"}, "none.safetensors"),
    "missing images": ({"data.images": "none"}, "none"),
    "missing tags": ({"data.tags": "none.csv"}, "none.csv"),
    "missing seed maps": ({"seeds.folder": "none"}, "seeds.folder"),
    "unknown split": ({"predict.splits": "valid"}, "predict.splits"),
    "CRF too narrow": ({"predict.crf.bilateral": (80, 0.05, 10)}, "predict.crf"),
    "batch too large": ({"train.batch_size": 64}, "train.batch_size"),
    "device missing": ({"runtime.device": "tpu"}, "runtime.device"),
}


@pytest.mark.parametrize(("settings", "words"), REFUSALS.values(), ids=REFUSALS)
def test_wrong_settings(drawn, tmp_path, settings, words):
    data, out = drawn(), tmp_path / "runs" / "first"
    given = {"data.images": str(data / "images"), "data.tags": str(data / "tags.csv"), **TINY, **settings}
    with pytest.raises(cian.CianError, match=words):
        cian.run(out=out, **given)
    assert not out.parent.exists()


def test_data_errors(drawn, tmp_path):
    data, out = drawn(), tmp_path / "runs" / "first"
    (data / "images" / "003.png").write_bytes(b"no image")
    with pytest.raises(cian.CianError, match=r"003\.png"):
        cian.run(data / "images", data / "tags.csv", out, **TINY)
    assert not out.parent.exists()


def test_unknown_stage(drawn, tmp_path):
    data, out = drawn(), tmp_path / "runs" / "first"
    with pytest.raises(cian.CianError, match="stage relabel"):
        cian.run(data / "images", data / "tags.csv", out, until="relabel", **{**TINY, "retrain.enabled": False})
    assert not out.parent.exists()


def test_command(drawn, tmp_path, monkeypatch, capsys):
    command = ["run", *options(drawn(), tmp_path / "runs" / "first", **{"train.batch_size": 64})]
    assert here(monkeypatch, *command) == 1
    assert "train.batch_size" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_an_empty_folder_stays_empty(drawn, tmp_path):
    data, out = drawn(), tmp_path / "empty"
    out.mkdir()
    with pytest.raises(cian.CianError, match=r"train\.batch_size"):
        cian.run(data / "images", data / "tags.csv", out, **{**TINY, "train.batch_size": 64})
    assert not list(out.iterdir())


def test_an_earlier_run_stays_as_it_was(drawn, tmp_path):
    data, out = drawn(), tmp_path / "run"
    cian.run(data / "images", data / "tags.csv", out, until="classify", **TINY)
    before = {name: (out / name).read_bytes() for name in ("config.yaml", "data.csv", "stages.json")}
    for overwrite in (False, True):
        with pytest.raises(cian.CianError, match="too few for a batch"):
            cian.run(out=out, overwrite=overwrite, **{"train.batch_size": 64})
    assert {name: (out / name).read_bytes() for name in before} == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_found_before_the_data_is_read(drawn, tmp_path, monkeypatch, capsys):
    data, place = drawn(), tmp_path / "place"
    place.mkdir(mode=0o500)
    monkeypatch.setattr("cian.pipeline.run.check_dataset", _unexpected)
    assert here(monkeypatch, "run", *options(data, place / "run")) == 1
    assert f"{place / 'run'}: permission denied" in capsys.readouterr().err


def test_a_file_in_the_way_is_found_before_the_data_is_read(drawn, tmp_path, monkeypatch, capsys):
    data, place = drawn(), tmp_path / "place"
    place.write_text("text")
    monkeypatch.setattr("cian.pipeline.run.check_dataset", _unexpected)
    assert here(monkeypatch, "run", *options(data, place / "run")) == 1
    assert f"{place / 'run'}: a folder is needed" in capsys.readouterr().err


def _unexpected(*_: object, **__: object) -> Path:
    raise AssertionError("the data was read")
