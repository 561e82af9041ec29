from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from cian import CianError, load_config
from cian.config import Config, all_settings, changed, choices, dump_config, flatten, parse_assignment
from cian.config.describe import annotation
from cian.config.earlier_names import FORMER
from cian.config.settings import GROUPS


def test_an_error_names_where_the_value_came_from(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("data:\ntrain: {epochs: 0}\n")
    with pytest.raises(CianError) as caught:
        load_config(file, {"train.epohcs": 4, "data.images": "photos"})
    text = str(caught.value)
    assert f"{file}: train.epochs = 0" in text and "settings: train.epohcs: unknown" in text and "data" not in text


def test_overrides_win_over_the_file(tmp_path):
    file = tmp_path / "settings.yaml"
    file.write_text("train: {epochs: 3, batch_size: 4}\nseed: 7\n", encoding="utf-8")
    config = load_config(file, {"train.epochs": 5})
    assert (config.train.epochs, config.train.batch_size, config.seed) == (5, 4, 7)


def test_changed_replaces_only_the_given_settings():
    given = {"train.epochs": 5, "seeds.crf.iterations": 3, "data.images": "photos", "data.splits": {"train": "a.txt"}}
    config = load_config(None, given)
    other = changed(config, {"seeds": {"margin": 0.2}, "data.splits": {"val": "b.txt"}})
    assert other == load_config(None, {**given, "seeds.margin": 0.2, "data.splits": {"val": "b.txt"}})
    assert changed(config, {}) == config
    with pytest.raises(CianError, match=r"train\.epohcs: unknown setting\. Did you mean train\.epochs"):
        changed(config, {"train.epohcs": 4})
    with pytest.raises(CianError, match=r"train\.epochs = 0"):
        changed(config, {"train.epochs": 0})


def test_a_section_given_in_part_keeps_the_defaults_of_its_place(tmp_path):
    config = load_config(None, {"classify.optimizer.lr": 0.02, "classify.augment.crop": 161})
    assert (config.classify.optimizer.name, config.classify.optimizer.lr) == ("sgd", 0.02)
    assert config.classify.augment.scales == Config().classify.augment.scales
    file = tmp_path / "settings.yaml"
    file.write_text("classify: {optimizer: {weight_decay: 0}}\n", encoding="utf-8")
    assert load_config(file).classify.optimizer == Config().classify.optimizer.model_copy(update={"weight_decay": 0})


def test_dump_can_be_loaded_again(tmp_path):
    config = load_config(None, {"train.epochs": 5, "data.splits.train": "a.txt", "predict.scales": [0.5]})
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump({**dump_config(config), "versions": {"cian": "0"}}), encoding="utf-8")
    assert load_config(file) == config


def test_all_mistakes_at_once_with_their_cure():
    with pytest.raises(CianError) as error:
        load_config(None, {"train.epohs": 5, "seed": -1, "affinity.merge": "sum"})
    text = str(error.value)
    assert "Did you mean train.epochs?" in text
    assert "seed = -1" in text and "affinity.merge = 'sum'" in text
    with pytest.raises(CianError, match="batch_size 16 is not a multiple of group_size 3"):
        load_config(None, {"train.group_size": 3})


@pytest.mark.parametrize(
    ("text", "message"),
    [("[1, 2]", "key: value"), ("a: [", "not a YAML file"), (b"\xff\xfe\x00", "not a YAML file")],
)
def test_broken_file(tmp_path, text, message):
    file = tmp_path / "broken.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(CianError, match=message):
        load_config(file)


def test_missing_file(tmp_path):
    with pytest.raises(CianError, match="Give a readable YAML file"):
        load_config(tmp_path / "none.yaml")


def test_value_where_a_section_is():
    with pytest.raises(CianError, match="not a section"):
        load_config(None, {"seed": 1, "seed.x": 1})


def test_assignments():
    assert parse_assignment("train.epochs=4") == ("train.epochs", 4)
    assert parse_assignment("predict.scales=[0.5, 1]") == ("predict.scales", [0.5, 1])
    assert parse_assignment("retrain.enabled=false") == ("retrain.enabled", False)
    assert parse_assignment("data.separator=|") == ("data.separator", "|")  # a sign of YAML's
    assert parse_assignment("data.classes=") == ("data.classes", None)
    assert parse_assignment("data.classes=null") == ("data.classes", None)
    assert parse_assignment("data.images=2012") == ("data.images", "2012")  # texts need no quotes
    assert parse_assignment("data.separator=,") == ("data.separator", ",")
    assert parse_assignment("data.separator='\t'") == ("data.separator", "\t")
    assert parse_assignment("data.separator= ") == ("data.separator", " ")
    assert parse_assignment("data.separator=\t") == ("data.separator", "\t")
    assert parse_assignment("data.split_column= ") == ("data.split_column", None)
    assert parse_assignment("affinity.mode=off") == ("affinity.mode", "off")
    assert parse_assignment("data.splits.train=1") == ("data.splits.train", "1")
    assert parse_assignment("data.masks=[a, b]") == ("data.masks", ["a", "b"])
    for text in ("train.epochs", "=4", "a=["):
        with pytest.raises(CianError, match="--set"):
            parse_assignment(text)


def test_lists_may_be_one_value_or_have_commas():
    texts = ("predict.splits=train", "predict.scales=0.5", "seeds.scales=1,1.5", "predict.crf.bilateral=40,5,10")
    config = load_config(None, dict(map(parse_assignment, texts)))
    assert (config.predict.splits, config.predict.scales, config.seeds.scales) == (("train",), (0.5,), (1, 1.5))
    assert config.predict.crf.bilateral == (40, 5, 10)
    assert load_config(None, dict([parse_assignment("predict.splits=train,val")])).predict.splits == ("train", "val")
    with pytest.raises(CianError, match=r"predict\.scales"):
        load_config(None, dict([parse_assignment("predict.scales=a,b")]))


def test_choices_are_known():
    assert choices("affinity.mode") == ("none", "self", "cross") and choices("train.epochs") == choices("x.y") == ()


def test_every_setting_is_described():
    found = {each.key: each for each in all_settings()}
    assert set(found) == set(flatten(dump_config(Config()))) | {"data.splits"}
    assert found["classify.optimizer.name"].default == "sgd"  # the default of this place, not of the section's type
    for each in found.values():
        assert each.group in GROUPS
        assert each.text[0].isupper() and each.text.endswith("."), each.key
        assert bool(each.when) == (each.group == "main"), each.key
    assert 8 <= sum(each.group == "main" for each in found.values()) <= 12


def test_the_default_can_be_typed():
    typed = [f"{each.key}={each.value}" for each in all_settings() if each.value]
    assert load_config(None, dict(map(parse_assignment, typed))) == Config()


def test_former_settings_in_a_file_are_understood_with_a_note(tmp_path, capsys):
    file = tmp_path / "config.yaml"
    file.write_text("seeds: {saliency_below: 0.1, raised_over: 0.3, margin: 0.2}\ntrain: {balanced: true}\n")
    config = load_config(file)
    assert (config.seeds.salient_below, config.seeds.margin, config.train.balanced) == (0.1, 0.2, "all")
    notes = " ".join(capsys.readouterr().err.split())
    assert "seeds.raised_over is ignored. Use seeds.foreground" in notes
    assert "seeds.saliency_below is renamed. It is called seeds.salient_below now" in notes


def test_train_labels_of_earlier_versions_become_data_labels(tmp_path, capsys):
    def load(text: str) -> Config:
        file = tmp_path / "config.yaml"
        file.write_text(text, encoding="utf-8")
        return load_config(file)

    assert load("train: {labels: seeds}") == Config() and capsys.readouterr().err == ""
    assert load("{train: {labels: masks}, data: {masks: m}}").data.labels == Path("m")
    assert "train.labels = masks is now data.labels" in " ".join(capsys.readouterr().err.split())
    assert load("{train: {labels: masks}, data: {masks: m, labels: other}}").data.labels == Path("other")
    with pytest.raises(CianError, match=r"data\.masks is not set\. Use data\.labels"):
        load("train: {labels: masks}")


@pytest.mark.parametrize("key", FORMER)
def test_former_settings_are_refused_with_what_replaces_them(key):
    with pytest.raises(CianError, match=re.escape(f"setting {key}: no longer exists. {FORMER[key].says}")):
        load_config(None, {key: 1})
    assert annotation(key) is None
    for name in re.findall(r"[a-z]+\.[a-z_.]+[a-z]", FORMER[key].says):
        assert annotation(name) is not None, name


def test_import_and_help_need_no_torch():
    code = "import sys, cian, cian.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize(
    ("key", "largest"),
    [
        ("predict.scales", [8.0]),
        ("seeds.scales", [8.0]),
        ("train.augment.scales", [8.0]),
        ("train.augment.crop", 4096),
        ("affinity.hidden", 16_384),
        ("predict.crf.iterations", 1000),
        ("seeds.crf.iterations", 1000),
        ("relabel.crf_iterations", 1000),
        ("train.epochs", 10_000),
        ("retrain.epochs", 10_000),
        ("classify.min_steps", 10_000_000),
        ("train.batch_size", 4096),
        ("backbone.output_stride", 64),
        ("train.head_dilation", 1024),
        ("max_side", 65_536),
        ("seeds.max_side", 65_536),
        ("predict.tile", 65_536),
        ("data.max_megapixels", 2000),
        ("data.min_images", 1_000_000),
        ("runtime.workers", 1024),
        ("runtime.accumulate", 10_000),
        ("backbone.frozen_stages", 1000),
        ("train.optimizer.poly_power", 1_000_000),
        ("train.optimizer.lr", 1_000_000),
    ],
)
def test_values_that_can_only_be_mistakes_are_refused(key, largest):
    load_config(None, {key: largest})
    larger = [8.01] if isinstance(largest, list) else largest + 1
    with pytest.raises(CianError, match=rf"{key}.*less than or equal to"):
        load_config(None, {key: larger})


@pytest.mark.parametrize("setting", ["data.tags", "data.masks", "data.splits"])
def test_halves_of_characters_are_refused(setting):
    """No file can have such a name."""
    value = '{train: "\\ud800"}' if setting == "data.splits" else '"\\ud800"'
    with pytest.raises(CianError, match=f"{setting}.*: is not valid text"):
        load_config(None, dict([parse_assignment(f"{setting}={value}")]))
    load_config(None, {"data.tags": "\udc80"})  # a byte that is no text, as file systems allow it


def test_too_many_scales_are_refused():
    with pytest.raises(CianError, match=r"predict\.scales.*at most 16"):
        load_config(None, {"predict.scales": [1.0] * 17})


HOSTILE = {
    "bomb": "a: &a [x, x, x, x, x, x, x, x, x]\n"
    + "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)),
    "loop": "seed: &a [*a]\n",
    "number": f"seed: {'1' * 5000}\n",
    "date": "seed: 2020-13-45\n",
    "depth": f"seed: {'[' * 20_000}\n",
    "twice": "train: {epochs: 3}\nseed: 1\ntrain: {batch_size: 8}\n",
    "whole number": "seed: !!int ''\n",
    "time": "seed: !!timestamp x\n",
    "truth": "compare: !!bool x\n",
    "length": "# comment\n" * 200_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_yaml_is_one_short_error(tmp_path, name):
    file = tmp_path / "settings.yaml"
    file.write_text(HOSTILE[name], encoding="utf-8")
    with pytest.raises(CianError, match=r"settings\.yaml: ") as caught:
        load_config(file)
    assert len(str(caught.value)) < 1000


def test_errors_are_short_whatever_the_values(tmp_path):
    file = tmp_path / "settings.yaml"
    file.write_text(f"seed: {'x' * 100_000}\n" + "".join(f"key{i}: 1\n" for i in range(1000)), encoding="utf-8")
    with pytest.raises(CianError, match=r"… and 98\d more") as caught:
        load_config(file)
    assert len(str(caught.value)) < 5000
    bomb = "[&a [x, x, x, x, x, x, x, x, x, x]"
    for before, name in zip("abcdefg", "bcdefgh", strict=True):
        bomb += f", &{name} [{', '.join([f'*{before}'] * 10)}]"
    for value in ("1" * 5000, "2020-13-45", bomb + "]", "[" * 20_000, "{a: 1, a: 2}"):
        with pytest.raises(CianError, match=r"--set seed=.*not YAML") as caught:
            parse_assignment(f"seed={value}")
        assert len(str(caught.value)) < 300
