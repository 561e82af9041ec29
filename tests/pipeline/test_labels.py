"""Label maps supervise the images that have them; seeds supervise the others."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import cian
from cian.config import load_config
from cian.data.masks import read_mask, with_labels, write_mask
from cian.data.table import Table
from cian.formats.convert import convert
from cian.pipeline.context import Context
from cian.runs.directory import Run
from tests.helpers import TINY, bit_for_bit, draw_images, same, weights

WHOLE, PARTIAL = ("000", "001", "002"), ("003", "004")
SETTINGS = {**TINY, "retrain.enabled": False}


def labelled(data: Path) -> Path:
    """Label maps for some of the images: whole ones, and ones with a stroke of object and a stroke of background."""
    folder = data / "labels"
    for name in WHOLE:
        truth = read_mask(data / "masks" / f"{name}.png")
        truth[:5] = 255
        write_mask(folder / f"{name}.png", truth)
    for name in PARTIAL:
        labels = np.full((40, 56), 255, np.uint8)
        labels[10:14, 5:50] = 1 + int(name) % 2
        labels[30:33, 5:50] = 0
        write_mask(folder / f"{name}.png", labels)
    return folder


@pytest.fixture(scope="module")
def mixed(tmp_path_factory) -> Path:
    """Two trained runs on the same images: `run` with label maps for some, `tags` without."""
    root = tmp_path_factory.mktemp("mixed")
    data = draw_images(root, masks=True)
    given = {"data.classes": str(data / "classes.txt"), "until": "train"}
    cian.run(data / "images", data / "tags.csv", root / "tags", **SETTINGS, **given)
    given["data.labels"] = str(labelled(data))
    cian.run(data / "images", data / "tags.csv", root / "run", **SETTINGS, **given)
    return root


@bit_for_bit
def test_shapes_of_another_program_teach_what_the_folder_teaches(mixed, tmp_path, monkeypatch, capsys):
    """The same weights; what was drawn may be deleted."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    data = mixed / "data"
    convert(data / "labels", "cvat", tmp_path / "l.xml", data / "images", data / "classes.txt")
    given = {"data.classes": str(data / "classes.txt"), "data.labels": str(tmp_path / "l.xml"), "until": "train"}

    def once() -> str:
        capsys.readouterr()
        cian.run(data / "images", data / "tags.csv", tmp_path / "run", **SETTINGS, **given)
        return " ".join(capsys.readouterr().err.split())

    once()
    assert same(weights(tmp_path / "run", "train"), weights(mixed / "run", "train"))
    shutil.rmtree(tmp_path / "cache")
    assert "train: up to date" in once()


def test_seeds_are_made_for_images_without_a_whole_label_map(mixed):
    names = {file.stem for file in (mixed / "run/seeds").glob("*.png")}
    assert names == {f"{i:03d}" for i in range(12)} - set(WHOLE)


def test_seeds_keep_the_labelled_pixels(mixed):
    for name in PARTIAL:
        seeds, labels = (read_mask(mixed / part / f"{name}.png") for part in ("run/seeds", "data/labels"))
        assert np.array_equal(seeds[labels != 255], labels[labels != 255]), name


def test_label_maps_tell_the_seeds_of_other_images_what_is_background(mixed):
    """The classifier is the same with and without label maps; what is known of single cells is not."""
    for name in ("model.safetensors", "cells.safetensors"):
        assert (mixed / "run/classify" / name).read_bytes() == (mixed / "tags/classify" / name).read_bytes()
    learned, estimated = (mixed / "run" / name / "cells.safetensors" for name in ("cells", "classify"))
    assert learned.read_bytes() != estimated.read_bytes()
    assert not (mixed / "tags/cells").exists()


def test_training_reads_the_label_map_or_the_seed_map(mixed):
    root, data = mixed, mixed / "data"
    ids = [f"{i:03d}" for i in range(12)]
    labels = [data / "labels" / f"{name}.png" if name in WHOLE + PARTIAL else None for name in ids]
    table = Table.build(
        ("blue", "red"), ids, [data / "images" / f"{name}.png" for name in ids], [[1]] * 12, labels=labels,
        whole=[name in WHOLE for name in ids],
    )  # fmt: skip
    context = Context(load_config(None, SETTINGS), table, Run(root / "run"))
    files = context.final_network.label_files(context)
    assert files == [(data / "labels" if name in WHOLE else root / "run/seeds") / f"{name}.png" for name in ids]
    assert all(file.is_file() for file in files)


def test_a_changed_label_map_trains_again(mixed, tmp_path, capsys):
    data = draw_images(tmp_path, masks=True)
    labels = labelled(data)
    given = {"data.classes": str(data / "classes.txt"), "data.labels": str(labels), "until": "train"}

    def once() -> str:
        capsys.readouterr()
        cian.run(data / "images", data / "tags.csv", tmp_path / "run", **SETTINGS, **given)
        return " ".join(capsys.readouterr().err.split())

    once()
    assert "train: up to date" in once()
    for name in ("000", "003"):
        file = labels / f"{name}.png"
        write_mask(file, np.flipud(read_mask(file)))
        said = once()
        assert "classify: up to date" in said and "cells: re-running because the label maps changed" in said
        assert "seed: re-running because" in said and "train: re-running because" in said


def test_relabelled_masks_keep_the_labelled_pixels(drawn, tmp_path):
    data = drawn(masks=True)
    given = {"data.classes": str(data / "classes.txt"), "data.labels": str(labelled(data)), "until": "retrain"}
    cian.run(data / "images", data / "tags.csv", tmp_path / "run", **{**TINY, **given})
    relabelled = {file.stem: read_mask(file) for file in (tmp_path / "run/relabel").glob("*.png")}
    assert len(relabelled) == 9
    for name in PARTIAL:
        labels = read_mask(data / "labels" / f"{name}.png")
        assert np.array_equal(relabelled[name][labels != 255], labels[labels != 255])
        assert (relabelled[name] != 255).all()


def test_images_with_a_label_map_need_no_tags(drawn, tmp_path):
    data = drawn(masks=True)
    labels = labelled(data)
    rows = (data / "tags.csv").read_text().splitlines()
    (data / "tags.csv").write_text("\n".join(row for row in rows if row[:3] not in WHOLE) + "\n")
    given = {"data.classes": str(data / "classes.txt"), "data.labels": str(labels), "until": "train"}
    run = cian.run(data / "images", data / "tags.csv", tmp_path / "run", **SETTINGS, **given)
    rows = (run.path / "data.csv").read_text().splitlines()[1:]
    assert [row.split(",")[2] for row in rows] == ["blue", "red"] * 6


def test_a_class_that_is_not_among_the_tags_is_named_before_work_starts(drawn, tmp_path, capsys):
    data = drawn(masks=True)
    labels = labelled(data)
    write_mask(labels / "001.png", np.full((40, 56), 1, np.uint8))  # blue; the tag is red
    given = {"data.classes": str(data / "classes.txt"), "data.labels": str(labels), "until": "classify"}
    cian.run(data / "images", data / "tags.csv", tmp_path / "run", **SETTINGS, **given)
    said = " ".join(capsys.readouterr().err.split())
    assert "label maps with a class that their image is not tagged with: " in said
    assert "001.png (blue)" in said and said.index("001.png (blue)") < said.index("classifier")


def test_a_larger_label_map_is_reduced_to_the_seeds():
    seeds = np.array([[1, 255], [0, 255]], np.uint8)
    labels = np.full((4, 4), 255, np.uint8)
    labels[:2, 2:] = 2
    labels[2:, :2] = 1
    assert with_labels(seeds, labels).tolist() == [[1, 2], [1, 255]]
