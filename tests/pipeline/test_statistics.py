"""statistics.csv says what the network learns from."""

from __future__ import annotations

import csv

import numpy as np

import cian
from cian.data.masks import read_mask, write_mask
from tests.helpers import TINY


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
    assert "statistics: re-running because the label maps changed" in capsys.readouterr().err
