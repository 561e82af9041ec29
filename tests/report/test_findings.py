"""What went wrong is found, and said first."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from cian.data.masks import read_mask, write_mask
from cian.evaluation.folders import object_iou
from cian.files import read_json, write_text
from cian.pipeline.context import Context
from cian.pipeline.stages import STAGES
from cian.report.findings import (
    class_findings,
    doubtful_predictions,
    expected_iou,
    unseeded_images,
    worst_predictions,
)
from tests.report.test_report import NAMES, make_run, render


def evaluate(context: Context) -> dict:
    next(stage for stage in STAGES if stage.name == "evaluate").run(context)
    return read_json(context.run.metrics_file)


def predict(context: Context, class_id: int, becomes: int) -> None:
    """Changes a class in all final masks."""
    for image_id in context.predict_table.ids:
        file = context.run.mask("predictions", image_id)
        mask = read_mask(file)
        write_mask(file, np.where(mask == class_id, becomes, mask).astype(np.uint8))


def write_statistics(context: Context, *labelled: int) -> None:
    """All classes are tags of 40 images; the seeds label each in as many as given."""
    rows = [f'"{name.replace(chr(34), chr(34) * 2)}",40,{n},0,0,0' for name, n in zip(NAMES, labelled, strict=True)]
    header = "class,images,labelled_images,labelled_pixels,share_of_labelled,share_of_image"
    write_text(context.run.path / "statistics.csv", "\n".join([header, *rows]) + "\n")


def test_all_is_well(tmp_path: Path) -> None:
    context = make_run(tmp_path)
    write_statistics(context, 40, 40, 40)
    assert class_findings(context, read_json(context.run.metrics_file)) == []
    _, page = render(context)
    assert "learned 3 classes" in page.text[""] and "What failed" not in page.text[""]


@pytest.mark.parametrize("masks", [True, False])
def test_a_class_that_no_mask_shows(tmp_path: Path, masks: bool) -> None:
    context = make_run(tmp_path, masks=masks)
    predict(context, 2, becomes=3)
    found = class_findings(context, evaluate(context))
    assert [(each.class_id, each.predicted, each.failed) for each in found] == [(2, False, True)]
    assert found[0].iou == (0 if masks else None)
    _, page = render(context)
    assert "learned 2 of 3 classes" in page.text[""]
    assert "no predicted mask shows it" in page.text[""] and NAMES[1] in page.text[""]


def test_a_class_with_few_seeds(tmp_path: Path) -> None:
    context = make_run(tmp_path)
    write_statistics(context, 0, 9, 10)  # none, less than a quarter, and a quarter
    found = class_findings(context, read_json(context.run.metrics_file))
    assert [(each.class_id, each.seeded, each.failed) for each in found] == [(1, 0, True), (2, 9, False)]
    _, page = render(context)
    assert "learned 2 of 3 classes" in page.text[""]
    assert "labelled by the seeds in 9 of 40 images" in page.text[""]


def test_failed_classes_are_named_at_the_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    context = make_run(tmp_path)
    predict(context, 2, becomes=0)
    evaluate(context)
    STAGES[-1].run(context)
    assert f"1 of 3 classes not learned: {NAMES[1]}. The report" in " ".join(capsys.readouterr().err.split())


def test_the_worst_images_come_first(tmp_path: Path) -> None:
    context = make_run(tmp_path)
    table = context.scored_table
    write_mask(context.run.mask("predictions", table.ids[4]), np.full((64, 97), 1 + table.tags(4)[0] % 3, np.uint8))
    worst = worst_predictions(context)
    assert [each.row for each in worst[:1]] == [4] and len(worst) == len(table)
    assert worst[0].value == 0 and worst[0].missed == table.tags(4).tolist()
    assert worst[0].invented == [1 + table.tags(4)[0] % 3]
    assert all(not each.missed and not each.invented and each.value > 50 for each in worst[1:])
    _, page = render(context)
    assert "The worst images" in page.text["images"] and "wrongly found" in page.text["images"]
    assert "In 1 of 6 scored images" in page.text[""]


def test_doubtful_images_without_true_masks(tmp_path: Path) -> None:
    context = make_run(tmp_path, masks=False)
    table = context.predict_table
    other = 1 + table.tags(3)[0] % 3  # not its tag
    write_mask(context.run.mask("predictions", table.ids[3]), np.full((64, 97), other, np.uint8))
    doubtful = doubtful_predictions(context)
    assert len(doubtful) == len(table)
    assert doubtful[0].row == 3 and doubtful[0].value == 0
    assert doubtful[0].missed == table.tags(3).tolist()
    _, page = render(context)
    assert "The most doubtful images" in page.text["images"] and "What failed" not in page.text[""]


def test_training_images_whose_seeds_lack_a_tag(tmp_path: Path) -> None:
    context = make_run(tmp_path)
    assert unseeded_images(context) == []
    image_id = context.seed_table.ids[1]
    write_mask(context.run.mask("seeds", image_id), np.zeros((64, 97), np.uint8))
    (found,) = unseeded_images(context)
    assert found.row == 1 and found.missed == context.seed_table.tags(1).tolist()
    _, page = render(context)
    assert "Training images whose seeds lack a tag 1 of 1" in page.text["images"]


def test_iou_of_objects() -> None:
    truth = np.zeros((10, 10), np.uint8)
    truth[:5] = 1
    truth[9] = 255
    mask = np.zeros((10, 10), np.uint8)
    mask[:4] = 1  # 40 of 50 px
    mask[8:] = 2  # 10 px wrong, 10 px ignored
    assert object_iou(mask, truth) == pytest.approx(100 * 40 / 60)
    assert object_iou(mask, np.zeros_like(truth)) is None
    whole = np.full((10, 10), 3, np.uint8)  # an image without background: a few pixels of it are a small mistake
    assert object_iou(np.where(np.arange(100).reshape(10, 10) < 2, 0, whole), whole) == pytest.approx(98)
    assert object_iou(mask[::2, ::2], mask[::2, ::2].repeat(2, 0).repeat(2, 1)) == 100  # a larger truth


def test_iou_as_a_network_expects_it() -> None:
    mask = np.array([[1, 1], [0, 255]], np.uint8)
    probabilities = torch.tensor([[[0.1, 0.4], [0.8, 0.5]], [[0.9, 0.6], [0.2, 0.5]]])  # (2, 2, 2)
    assert expected_iou(probabilities, mask) == pytest.approx(100 * (0.9 + 0.6) / (2 + 0.2 + 0.5))
    sure = torch.tensor([[[0.0, 0.0], [1.0, 1.0]], [[1.0, 1.0], [0.0, 0.0]]])
    assert expected_iou(sure, mask) == pytest.approx(100)
    assert expected_iou(probabilities, np.zeros((2, 2), np.uint8)) is None
