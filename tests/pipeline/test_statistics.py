"""statistics.csv says what the network learns from."""

from __future__ import annotations

import csv

import numpy as np
import pytest

import cian
from cian.data.masks import read_mask, write_mask
from tests.helpers import TINY, here, options


def test_statistics_count_seeds_and_label_maps(drawn, tmp_path, capsys):
    data = drawn(masks=True)
    labels = np.full((40, 56), 2, np.uint8)  # all red; the images 001 and 003 are tagged red
    labels[:10] = 255
    for name in ("001", "003"):
        write_mask(data / "labels" / f"{name}.png", labels)
    given = {"data.classes": str(data / "classes.txt"), "data.labels": str(data / "labels")}
    settings = {**TINY, **given, "retrain.enabled": False, "until": "statistics"}
    run = cian.run(data / "images", data / "tags.csv", tmp_path / "run", **settings)
    with (run.path / "statistics.csv").open(newline="") as file:
        rows = {row["class"]: row for row in csv.DictReader(file)}
    assert list(rows) == ["background", "blue", "red"]
    assert [row["images"] for row in rows.values()] == ["12", "6", "6"]
    maps = [read_mask(file) for file in (run.path / "seeds").glob("*.png")] + [labels, labels]
    assert len(maps) == 12
    all_labelled = sum((each != 255).sum() for each in maps)
    for class_id, row in enumerate(rows.values()):
        pixels = np.array([(each == class_id).sum() for each in maps])
        assert int(row["labelled_images"]) == (pixels > 0).sum()
        assert int(row["labelled_pixels"]) == pixels.sum()
        assert float(row["share_of_labelled"]) == round(100 * pixels.sum() / all_labelled, 2)
        share = 100 * np.median(pixels[pixels > 0] / labels.size) if pixels.any() else 0
        assert abs(float(row["share_of_image"]) - share) <= 0.005
    capsys.readouterr()
    write_mask(data / "labels" / "003.png", np.full((40, 56), 2, np.uint8))
    cian.run(out=run.path, until="statistics")
    said = " ".join(capsys.readouterr().err.split())
    assert "statistics: re-running because" in said and "the label maps changed" in said.partition("statistics: ")[2]


@pytest.mark.parametrize("command", ["seed", "train"])
def test_classes_that_are_hardly_labelled_are_named(command, drawn, tmp_path, capsys, monkeypatch):
    """After the seeds, and at the end of each command. Blue is labelled in 2 of 6 images, red in 1 of 6."""
    data = drawn()
    for i in range(12):
        seeds = np.full((40, 56), 255, np.uint8)
        seeds[:10] = 0
        if i < 3:
            seeds[20:30] = 1 + i % 2
        write_mask(data / "seeds" / f"{i:03}.png", seeds)
    given = options(data, tmp_path / "run", **{"seeds.folder": str(data / "seeds"), "retrain.enabled": False})
    assert here(monkeypatch, command, *given) == 0
    shown = capsys.readouterr().err
    assert "hardly labelled, so the model hardly learns them: red (in 1 of its 6 images). Add images" in shown
    end = "hardly labelled, so hardly learned: red (in 1 of its 6 images)"
    assert shown.splitlines()[-1] == end
    assert here(monkeypatch, command, *given) == 0
    assert capsys.readouterr().err.splitlines()[-1] == end
