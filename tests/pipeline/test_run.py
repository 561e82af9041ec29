"""The whole pipeline on a tiny network: artefacts, resume, determinism, changed settings."""

from __future__ import annotations

import csv
import json
import os
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cian
from cian.config import load_config
from cian.data import known_files
from cian.data.masks import read_mask, write_mask
from cian.evaluation.folders import evaluate_folders
from cian.files import write_json
from cian.inference.folder import predict_folder
from cian.pipeline import run
from cian.pipeline.context import Context
from cian.pipeline.run import check_data
from cian.pipeline.stages.export import Export
from cian.runs.directory import Run
from cian.training import segmentation
from cian.training.device import make_accelerator
from tests.helpers import TINY, bit_for_bit, cli, draw_images, here, same, weights


@pytest.fixture(scope="module")
def finished(tmp_path_factory, request) -> Path:
    """One finished run, with masks and a held-out split; its data lies beside it."""
    root = tmp_path_factory.mktemp("finished")
    data = draw_images(root, count=16, masks=True)
    cian.run(
        data / "images",
        data / "tags.csv",
        root / "run",
        **TINY,
        **{"data.masks": str(data / "masks"), "data.classes": str(data / "classes.txt")},
        **{"data.val_fraction": 0.25, "compare": True},
    )
    return root / "run"


def test_artefacts(finished):
    for name in (
        "config.yaml",
        "data.csv",
        "metrics.json",
        "report.html",
        "model/config.json",
        "model/model.safetensors",
    ):
        assert (finished / name).stat().st_size > 0, name
    for stage in ("classify", "baseline", "train", "retrain"):
        assert (finished / stage / "model.safetensors").exists()
        lines = [json.loads(line) for line in (finished / stage / "metrics.jsonl").read_text().splitlines()]
        assert lines and all(np.isfinite(line["total"]) for line in lines)
        assert list((finished / stage / "tensorboard").iterdir())
        assert not list((finished / stage / "checkpoints").glob("*.pt"))
    assert (finished / "classify" / "cells.safetensors").exists()
    assert len(list((finished / "seeds").glob("*.png"))) == 12
    assert len(list((finished / "compare/seeds").glob("*.png"))) == 4
    assert len(list((finished / "relabel").glob("*.png"))) == 12
    for folder in ("predictions", "compare/without-crf", "compare/baseline", "compare/train", "compare/retrain"):
        assert len(list((finished / folder).glob("*.png"))) == 4, folder
    assert not list(finished.rglob(".cian-tmp-*"))


def test_masks_of_training_images_hold_only_their_tags(finished):
    data = finished.parent / "data"
    tags = dict(line.split(",") for line in (data / "tags.csv").read_text().splitlines()[1:])
    for folder in ("seeds", "relabel"):
        for file in (finished / folder).glob("*.png"):
            allowed = {0, 255, {"blue": 1, "red": 2}[tags[f"{file.stem}.png"]]}
            assert set(np.unique(read_mask(file))) <= allowed
            assert read_mask(file).shape == (40, 56)


def test_the_better_network_is_shipped(finished):
    """That whose masks have the best mIoU, with CRF, on the held-out images. The numbers are those of metrics.json."""
    choice = json.loads((finished / "compare/chosen.json").read_text())
    scores = json.loads((finished / "metrics.json").read_text())["stages"]
    titles = {"baseline": "without affinity", "train": "CIAN", "retrain": "CIAN, retrained"}
    miou = {name: scores[f"{title}, with CRF"]["val"]["miou"] for name, title in titles.items()}
    assert choice["miou"] == {titles[name]: pytest.approx(value, abs=0.006) for name, value in miou.items()}
    assert miou[choice["network"]] == max(miou.values()) == scores["final, with CRF"]["val"]["miou"]
    assert (choice["split"], choice["crf"]) == ("val", True)
    assert same(weights(finished, "model"), weights(finished, choice["network"]))


def test_a_network_without_affinity_can_be_shipped(finished, tmp_path):
    target = Run(Path(shutil.copytree(finished, tmp_path / "run")))
    choice = json.loads((target.path / "compare/chosen.json").read_text())
    write_json(target.path / "compare/chosen.json", {**choice, "network": "baseline"})
    config = load_config(target.config_file)
    context = Context(config, check_data(config, make_accelerator(config.runtime)), target)
    Export().run(context)
    assert same(weights(target.path, "model"), weights(target.path, "baseline"))
    assert cian.load(target.model).network.affinity is None


def test_scores(finished):
    metrics = json.loads((finished / "metrics.json").read_text())
    assert metrics["split"] == "val" and 0 <= metrics["miou"] <= 100
    assert set(metrics["stages"]) == {
        "seeds", "without affinity", "without affinity, with CRF", "CIAN", "CIAN, with CRF", "relabelled masks",
        "CIAN, retrained", "CIAN, retrained, with CRF", "final, with CRF",
    }  # fmt: skip
    again = cli(
        "evaluate", "--predictions", str(finished / "predictions"), "--masks", str(finished.parent / "data/masks"),
        "--classes", str(finished.parent / "data/classes.txt"), "--list", str(_val_list(finished)),
    )  # fmt: skip
    assert again.returncode == 0, again.stderr
    assert f"mIoU {metrics['miou']:.2f}" in again.stdout


def _val_list(run: Path) -> Path:
    file = run.parent / "val.txt"
    file.write_text("\n".join(path.stem for path in (run / "predictions").glob("*.png")))
    return file


def test_shipped_model_predicts_what_the_run_did(finished):
    segmenter = cian.load(finished / "model")
    assert segmenter.class_names == ("background", "blue", "red")
    for file in (finished / "predictions").glob("*.png"):
        mask = segmenter.predict(finished.parent / "data/images" / file.name).mask
        assert np.array_equal(mask, read_mask(file))


def test_predict_command(finished, tmp_path, monkeypatch, capsys):
    data = finished.parent / "data"
    args = ["--model", str(finished), "--images", str(data / "images"), "--out", str(tmp_path / "masks"), "--overlays"]
    assert here(monkeypatch, "predict", *args, "--tags", str(data / "tags.csv")) == 0
    assert len(list((tmp_path / "masks").glob("*.png"))) == 16
    assert len(list((tmp_path / "masks/overlays").glob("*.jpg"))) == 16
    capsys.readouterr()
    assert here(monkeypatch, "predict", *args) == 1 and "--overwrite" in capsys.readouterr().err


def test_finished_run_does_nothing_again(finished):
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*.safetensors")}
    before |= {path: path.stat().st_mtime_ns for path in finished.rglob("*.png")}
    cian.run(out=finished)
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_copied_data_is_the_same_data(finished, capsys):
    """As on another machine: the files are new, what is in them is not."""
    for file in (finished.parent / "data").rglob("*"):
        if file.is_file():
            file.touch()
    capsys.readouterr()
    cian.run(out=finished)
    assert "re-running" not in capsys.readouterr().err


def test_masks_of_held_out_images_change_scores_alone(finished, capsys):
    """A user who draws or corrects a mask does not train again."""
    with (finished / "data.csv").open(newline="") as file:
        mask = next(Path(row["mask"]) for row in csv.DictReader(file) if row["split"] == "val")
    before = mask.read_bytes()
    metrics = (finished / "metrics.json").read_text()
    try:
        for change in (lambda: write_mask(mask, np.flipud(read_mask(mask))), mask.unlink):
            change()
            capsys.readouterr()
            cian.run(out=finished)
            text = capsys.readouterr().err
            assert (finished / "metrics.json").read_text() != metrics
            for name in ("classify", "seed", "baseline", "train", "relabel", "retrain", "export", "predict"):
                assert f"{name}: up to date" in text
            assert "the masks changed" in " ".join(text.split())
    finally:
        mask.write_bytes(before)
        cian.run(out=finished)
    assert (finished / "metrics.json").read_text() == metrics


@bit_for_bit
def test_what_was_removed_is_made_again(finished, capsys):
    """And what is still there is kept."""
    removed = [
        finished / "predictions" / "000.png",
        finished / "relabel" / "001.png",
        finished / "train" / "model.safetensors",
        finished / "model" / "config.json",
    ]
    removed = [next(iter(sorted(path.parent.glob(f"*{path.suffix}")))) for path in removed]
    before = {path: path.read_bytes() for path in removed}
    kept = {p: p.stat().st_mtime_ns for p in finished.rglob("*") if p.suffix in (".png", ".safetensors")} | {
        finished / "model" / "config.json": 0
    }
    for path in removed:
        path.unlink()
    cian.run(out=finished)
    assert {path: path.read_bytes() for path in removed} == before
    remade = {p for p, time_ in kept.items() if p.stat().st_mtime_ns != time_}
    assert remade == {*removed, finished / "model" / "model.safetensors"}


def test_what_is_only_compared_is_made_again_too(finished):
    folder = finished / "compare"
    before = {path: path.read_bytes() for path in folder.rglob("*.png")}
    shutil.rmtree(folder)
    cian.run(out=finished)
    assert {path: path.read_bytes() for path in folder.rglob("*.png")} == before and len(before) > 8


def test_changed_setting_redoes_what_depends_on_it(finished, capsys):
    kept = [
        *finished.rglob("*.safetensors"),
        *(finished / "seeds").glob("*.png"),
        *(finished / "relabel").glob("*.png"),
    ]
    kept = [path for path in kept if "model" not in path.parts[-2]]
    before = {path: path.stat().st_mtime_ns for path in kept}
    predicted = {path: path.stat().st_mtime_ns for path in (finished / "predictions").glob("*.png")}
    try:
        cian.run(out=finished, **{"predict.crf.iterations": 2})
        assert {path: path.stat().st_mtime_ns for path in kept} == before
        assert all(path.stat().st_mtime_ns != time_ for path, time_ in predicted.items())
        said = " ".join(capsys.readouterr().err.split())
        assert "predict: re-running because predict.crf.iterations changed from 1 to 2" in said
    finally:
        cian.run(out=finished, **{"predict.crf.iterations": 1})


def test_the_loss_is_robust_after_a_share_of_the_training(drawn, tmp_path, monkeypatch):
    """Here from the second of two steps on, when the network is also trained again."""
    found: list[float] = []
    original = segmentation.cian_loss
    monkeypatch.setattr(segmentation, "cian_loss", lambda *a, **k: (found.append(k["robust"]), original(*a, **k))[1])
    data = drawn(count=8)
    cian.run(data / "images", data / "tags.csv", tmp_path / "run", until="retrain", **TINY)
    assert found == [0, 0.7, 0, 0.7]


def test_large_images_are_reduced_for_the_seeds(drawn, tmp_path, capsys):
    """The networks see them larger."""
    data = drawn(masks=True, size=(96, 160))
    made = cian.run(
        data / "images", data / "tags.csv", tmp_path / "run", until="predict",
        **{**TINY, "retrain.enabled": False, "max_side": 128, "seeds.max_side": 64, "data.masks": str(data / "masks")},
    )  # fmt: skip
    assert read_mask(made.path / "seeds/000.png").shape == (38, 64)
    assert read_mask(made.path / "predictions/000.png").shape == (96, 160)
    capsys.readouterr()
    cian.run(out=made.path, until="seed", max_side=192)  # which the seeds do not depend on
    assert "classify: up to date" in (said := capsys.readouterr().err) and "seed: up to date" in said


def test_another_order_of_the_classes_is_said(finished, capsys):
    classes = finished.parent / "turned.txt"
    classes.write_text("background\nred\nblue\n", encoding="utf-8")
    run = cian.run(out=finished.parent / "copy", config=finished / "config.yaml", until="classify")
    cian.run(out=run.path, until="classify", **{"data.classes": str(classes)})
    text = " ".join(capsys.readouterr().err.split())
    assert (
        "classify: re-running because the classes, or their order, changed" in text
        and "training images changed" not in text
    )


def test_predict_never_touches_the_images(finished, tmp_path):
    """A folder of masks within that of the images would be read as images; a mask would replace its image."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for file in sorted((finished.parent / "data/images").iterdir())[:2]:
        (photos / file.name).write_bytes(file.read_bytes())
    before = {file: file.read_bytes() for file in photos.iterdir()}
    first = next(iter(before))
    for images, out in ((photos, photos), (photos, photos / "masks"), (first, photos)):
        for overwrite in (False, True):
            with pytest.raises(cian.CianError, match="--out"):
                predict_folder(finished, images, out, overwrite=overwrite)
    assert {file: file.read_bytes() for file in photos.iterdir()} == before


def test_predict_at_another_size_is_not_done_before(finished, tmp_path):
    image = finished.parent / "data/images/000.png"
    assert predict_folder(finished, image, tmp_path / "masks").written == 1
    with pytest.raises(cian.CianError, match="--overwrite"):
        predict_folder(finished, image, tmp_path / "masks", settings={"max_side": 256})


def test_predict_finds_tags_however_the_name_is_composed(finished, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    image = (finished.parent / "data/images/000.png").read_bytes()
    (photos / unicodedata.normalize("NFD", "été.png")).write_bytes(image)
    for tag, class_id in (("blue", 1), ("red", 2)):
        tags = tmp_path / f"{tag}.csv"
        tags.write_text(unicodedata.normalize("NFC", f"image,tags\nété.png,{tag}\n"), encoding="utf-8")
        predict_folder(finished, photos, tmp_path / tag, tags, settings={"predict.crf.iterations": 0})
        (mask,) = (tmp_path / tag).glob("*.png")
        assert set(np.unique(read_mask(mask))) <= {0, class_id}


def test_predict_reads_tags_as_it_is_told_to(finished, tmp_path):
    """Another separator; and a name with brackets, which is no markup."""
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "a[b].png").write_bytes((finished.parent / "data/images/000.png").read_bytes())
    (tmp_path / "tags.csv").write_text("image,tags\na[b].png,blue|red\n")
    settings = {"data.separator": "|", "predict.crf.iterations": 0}
    assert predict_folder(finished, photos, tmp_path / "masks", tmp_path / "tags.csv", settings=settings).written == 1
    (photos / "c[d].png").write_bytes(b"")
    result = predict_folder(finished, photos, tmp_path / "other", settings=settings)
    assert result.written == 1 and [Path(problem.file).name for problem in result.unreadable] == ["c[d].png"]


def test_run_within_the_images_is_refused(drawn):
    data = drawn()
    with pytest.raises(cian.CianError, match="outside of it"):
        cian.run(data / "images", data / "tags.csv", data / "images" / "runs" / "first", **TINY)
    assert not (data / "images" / "runs").exists()


def test_what_a_run_writes_anew_is_not_its_input(finished):
    """Masks that were corrected in a run, or its seeds, would be removed before they are read."""
    for key, folder in (("data.masks", "predictions"), ("seeds.folder", "seeds"), ("seeds.background", "relabel")):
        before = sorted((finished / folder).rglob("*.png"))
        with pytest.raises(cian.CianError, match=rf"^{key} = .*{folder}: lies in .*{folder}, .*Copy it"):
            cian.run(out=finished, **{key: str(finished / folder)})
        assert before and sorted((finished / folder).rglob("*.png")) == before
    with pytest.raises(cian.CianError, match=r"^backbone\.weights = .*Copy it"):
        cian.run(out=finished, **{"backbone.weights": str(finished / "model/model.safetensors")})


def test_too_narrow_a_crf_is_found_before_the_classifier_trains(drawn, tmp_path):
    data = drawn()
    settings = {**TINY, "predict.crf.bilateral": (80, 0.05, 10)}
    with pytest.raises(cian.CianError, match=r"predict\.crf.*srgb in levels of 255"):
        cian.run(data / "images", data / "tags.csv", tmp_path / "run", **settings)
    assert not (tmp_path / "run" / "classify").exists()


def test_too_large_a_batch_is_found_before_the_classifier_trains(drawn, tmp_path):
    data = drawn()
    settings = {**TINY, "train.batch_size": 64}
    with pytest.raises(cian.CianError, match=r"or set train\.batch_size=12"):
        cian.run(data / "images", data / "tags.csv", tmp_path / "run", **settings)
    with pytest.raises(cian.CianError, match=r"too few for a batch of 64.*or set classify\.batch_size=12"):
        cian.run(data / "images", data / "tags.csv", tmp_path / "run", **{**TINY, "classify.batch_size": 64})
    assert not (tmp_path / "run" / "classify").exists()


def test_changed_label_files_are_noticed(drawn, tmp_path, capsys):
    data = drawn(masks=True)
    maps = tmp_path / "maps"
    shutil.copytree(data / "masks", maps)
    settings = {**TINY, "retrain.enabled": False, "affinity.mode": "none"}
    masks = {
        "data.masks": str(data / "masks"),
        "data.classes": str(data / "classes.txt"),
        "data.labels": str(data / "masks"),
    }
    for more in (masks, {"seeds.folder": str(maps)}):
        out = tmp_path / ("labels" if more is masks else "seeds")

        def once(more=more, out=out) -> str:
            cian.run(data / "images", data / "tags.csv", out, until="train", **settings, **more)
            return capsys.readouterr().err

        once()
        assert "train: up to date" in once()
        changed = (data / "masks" if more is masks else maps) / "000.png"
        write_mask(changed, np.flipud(read_mask(changed)))
        text = once()
        assert "train: re-running" in text and "train: up to date" not in text


@bit_for_bit
def test_upper_bound_starts_from_its_own_classifier(drawn, tmp_path):
    """Not from one that an earlier run with other settings left in the folder."""
    data = drawn(masks=True)
    masks = {
        "data.masks": str(data / "masks"),
        "data.classes": str(data / "classes.txt"),
        "data.labels": str(data / "masks"),
    }
    settings = {**TINY, **masks, "retrain.enabled": False, "affinity.mode": "none"}
    args = (data / "images", data / "tags.csv")
    cian.run(*args, tmp_path / "fresh", until="train", **settings)
    cian.run(*args, tmp_path / "used", until="classify", **{**settings, "seed": 5})
    cian.run(*args, tmp_path / "used", until="train", **settings)
    assert same(weights(tmp_path / "fresh", "train"), weights(tmp_path / "used", "train"))
    cian.run(*args, tmp_path / "backbone", until="train", **{**settings, "train.start": "backbone"})
    assert not (tmp_path / "backbone" / "classify").exists()
    assert not same(weights(tmp_path / "fresh", "train"), weights(tmp_path / "backbone", "train"))


def test_other_precision_in_the_same_python_process(drawn, tmp_path):
    data = drawn()
    for precision in ("fp32", "bf16"):
        cian.run(
            data / "images", data / "tags.csv", tmp_path / precision, until="classify", **TINY,
            **{"runtime.precision": precision},
        )  # fmt: skip
    assert not same(weights(tmp_path / "fp32", "classify"), weights(tmp_path / "bf16", "classify"))


def test_batches_that_make_no_whole_accumulation_count_too(drawn, tmp_path):
    data = drawn()
    for lr in (0.1, 0.2):
        settings = {**TINY, "runtime.accumulate": 50, "classify.optimizer.lr": lr}
        cian.run(data / "images", data / "tags.csv", tmp_path / str(lr), until="classify", **settings)
    assert not same(weights(tmp_path / "0.1", "classify"), weights(tmp_path / "0.2", "classify"))


@pytest.mark.parametrize("workers", [0, 2])
def test_image_that_breaks_while_training_is_one_message(drawn, tmp_path, workers, monkeypatch):
    data = drawn()
    check = run.check_data

    def then_break(*args):
        table = check(*args)
        for file in (data / "images").iterdir():
            file.write_bytes(b"no image")
        return table

    monkeypatch.setattr(run, "check_data", then_break)
    with pytest.raises(cian.CianError) as caught:
        cian.run(data / "images", data / "tags.csv", tmp_path / "run", **{**TINY, "runtime.workers": workers})
    assert str(caught.value).startswith(str(data / "images")) and "Traceback" not in str(caught.value)


@bit_for_bit
def test_same_seed_same_weights_other_seed_others(drawn, tmp_path):
    data = drawn()
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        cian.run(data / "images", data / "tags.csv", tmp_path / name, until="train", **TINY, seed=seed)
    a, b, c = (weights(tmp_path / name, "train") for name in "abc")
    assert same(a, b) and not same(a, c)


@bit_for_bit
def test_workers_do_not_change_the_result(drawn, tmp_path):
    data = drawn()
    for workers in (0, 2):
        settings = {**TINY, "runtime.workers": workers}
        cian.run(data / "images", data / "tags.csv", tmp_path / str(workers), until="train", **settings)
    assert same(weights(tmp_path / "0", "train"), weights(tmp_path / "2", "train"))


def test_classes_of_ones_own_from_folders(drawn, tmp_path):
    """A folder per class, in another language, without masks."""
    data = drawn()
    folder = tmp_path / "кадры"
    for i, file in enumerate(sorted((data / "images").iterdir())):
        target = folder / ("лиса" if i % 2 else "барсук") / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.read_bytes())
    run = cian.run(folder, out=tmp_path / "run", **TINY)
    assert cian.load(run.model).class_names == ("background", "барсук", "лиса")
    assert len(list((run.path / "predictions").rglob("*.png"))) == 12
    assert json.loads(run.metrics_file.read_text())["miou"] is None
    assert "лиса" in run.report_file.read_text(encoding="utf-8")


def test_full_supervision_makes_no_seeds(drawn, tmp_path):
    data = drawn(masks=True)
    settings = {**TINY, "data.labels": str(data / "masks"), "affinity.mode": "none", "retrain.enabled": False}
    run = cian.run(
        data / "images", data / "tags.csv", tmp_path / "run", **settings,
        **{"data.masks": str(data / "masks"), "data.classes": str(data / "classes.txt")},
    )  # fmt: skip
    assert {"classify", "train", "report"} <= set(run.records())
    assert not {"seed", "seed-held-out"} & set(run.records())


def test_ready_made_seeds(drawn, tmp_path, finished):
    data = drawn(masks=True)
    settings = {**TINY, "seeds.folder": str(data / "masks"), "retrain.enabled": False}
    run = cian.run(data / "images", data / "tags.csv", tmp_path / "run", **settings)
    assert "classify" not in run.records()
    assert len(list((run.path / "seeds").glob("*.png"))) == 12


def test_files_of_the_settings_may_be_named_from_anywhere(drawn, tmp_path, monkeypatch, capsys):
    """Seeds named by a relative path hold from another working directory, and after the folder was moved."""
    data = drawn(masks=True)
    monkeypatch.chdir(data)
    settings = {**TINY, "seeds.folder": "masks", "backbone.weights": "random"}
    run = cian.run("images", "tags.csv", tmp_path / "run", until="seed", **settings)
    monkeypatch.chdir(tmp_path)
    cian.run(out=run.path, until="seed")
    shutil.copytree(data / "masks", tmp_path / "moved")
    cian.run(out=run.path, until="seed", **{"seeds.folder": "moved"})
    assert capsys.readouterr().err.count("seed: up to date") == 2
    (tmp_path / "moved" / "000.png").write_bytes((data / "masks" / "001.png").read_bytes())
    cian.run(out=run.path, until="seed")
    assert "seed: re-running because the files of seeds.folder changed" in capsys.readouterr().err


def test_ready_made_seeds_are_checked(drawn, tmp_path):
    """Before any work whether they are there; before they are taken whether they are of their images."""
    data = drawn(masks=True)
    settings = {**TINY, "seeds.folder": str(data / "masks")}
    mask = data / "masks" / "003.png"
    image = data / "images" / "003.png"
    seeds = read_mask(mask)
    height, width = seeds.shape[0], seeds.shape[1] // 2
    Image.fromarray(np.zeros((height, width, 3), np.uint8)).save(image)
    with pytest.raises(cian.CianError, match=rf"003\.png: has .* its image {width} x {height}: other proportions"):
        cian.run(data / "images", data / "tags.csv", tmp_path / "run", **settings)
    mask.unlink()
    with pytest.raises(cian.CianError, match=r"003\.png: no such seed map"):
        cian.run(data / "images", data / "tags.csv", tmp_path / "other", **settings)
    assert not (tmp_path / "other" / "seeds").exists()


def test_check_finds_what_run_would_refuse(drawn, monkeypatch, capsys):
    data = drawn()
    args = ["check", "--images", data / "images", "--tags", data / "tags.csv", "--set", "predict.splits=valid"]
    assert here(monkeypatch, *args) == 1
    assert "predict.splits = valid: no such split. The splits are train" in capsys.readouterr().err


def test_a_class_of_the_masks_alone(drawn, tmp_path):
    data = drawn(masks=True)
    classes = data / "classes.txt"
    classes.write_text(classes.read_text().rstrip() + "\nyak\n")
    given = {"data.masks": str(data / "masks"), "data.classes": str(classes), "data.min_images": 0}
    run = cian.run(data / "images", data / "tags.csv", tmp_path / "run", **{**TINY, "retrain.enabled": False}, **given)
    assert json.loads(run.metrics_file.read_text())["iou"]["yak"] in (None, 0)


def test_scores_masks_however_their_names_are_composed(tmp_path):
    for folder, form in (("predictions", "NFC"), ("masks", "NFD")):
        write_mask(tmp_path / folder / f"{unicodedata.normalize(form, 'Bär')}.png", np.eye(8, dtype=np.uint8))
    (tmp_path / "classes.txt").write_text("bear\n")
    assert evaluate_folders(tmp_path / "predictions", tmp_path / "masks", tmp_path / "classes.txt")["miou"] == 100


def test_a_second_start_reads_no_unchanged_file(drawn, tmp_path, monkeypatch):
    """Neither images, nor masks, nor saliency maps; and a changed image is noticed."""
    data = drawn(masks=True)
    shutil.copytree(data / "masks", data / "saliency")
    for file in data.rglob("*.png"):
        os.utime(file, (1_600_000_000, 1_600_000_000))
    settings = {
        **TINY,
        "retrain.enabled": False,
        "seeds.background": str(data / "saliency"),
        "data.masks": str(data / "masks"),
        "data.classes": str(data / "classes.txt"),
    }
    for _ in range(2):
        cian.run(data / "images", data / "tags.csv", tmp_path / "run", until="seed", **settings)
    read: list[str] = []
    original = known_files._fingerprint
    monkeypatch.setattr(known_files, "_fingerprint", lambda path: (read.append(path), original(path))[1])
    cian.run(out=tmp_path / "run", until="seed")
    assert not [path for path in read if path.startswith(str(data))]
    image = data / "images" / "003.png"
    Image.fromarray(np.flipud(np.asarray(Image.open(image)))).save(image)
    before = (tmp_path / "run" / "classify" / "model.safetensors").stat().st_mtime_ns
    cian.run(out=tmp_path / "run", until="seed")
    assert {path for path in read if path.startswith(str(data))} == {str(image)}
    assert (tmp_path / "run" / "classify" / "model.safetensors").stat().st_mtime_ns != before
