"""`cian ablate`: what is shared, what differs, and what the table says."""

from __future__ import annotations

import errno
import json
import os
import shutil
import statistics
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from cian.cli import app
from cian.config import Config, load_config
from cian.errors import CianError
from cian.pipeline import ablation
from cian.runs.directory import Record, Run
from tests.helpers import TINY, draw_images, options


def settings(data: Path, **more) -> Config:
    own = {"data.images": data / "images", "data.tags": data / "tags.csv", "data.val_fraction": 0.25}
    if (data / "masks").exists():
        own |= {"data.masks": data / "masks", "data.classes": data / "classes.txt"}
    return load_config(None, {**TINY, **{key: str(value) for key, value in own.items()}, **more})


@pytest.fixture(scope="module")
def ablated(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("ablated")
    data = draw_images(root, count=16, masks=True)
    ablation.ablate(settings(data), root / "out", 2, ["baseline", "cosine", "retraining", "full-supervision"])
    return root


def test_a_variant_differs_in_what_it_is_named_after_alone():
    config = load_config(None, {"train.batch_size": 16, "seeds.background": "u2netp.onnx"})
    found = {variant.name: variant for variant in ablation.variants(config)}
    assert list(found) == [
        "completion", "baseline", "self-affinity", "cross-affinity", "retraining", "group-size-3", "group-size-4",
        "merge-mean", "cosine", "unpooled", "without-self-message", "without-tag-filter", "without-saliency",
        "full-supervision",
    ]  # fmt: skip
    assert found["group-size-3"].settings["train.batch_size"] == 15
    other = load_config(None, {"affinity.similarity": "cosine", "affinity.pool": False})
    assert {"dot", "pooled"} <= {variant.name for variant in ablation.variants(other)}
    assert "with-saliency" in {variant.name for variant in ablation.variants(other, "maps")}
    for variant in found.values():
        load_config(None, variant.settings)  # every setting exists


def test_the_runs_of_a_seed_share_classifier_and_seed_maps(ablated):
    for seed in (0, 1):
        folder = ablated / "out" / f"seed-{seed}"
        names = {path.name for path in folder.iterdir()}
        assert names == {"completion", "baseline", "cosine", "retraining", "full-supervision"}
        seeds = [min((folder / "completion" / name).glob("*.png")).name for name in ("seeds", "compare/seeds")]
        for file in ("classify/model.safetensors", f"seeds/{seeds[0]}", f"compare/seeds/{seeds[1]}"):
            first = (folder / "completion" / file).read_bytes()
            assert all((folder / name / file).read_bytes() == first for name in ("baseline", "cosine", "retraining"))
        assert (folder / "retraining/train/model.safetensors").read_bytes() == (
            folder / "completion/train/model.safetensors"
        ).read_bytes()
        assert json.loads((folder / "cosine/stages.json").read_text())["seed"]["seconds"] >= 0
    other = (ablated / "out/seed-1/completion/train/model.safetensors").read_bytes()
    assert other != (ablated / "out/seed-0/completion/train/model.safetensors").read_bytes()


def test_table_and_plot(ablated):
    out = ablated / "out"
    result = json.loads((out / "ablation.json").read_text())
    assert list(result["variants"]) == ["completion", "baseline", "retraining", "cosine", "full-supervision"]

    def score(name: str, seed: int, stage: str) -> float:
        return json.loads((out / f"seed-{seed}/{name}/metrics.json").read_text())["stages"][stage]["val"]["miou"]

    plain = [score("cosine", seed, "CIAN") for seed in (0, 1)]
    crf = [score("cosine", seed, "final, with CRF") for seed in (0, 1)]
    gains = [value - score("baseline", seed, "without affinity") for seed, value in enumerate(plain)]
    row = next(line for line in (out / "ablation.md").read_text().splitlines() if line.startswith("| cosine"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[1] == "2"
    assert cells[2] == f"{statistics.mean(plain):.2f} ± {statistics.stdev(plain):.2f}"
    assert cells[3] == f"{statistics.mean(gains):+.2f} ± {statistics.stdev(gains):.2f}"
    assert cells[4] == f"{statistics.mean(crf):.2f} ± {statistics.stdev(crf):.2f}"
    with Image.open(out / "ablation.png") as image:
        assert image.size[0] > 800 and len(set(image.convert("L").tobytes())) > 50


def test_what_is_done_is_not_done_again(ablated):
    out = ablated / "out"
    before = {path: path.stat().st_mtime_ns for path in out.rglob("model.safetensors")}
    again = CliRunner().invoke(
        app,
        ["ablate", *options(ablated / "data", out, **{"data.val_fraction": 0.25}), "--repeat", "1", "--only", "cosine"],
    )
    assert again.exit_code == 0, again.output
    assert "| cosine | 1 |" in again.output
    assert "| retraining | 1 |" in again.output  # it is done, if not asked for
    assert {path: path.stat().st_mtime_ns for path in out.rglob("model.safetensors")} == before


def test_what_another_process_finishes_meanwhile_is_in_the_table(ablated, monkeypatch):
    out, config = ablated / "out", settings(ablated / "data")
    (out / "seed-0/cosine").rename(out / "elsewhere")
    run = ablation._run

    def beside(config, out, seed, variant, accelerator, table):
        if (out / "elsewhere").exists():
            (out / "elsewhere").rename(out / "seed-0/cosine")
        return run(config, out, seed, variant, accelerator, table)

    monkeypatch.setattr(ablation, "_run", beside)
    result = ablation.ablate(config, out, 1, ["baseline"])
    assert set(result["variants"]) == {"completion", "baseline", "cosine", "retraining", "full-supervision"}
    assert "| cosine | 1 |" in (out / "ablation.md").read_text()


def test_errors_come_before_any_work(drawn, tmp_path):
    config = settings(drawn(masks=True))
    with pytest.raises(CianError, match=r"--only cosinus: no such variant.*cosine"):
        ablation.ablate(config, tmp_path / "out", only=["cosinus"])
    with pytest.raises(CianError, match=r"No held-out image has a mask.*--masks"):
        ablation.ablate(settings(drawn(name="bare")), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_compared_is_said_before_any_work(drawn, tmp_path):
    data = drawn(masks=True)
    with pytest.raises(CianError, match=r"typo\.onnx: no such"):
        ablation.ablate(settings(data), tmp_path / "out", 1, saliency="typo.onnx")
    with pytest.raises(CianError, match="is already set"):
        ablation.ablate(settings(data, **{"seeds.folder": str(data / "masks")}), tmp_path / "out", 1, saliency="maps")
    with pytest.raises(CianError, match=r"^group-size-4: .*too few"):  # the others would have run for hours
        many = drawn(name="many", count=16, masks=True)
        ablation.ablate(settings(many, **{"train.batch_size": 12}), tmp_path / "out", 1, only=["group-size-4"])
    for file in sorted((data / "masks").iterdir())[1:]:
        file.unlink()
    with pytest.raises(CianError, match="in one of the random seeds"):  # each draws other held-out images
        ablation.ablate(settings(data), tmp_path / "out", 5)
    assert not (tmp_path / "out").exists()


def test_take_over_replaces_what_was_made_otherwise(tmp_path):
    source, target = Run(tmp_path / "source"), Run(tmp_path / "target")
    for run, text in ((source, "new"), (target, "old")):
        (run.path / "seeds").mkdir(parents=True)
        (run.path / "stages.json").write_text("{}")
        (run.path / "seeds/a.png").write_text(text)
        (run.path / "counts.csv").write_text(text)
        run.record("seed", Record({"made": text}, True))
    outputs = {"seed": ("seeds", "counts.csv")}  # a folder and a file
    target.take_over(source, outputs)
    assert (target.path / "seeds/a.png").read_text() == (target.path / "counts.csv").read_text() == "new"
    assert target.records()["seed"].inputs == {"made": "new"}
    (target.path / "seeds/a.png").write_text("the same settings: stays")
    target.take_over(source, outputs)
    assert (target.path / "seeds/a.png").read_text() == "the same settings: stays"


def test_take_over_leaves_a_run_that_another_process_works_on(tmp_path):
    source, target = Run(tmp_path / "source"), Run(tmp_path / "target")
    for run in (source, target):
        (run.path / "seeds").mkdir(parents=True)
        (run.path / "stages.json").write_text("{}")
        (run.path / "seeds/a.png").write_text(run.path.name)
    source.record("seed", Record({}, True))
    with target.locked(), pytest.raises(CianError, match="another process works on this run"):
        target.take_over(source, {"seed": ("seeds",)})
    assert (target.path / "seeds/a.png").read_text() == "target"


def test_files_that_cannot_be_copied_are_one_message(tmp_path, monkeypatch):
    source, target = Run(tmp_path / "source"), Run(tmp_path / "target")
    (source.path / "seeds").mkdir(parents=True)
    (source.path / "stages.json").write_text("{}")
    (source.path / "seeds/a.png").write_text("a")
    source.record("seed", Record({}, True))

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shutil, "_fastcopy_sendfile", full)
    with pytest.raises(CianError, match=r"target/seeds: cannot be copied from .*source/seeds \(.*No space left"):
        target.take_over(source, {"seed": ("seeds",)})
    assert "seed" not in target.records()
