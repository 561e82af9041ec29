"""`cian suggest`: which images to correct first, and their masks in the formats of other programs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import cian
from cian.build import build_network
from cian.config import load_config
from cian.data.images import image_size
from cian.data.masks import read_mask, write_mask
from cian.formats.convert import convert
from cian.inference.segmenter import Segmenter
from cian.pipeline import suggest as module
from cian.pipeline.suggest import suggest, write_suggested
from cian.runs.directory import Run
from tests.helpers import TINY, draw_images, here

# The rows of 40 that objects cover in the seeds. Even images are blue, odd ones red.
ROWS = {"000": 5, "001": 9, "002": 7, "003": 8, "004": 20, "005": 12, "006": 3, "007": 3, "008": 39, "009": 39}
HELD_OUT, LABELLED = ("010", "011"), ("008",)


OPEN = {"006": 20}  # the unlabelled rows, otherwise 1


def striped(rows: int, class_id: int, unlabelled: int = 1) -> np.ndarray:
    mask = np.zeros((40, 56), np.uint8)
    mask[:rows], mask[-unlabelled:] = class_id, 255
    return mask


def seeds_of(name: str) -> np.ndarray:
    return striped(ROWS[name], 1 + int(name) % 2, OPEN.get(name, 1))


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run after `cian seed`, with ready-made seeds. 008 has a label map; 010 and 011 are held out."""
    data = draw_images(tmp_path, masks=True)
    for name in ROWS:
        write_mask(data / "seeds" / f"{name}.png", seeds_of(name))
    for name in LABELLED:
        write_mask(data / "labels" / f"{name}.png", striped(20, 1))
    for split, names in {"train": ROWS, "val": HELD_OUT}.items():
        (data / f"{split}.txt").write_text("\n".join(names), encoding="utf-8")
    return cian.run(
        data / "images",
        data / "tags.csv",
        tmp_path / "run",
        until="statistics",
        **TINY,
        **{"seeds.folder": str(data / "seeds"), "data.labels": str(data / "labels")},
        **{f"data.splits.{split}": str(data / f"{split}.txt") for split in ("train", "val")},
        **{"data.classes": str(data / "classes.txt")},
    )


def ids(run: Run, count: int | None = None) -> list[str]:
    return [each.id for each in suggest(run, count)]


def test_classes_take_turns_and_the_least_background_comes_first(run):
    """Blue has a label map already, so red begins. Held-out and labelled images are left out."""
    assert ids(run) == ["009", "006", "005", "004", "001", "002", "003", "000", "007"]
    found = suggest(run.path, 3)
    assert [each.rank for each in found] == [1, 2, 3]
    assert found[0].image.name == "009.png" and found[0].image.is_file()
    assert [each.reason for each in found] == [
        "red has no label map yet; objects may cover 100% of this image",
        "blue has 1 label map; objects may cover 57% of this image",
        "red has 1 label map; objects may cover 32% of this image",
    ]


def test_an_image_counts_for_all_its_classes(tmp_path):
    data = draw_images(tmp_path, 4)
    (data / "tags.csv").write_text("image,tags\n000,blue;red\n001,red\n002,blue\n003,\n", encoding="utf-8")
    for i, rows in enumerate((30, 10, 5, 39)):
        write_mask(data / "seeds" / f"{i:03}.png", striped(rows, 1))
    given = {"seeds.folder": str(data / "seeds"), "data.untagged": "negative", "until": "statistics"}
    found = suggest(cian.run(data / "images", data / "tags.csv", tmp_path / "run", **TINY, **given))
    assert [each.id for each in found] == ["000", "002", "001"]  # an image without tags has nothing to correct
    assert found[1].reason.startswith("blue has 1 label map;")


def test_labels_that_are_kept_in_the_run_count(run):
    write_mask(run.mask("labels", "009"), striped(5, 2))
    assert ids(run)[:3] == ["006", "005", "004"]


def test_only_changed_seeds_are_read(run, monkeypatch):
    suggest(run)
    read: list[str] = []
    monkeypatch.setattr(module, "read_mask", lambda file: read.append(file.stem) or read_mask(file))
    assert ids(run, 2) == ["009", "006"] and not read
    write_mask(run.mask("seeds", "007"), striped(30, 2, 10)[:, :50])
    assert ids(run, 2) == ["007", "006"] and read == ["007"]
    (run.path / "suggest.json").write_text("broken")
    assert ids(run, 2) == ["007", "006"] and len(read) == 10


@pytest.mark.parametrize(
    ("to", "name"),
    [("masks", "m"), ("label-studio", "l.json"), ("cvat", "c.xml"), ("cvat-masks", "c.zip"), ("coco", "c.json")],
)
def test_masks_to_correct_are_written_in_the_formats_of_other_programs(run, tmp_path, to, name):
    """As they are: final masks where there are some, otherwise the seeds, with background where they say nothing."""
    write_mask(run.mask("predictions", "004"), striped(33, 2))
    found = suggest(run, 4)
    write_suggested(run, found, to, tmp_path / name)
    if to == "label-studio":  # predictions do not count until a person submits them as annotations
        text = (tmp_path / name).read_text(encoding="utf-8")
        (tmp_path / name).write_text(text.replace('"predictions"', '"annotations"'), encoding="utf-8")
    data = tmp_path / "data"
    convert(tmp_path / name, "masks", tmp_path / "back", data / "images", data / "classes.txt")
    files = {file.stem: file for file in (tmp_path / "back").glob("*.png")}
    assert sorted(files) == sorted(each.id for each in found)
    for image_id, file in files.items():
        expected = striped(33, 2) if image_id == "004" else seeds_of(image_id)
        assert np.array_equal(read_mask(file), np.where(expected == 255, 0, expected)), image_id


def test_the_model_predicts_images_without_a_final_mask(run, tmp_path):
    """After a run with held-out images, whose training images are not predicted. Only their tags may occur."""
    config = load_config(run.config_file)
    Segmenter(build_network(config, 3), config, ("background", "blue", "red")).save(run.model)
    found = suggest(run, 2)
    write_suggested(run, found, "masks", tmp_path / "out")
    segmenter = cian.load(run.model)
    for each in found:
        expected = segmenter.predict(each.image, ["blue" if each.id == "006" else "red"]).mask
        assert expected.shape == image_size(each.image)
        assert np.array_equal(read_mask(tmp_path / "out" / f"{each.id}.png"), expected)


def test_command(run, tmp_path, monkeypatch, capsys):
    assert here(monkeypatch, "suggest", run.path, "-n", "3") == 0
    assert capsys.readouterr().out.split() == ["009", "006", "005"]
    given = ("suggest", run.path, "-n", "2", "--format", "label-studio", "--prefix", "http://me/")
    assert here(monkeypatch, *given, "--out", tmp_path / "tasks.json", "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed[0]["id"] == "009" and printed[0]["rank"] == 1 and "no label map" in printed[0]["reason"]
    tasks = json.loads((tmp_path / "tasks.json").read_text(encoding="utf-8"))
    assert [task["data"]["image"] for task in tasks] == ["http://me/009.png", "http://me/006.png"]
    assert "red" in (tmp_path / "tasks.xml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--format", "coco"], "--out: is missing"),
        (["--out", "x"], "--format: is missing"),
        (["--format", "psd", "--out", "x"], "format psd: no such format"),
        (["--format", "coco", "--out", "x"], "ends in .json"),
    ],
)
def test_wrong_options(args, words, run, monkeypatch, capsys):
    assert here(monkeypatch, "suggest", run.path, *args) == 1
    assert words in " ".join(capsys.readouterr().err.split())


def test_a_run_without_seeds_and_no_run(run, tmp_path, monkeypatch, capsys):
    run.mask("seeds", "005").unlink()
    assert here(monkeypatch, "suggest", run.path) == 1
    assert "no seeds yet. Run `cian seed --out" in " ".join(capsys.readouterr().err.split())
    assert here(monkeypatch, "suggest", tmp_path) == 1
    assert "no run here" in capsys.readouterr().err
