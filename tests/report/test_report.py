"""The report is one self-contained page, whatever a run has and has not."""

from __future__ import annotations

import base64
import io
import json
import re
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from cian.build import build_network
from cian.config import load_config
from cian.data.masks import read_mask, write_mask
from cian.data.palette import COLOURS
from cian.data.table import Table
from cian.files import read_json, write_json, write_text
from cian.inference.affinity_maps import AffinityMap
from cian.pipeline.context import Context
from cian.pipeline.stages.compare import Choice
from cian.report.affinity_view import affinity_examples
from cian.report.curves import loss_curves
from cian.report.draw_affinity import draw_affinity
from cian.report.draw_curves import _polyline, draw_curves
from cian.report.page import write_report
from cian.report.page_images import PageImages, draw_mask
from cian.report.samples import choose
from cian.report.scores import score_rows
from cian.runs.directory import Record, Run
from cian.seeds.classifier import build_classifier

NAMES = ("<script>alert('x')</script>", "猫 & dog", 'كلب "quoted"')
HEIGHT, WIDTH = 64, 97
TRAIN_IMAGES, VAL_IMAGES = 3, 6


def make_run(
    path: Path, *, masks: bool = True, tags: bool = True, splits: bool = True, labels: int = 0, **settings: Any
) -> Context:
    """A run directory as the stages before the report leave it, with untrained networks.

    Args:
        labels: how many of the images, from the first on, have a whole label map.
    """
    config = load_config(
        overrides={"backbone.name": "test_resnet", "backbone.weights": "random", "runtime.device": "cpu", **settings}
    )
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    run = Run(path / "run <1>")
    run.path.mkdir(parents=True)
    number = TRAIN_IMAGES + VAL_IMAGES
    ids = [f"folder & co/{i:02d}" for i in range(number)]
    images, truths, tag_rows = [], [], []
    for i, image_id in enumerate(ids):
        images.append(path / "images" / f"{image_id}.png")
        images[i].parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)).save(images[i])
        truth = np.zeros((HEIGHT, WIDTH), np.uint8)
        truth[10:40, 20:60] = i % 3 + 1
        truth[50:] = 255
        truths.append(path / "masks" / f"{i}.png")
        write_mask(truths[i], truth)
        tag_rows.append([i % 3 + 1] if tags or i < TRAIN_IMAGES else None)
        seeds = np.where(truth == 255, 0, truth)
        seeds[20:30] = 255
        for folder in (
            "seeds",
            "compare/seeds",
            "relabel",
            "predictions",
            "compare/without-crf",
            "compare/train",
            "compare/train-crf",
        ):
            write_mask(run.mask(folder, image_id), seeds if folder.endswith("seeds") else np.roll(seeds, 5, 1) % 255)
        for folder in ("compare/baseline", "compare/baseline-crf", "compare/retrain", "compare/retrain-crf"):
            write_mask(run.mask(folder, image_id), np.zeros_like(truth))
    names = ["train" if i < TRAIN_IMAGES or not splits else "val" for i in range(number)]
    label_maps = [truth if i < labels else None for i, truth in enumerate(truths)]
    whole = [i < labels for i in range(number)]
    table = Table.build(NAMES, ids, images, tag_rows, names, truths if masks else None, label_maps, whole)
    context = Context(config, table, run)
    for stage in context.networks:
        save(build_network(stage.network_config(config), table.num_classes), run.folder(stage.name))
    if context.chooses:
        titles = [stage.scores_title(config) for stage in context.networks]
        miou = {title: 30.0 + place for place, title in enumerate(titles)}
        write_json(run.path / "compare/chosen.json", asdict(Choice(context.networks[-1].name, "val", True, miou)))
    classifier = build_classifier(config, len(table.classes), weights="random")
    save(classifier, run.folder("classify"))
    for folder in ("classify", "cells"):
        save(classifier.cells, run.folder(folder), "cells")
    lines = [
        f'{{"step": {step}, "epoch": 1.0, "total": {9 / step}, "self_seed": {8 / step}, "cross_seed": {1 / step}, '
        '"lr": 0.001, "images_per_second": 3.0}'
        for step in range(10, 60, 10)
    ]
    for name in ("classify", "train", "retrain", "baseline"):
        write_text(run.folder(name) / "metrics.jsonl", "\n".join(lines) + "\n")
    write_json(run.stages_file, {})
    for name in ("classify", "seed", "train", "relabel", "retrain", "predict", "evaluate"):
        run.record(name, Record({}, True, 12.0))
    run.write_config(config.model_dump(mode="json"), {"cian": "1.2.3", "torch": "2"})
    run.write_table(table)
    next(stage for stage in context.stages if stage.name == "evaluate").run(context)
    return context


def save(network: torch.nn.Module, folder: Path, name: str = "model") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    save_file({key: value.contiguous() for key, value in network.state_dict().items()}, folder / f"{name}.safetensors")


class Page(HTMLParser):
    """What a browser would make of it: elements, text by section, and everything it would fetch."""

    VOID = frozenset({"meta", "img", "hr", "input", "br", "link"})

    def __init__(self, html: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: dict[str, str] = {"": ""}
        self.script = self.section = ""
        self.open: list[str] = []
        self.feed(html)
        assert self.open == []
        self.resources = [
            a[key] for _, a in self.elements for key in ("src", "data-atlas", "srcset", "poster") if key in a
        ]
        self.resources += re.findall(r"url\(([^)]*)\)", html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "section":
            self.section = dict(attrs)["id"] or ""
            self.text[self.section] = ""
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        if tag == "section":
            self.section = ""

    def handle_data(self, data: str) -> None:
        if self.open[-1:] == ["script"]:
            self.script += data
        elif self.open[-1:] != ["style"]:
            self.text[self.section] += data


def render(context: Context) -> tuple[str, Page]:
    write_report(context)
    html = context.run.report_file.read_text(encoding="utf-8")
    return html, Page(html)


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> tuple[Context, str, Page]:
    context = make_run(tmp_path_factory.mktemp("full"), compare=True, **{"retrain.enabled": True})
    return context, *render(context)


def test_nothing_is_fetched(full: tuple[Context, str, Page]) -> None:
    context, html, page = full
    assert re.findall(r"https?:|//\w|@import", re.sub(r"data:image/\w+;base64,[\w+/=]*", "", html)) == []
    assert {tag for tag, _ in page.elements} & {"link", "iframe", "object", "embed", "video", "audio"} == set()
    assert len(page.resources) > 50
    for uri in page.resources:
        assert uri is not None
        kind, _, data = uri.partition(";base64,")
        assert kind in ("data:image/png", "data:image/jpeg")
        Image.open(io.BytesIO(base64.b64decode(data))).load()
    for tag, attributes in page.elements:
        if tag == "a" and not (attributes["href"] or "").startswith("#"):
            assert (context.run.path / (attributes["href"] or "")).exists()


def test_links_within_the_page_have_a_target(full: tuple[Context, str, Page]) -> None:
    _, _, page = full
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = [(a["href"] or "")[1:] for tag, a in page.elements if tag == "a" and (a["href"] or "").startswith("#")]
    assert links and set(links) <= set(ids)


def test_names_are_escaped(full: tuple[Context, str, Page]) -> None:
    _, html, page = full
    assert html.count("<script") == 1
    assert "alert" not in page.script
    assert "folder & co/" not in html and "run <1>" not in html
    for name in NAMES:
        assert name in page.text[""] and name in page.text["classes"] and name in page.text["data"]


def test_every_image_is_described(full: tuple[Context, str, Page]) -> None:
    _, _, page = full
    for tag, attributes in page.elements:
        if "tile" in (attributes.get("class") or "").split():
            assert attributes["role"] == "img" and attributes["aria-label"]
        if tag == "img":
            assert attributes["alt"] == ""  # a layer; the tile around it speaks


def test_scores_are_those_of_the_run(full: tuple[Context, str, Page]) -> None:
    context, _, page = full
    scores = read_json(context.run.metrics_file)
    assert f"{scores['miou']:.1f}" in page.text[""]
    for stage, splits in scores["stages"].items():
        assert stage in page.text["scores"]
        for values in splits.values():
            assert f"{values['miou']:.1f}" in page.text["scores"]
    assert set(scores["stages"]) == {
        "seeds",
        "without affinity",
        "without affinity, with CRF",
        "CIAN",
        "CIAN, with CRF",
        "relabelled masks",
        "CIAN, retrained",
        "CIAN, retrained, with CRF",
        "final, with CRF",
    }
    assert "The model is the network CIAN, retrained" in page.text["scores"]


def test_a_class_that_no_true_mask_shows_has_no_score(tmp_path: Path) -> None:
    context = make_run(tmp_path)
    for file in context.scored_table.masks:
        assert file is not None
        write_mask(file, np.where(read_mask(file) == 2, 3, read_mask(file)).astype(np.uint8))
    next(stage for stage in context.stages if stage.name == "evaluate").run(context)
    _, page = render(context)
    assert f"No true mask of this split shows {NAMES[1]}, so there is no score of it" in page.text["classes"]
    bars = [a["aria-label"] for _, a in page.elements if a.get("class") == "bar" and "aria-label" in a]
    assert [label for label in bars if label and label.endswith("–")] == [f"{NAMES[1]}: –"]
    assert "learned 3 classes" in page.text[""]  # nothing says that it was not learned


def test_seeds_of_two_splits_are_one_group(full: tuple[Context, str, Page]) -> None:
    context, _, _ = full
    rows = [row for row in score_rows(context, read_json(context.run.metrics_file)) if row.name == "seeds"]
    assert {row.split for row in rows} == {"train", "val"} and len({row.place for row in rows}) == 1


def test_affinity_is_judged_by_true_masks(full: tuple[Context, str, Page]) -> None:
    assert "by the true masks" in full[2].text["affinity"]


def test_a_comparison_says_that_it_is_one_draw(full: tuple[Context, str, Page]) -> None:
    assert "cian ablate --config config.yaml --only baseline" in full[2].text["scores"]


def test_the_same_run_gives_the_same_page(full: tuple[Context, str, Page]) -> None:
    context, html, _ = full
    again, _ = render(context)
    clock = re.compile(r"\d+ \w+ \d{4}, \d\d:\d\d")
    assert clock.sub("", again) == clock.sub("", html)


def test_without_masks(tmp_path: Path) -> None:
    _, page = render(make_run(tmp_path, masks=False))
    assert "--masks" in page.text["scores"]
    assert "mIoU on" not in page.text[""] and "truth" not in page.text["images"]
    assert "classes" not in page.text
    assert "by the predicted masks" in page.text["affinity"]


def test_without_tags_of_the_predicted_images(tmp_path: Path) -> None:
    _, page = render(make_run(tmp_path, tags=False))
    assert "classes as predicted" in page.text["images"]


def test_without_affinity(tmp_path: Path) -> None:
    _, page = render(make_run(tmp_path, **{"affinity.mode": "none"}))
    assert "trained without the affinity module" in page.text["affinity"]
    assert not any("data-atlas" in attributes for _, attributes in page.elements)


def test_without_retraining_and_crf(tmp_path: Path) -> None:
    _, page = render(make_run(tmp_path, **{"retrain.enabled": False, "predict.crf.iterations": 0}))
    assert "Retraining" not in page.text["curves"]
    assert "relabelled" not in page.text["images"].lower()
    assert "without CRF" not in page.text["images"]


def test_only_training_images(tmp_path: Path) -> None:
    context = make_run(tmp_path, splits=False)
    _, page = render(context)
    assert "with their tags" in page.text[""]
    assert "Predicted images" in page.text["images"] and "Held-out" not in page.text["images"]
    assert {row.tags for row in score_rows(context, read_json(context.run.metrics_file))} == {"yes"}


def test_ready_made_seeds_and_true_masks(tmp_path: Path) -> None:
    folder = tmp_path / "seeds"
    folder.mkdir()
    _, page = render(make_run(tmp_path / "a", **{"seeds.folder": str(folder)}))
    assert "CAM" not in page.text["images"] and "seeds" in page.text["images"]
    assert "ready-made" in page.text["scores"]
    _, page = render(make_run(tmp_path / "b", labels=TRAIN_IMAGES))
    assert "full supervision" in page.text[""]
    assert "seeds" not in page.text["images"]
    _, page = render(make_run(tmp_path / "c", labels=1))
    assert "3 images with tags and 1 label map" in page.text[""]
    assert "seeds" in page.text["images"]


def test_a_vision_transformer_without_pooling(tmp_path: Path) -> None:
    settings = {"backbone.name": "test_vit", "affinity.pool": False, "affinity.mode": "self"}
    _, page = render(make_run(tmp_path, **settings))
    assert any("data-atlas" in attributes for _, attributes in page.elements)


def test_choice_shows_every_class(tmp_path: Path) -> None:
    context = make_run(tmp_path)
    table = Table.build(
        [f"c{i}" for i in range(20)],
        [str(i) for i in range(100)],
        [Path("x.jpg")] * 100,
        [[1] if i < 80 else [i - 79] for i in range(100)],
    )
    rows = choose(context, table, 12, 24)
    assert len(rows) == len(set(rows)) == 20  # as many as there are classes
    assert {int(tag) for row in rows for tag in table.tags(row)} == set(range(1, 21))
    assert rows == choose(context, table, 12, 24)
    assert len(choose(context, table, 12, 15)) == 15
    assert len(choose(context, table.select(range(5)), 12, 24)) == 5


def decoded(layer: str) -> np.ndarray:
    """(H, W, 4) uint8 of a data URI."""
    data = base64.b64decode(layer.partition(";base64,")[2])
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGBA"))


def test_mask_layers_have_the_colours_of_the_classes() -> None:
    mask = np.zeros((20, 30), np.uint8)
    mask[2:12, 2:12] = 3
    mask[14:18, 20:28] = 255
    pixels = decoded(draw_mask(mask, (30, 20)))
    assert pixels.shape == (20, 30, 4)
    assert pixels[6, 6, :3].tolist() == COLOURS[3].tolist() and 0 < pixels[6, 6, 3] < 255
    assert pixels[2, 6].tolist() == [*COLOURS[3].tolist(), 255]  # the contour is firm
    assert pixels[0, 0, 3] == 0
    assert 0 < pixels[16, 24, 3] < 255 and np.ptp(pixels[16, 24, :3]) == 0  # unlabelled is grey
    assert decoded(draw_mask(np.zeros((9, 9), np.uint8), (9, 9)))[..., 3].max() == 0


def test_a_mask_layer_can_have_all_classes() -> None:
    mask = np.arange(1, 255, dtype=np.uint8).repeat(9).reshape(254, 9).repeat(3, 0)
    pixels = decoded(draw_mask(mask, (9, 3 * 254)))
    assert (pixels[1::3, 4, :3] == COLOURS[1:255]).all()


def test_shares_of_affinity() -> None:
    affinity = np.zeros((1, 2, 2, 2))  # (qh, qw, kh, kw)
    affinity[0, 0, 0] = 0.5  # the upper half
    affinity[0, 1, :, 1] = 0.25, 0.75  # the right half
    mask = np.zeros((8, 8), np.uint8)
    mask[:, 4:] = 7
    on, area = AffinityMap(affinity, (0.0, 0.0), (1.0, 1.0)).share(mask, 7)
    assert on.tolist() == [[0.5, 1.0]]
    assert area == 0.5


def test_affinity_is_drawn_where_its_cells_are(full: tuple[Context, str, Page]) -> None:
    """The heat maps' boxes cover their images, cell for cell, and the marked cell is on the object."""
    context, _, _ = full
    affinity = draw_affinity(affinity_examples(context), context.predict_table, PageImages())
    assert affinity is not None
    assert [example["name"] for example in affinity["examples"]] == list(NAMES)
    for example in affinity["examples"]:
        for look in example["looks"]:
            box, (columns, rows) = look["box"], look["cells"]
            assert box["left"] <= 0 and box["left"] + box["width"] >= 100
            assert box["top"] <= 0 and box["top"] + box["height"] >= 100
            assert box["width"] / columns * WIDTH / 100 == pytest.approx(32, abs=0.5)  # two strides of 16 px
            queries = example["queries"]
            assert decoded(look["atlas"]).shape == (queries[1] * rows, queries[0] * columns, 4)
        x, y = (example["first"][i] + example["at"][i] * example["step"][i] for i in (0, 1))
        assert 25 / WIDTH < x / 100 < 65 / WIDTH and 10 / HEIGHT < y / 100 < 40 / HEIGHT


def test_curves_stay_in_their_box() -> None:
    points = _polyline(np.linspace(0, 1, 5000), np.linspace(1, 0, 5000)).split()
    assert len(points) == 300
    values = np.array([point.split(",") for point in points], float)
    assert values.min() >= 0 and values.max() <= 1000
    assert len(_polyline(np.array([1.0]), np.array([0.5])).split()) == 2


def test_losses_that_start_later_are_drawn_from_there(tmp_path: Path) -> None:
    context = Context(load_config(), Table.build((), (), (), ()), Run(tmp_path))
    lines: list[dict[str, float]] = [
        {"step": step, "epoch": step / 50, "total": 2.0, "self_seed": 1.0, "cross_seed": 1.0}
        | ({"self_completion": 0.5} if step > 50 else {})
        | {"lr": 0.001, "images_per_second": 3.0}
        for step in range(10, 110, 10)
    ]
    write_text(context.run.folder("train") / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    (curves,) = loss_curves(context)
    chart = draw_curves(curves)
    drawn = {line["name"]: line for line in chart["lines"]}
    assert list(drawn) == ["total", "self branch · labels", "cross branch · labels", "self branch · completion"]
    xs = {name: [float(point.split(",")[0]) for point in line["points"].split()] for name, line in drawn.items()}
    assert xs["total"] == list(range(100, 1100, 100)) and xs["self branch · completion"] == [600, 700, 800, 900, 1000]
    assert drawn["self branch · completion"]["last"] == 0.5
