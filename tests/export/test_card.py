"""The model's card, and the Hugging Face hub."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from PIL import Image

from cian import CianError, Segmenter, load
from cian.config import dump_config
from cian.data.masks import write_mask
from cian.files import write_csv, write_json, write_text
from tests.helpers import draw_images


def make_run(root: Path, segmenter: Segmenter, miou: float, weights: str = "imagenet") -> Path:
    """What the card reads of a finished run: settings, scores, statistics, predictions and the model."""
    if not (root / "data").exists():
        data = draw_images(root, masks=True)
        (data / "tags.csv").write_text((data / "tags.csv").read_text().replace("blue", "Katze").replace("red", "犬"))
        (data / "classes.txt").write_text("background\nKatze\n犬\n", encoding="utf-8")
        for split, rows in (("train", range(8)), ("val", range(8, 12))):
            (data / f"{split}.txt").write_text("".join(f"{i:03d}\n" for i in rows))
    data, run = root / "data", root / f"run-{miou}"
    tree = dump_config(segmenter.config)
    tree["backbone"]["weights"] = weights
    tree["data"] |= {"images": str(data / "images"), "tags": str(data / "tags.csv"), "masks": str(data / "masks")}
    tree["data"] |= {"classes": str(data / "classes.txt")}
    tree["data"]["splits"] = {split: str(data / f"{split}.txt") for split in ("train", "val")}
    write_text(run / "config.yaml", yaml.safe_dump({**tree, "versions": {}}))
    write_json(run / "stages.json", {})
    write_json(run / "metrics.json", {"split": "val", "miou": miou, "iou": {"background": 90.0, "Katze": 12.5}})
    header = ["class", "images", "labelled_images"]
    write_csv(run / "statistics.csv", [header, ["background", 8, 8], ["Katze", 4, 3], ["犬", 4, 4]])
    for i in range(8, 12):
        write_mask(run / "predictions" / f"{i:03d}.png", np.full((40, 56), i % 3, np.uint8))
    segmenter.save(run / "model")
    return run


def test_the_card_tells_what_the_run_knows(segmenter, tmp_path):
    run = make_run(tmp_path, segmenter, 40.0)
    loaded = load(run, "cpu")
    out = tmp_path / "out"
    loaded.save_pretrained(out, failures=2)
    card = (out / "README.md").read_text(encoding="utf-8")
    front = yaml.safe_load(card.split("---")[1])
    assert front["library_name"] == "cian" and front["pipeline_tag"] == "image-segmentation"
    assert "8 training images, 0 of them with label maps; 4 held-out images" in card
    assert "| Katze | 4 | 3 | 12.5 |" in card and "| 犬 | 4 | 4 | – |" in card
    assert "mIoU on the 4 images with masks of `val`: 40.0 %." in card
    assert "below 25 %: Katze (12 %)" in card
    assert "test_efficientnet" in card and "licence" in card
    shown = re.findall(r"!\[[^]]*\]\((.*)\)", card)
    assert len(shown) == 2 and all(Image.open(out / name).width > 150 for name in shown)
    assert str(tmp_path) not in card, "no path of this machine"


def test_the_spread_over_runs(segmenter, tmp_path):
    runs = [make_run(tmp_path, segmenter, miou) for miou in (40.0, 42.0, 44.0)]
    loaded = load(runs[0], "cpu")
    loaded.runs += tuple(runs[1:])
    loaded.save_pretrained(tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "42.0 ± 2.0 % over 3 runs with other random seeds; this model: 40.0 %" in card


@pytest.mark.parametrize(
    ("weights", "words"),
    [("imagenet", "weights trained on ImageNet"), ("random", "random weights"), ("/home/me/w.safetensors", "`w.saf")],
)
def test_the_card_says_where_the_weights_come_from(segmenter, tmp_path, weights, words):
    load(make_run(tmp_path, segmenter, 40.0, weights), "cpu").save_pretrained(tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert words in card and "/home" not in card


def test_saved_and_loaded_again(segmenter, photo, tmp_path):
    """The folder holds nothing but the model and its card, and an earlier card is replaced."""
    (tmp_path / "failures").mkdir()
    (tmp_path / "failures" / "9.jpg").touch()
    (tmp_path / "README.md").write_text("of another model")
    segmenter.save_pretrained(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "Semantic segmentation: Katze, 犬" in card and "another model" not in card and "not known" in card
    again = Segmenter.from_pretrained(tmp_path, "cpu")
    np.testing.assert_array_equal(again.predict(photo).mask, segmenter.predict(photo).mask)
    assert again.runs == ()


def test_runs_that_do_not_fit_are_refused(segmenter, tmp_path):
    run = make_run(tmp_path, segmenter, 40.0)
    other = Segmenter(segmenter.network, segmenter.config, ("background", "a", "b"))
    other.runs = (run,)
    with pytest.raises(CianError, match="has other classes than the model"):
        other.save_pretrained(tmp_path / "out")
    loaded = load(run, "cpu")
    loaded.runs += (make_run(tmp_path, segmenter, 42.0),)
    write_csv(loaded.runs[1] / "statistics.csv", [["class", "images", "labelled_images"], ["background", 8, 8]])
    (tmp_path / "out" / "failures").mkdir(parents=True)
    with pytest.raises(CianError, match=r"has other classes than the model\. Give runs that differ by their seed"):
        loaded.save_pretrained(tmp_path / "out")
    assert (tmp_path / "out" / "failures").is_dir(), "nothing is removed for a card that is not written"
    (run / "metrics.json").unlink()
    with pytest.raises(CianError, match="is no finished run"):
        load(run, "cpu").save_pretrained(tmp_path / "out")


def test_push_uploads_the_model_and_its_card(segmenter, tmp_path, monkeypatch):
    """To the hub's API, of which this is a stand-in."""
    calls = {}

    class Api:
        def __init__(self, token: str | None):
            calls["token"] = token

        def create_repo(self, repo_id: str, private: bool | None, exist_ok: bool) -> SimpleNamespace:
            calls["repo"] = (repo_id, private, exist_ok)
            return SimpleNamespace(repo_id=f"me/{repo_id}")

        def upload_folder(self, repo_id: str, folder_path: str, **options: str) -> SimpleNamespace:
            calls["files"] = sorted(file.name for file in Path(folder_path).iterdir())
            calls["classes"] = json.loads((Path(folder_path) / "config.json").read_text(encoding="utf-8"))["classes"]
            return SimpleNamespace(commit_url=f"https://hub/{repo_id}")

    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    assert segmenter.push_to_hub("foxes", private=True, token="t") == "https://hub/me/foxes"
    assert calls["token"] == "t" and calls["repo"] == ("foxes", True, True)
    assert calls["files"] == ["README.md", "config.json", "model.safetensors"]
    assert calls["classes"] == list(segmenter.class_names)
