"""The command line as a user meets it: bad input makes one message and exit code 1, never a traceback."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image

from cian.cli import app
from cian.config import all_settings
from cian.data.masks import read_mask, write_mask
from cian.pipeline.stages import STAGES
from tests.helpers import CLI, TINY, cli, fails, here


@pytest.fixture
def refused(monkeypatch, capsys):
    """`cian ARGS` within this process fails with one message that holds some words."""

    def check(*args: str | Path, words: Sequence[str]) -> None:
        code = here(monkeypatch, *args)
        out, err = capsys.readouterr()
        fails(subprocess.CompletedProcess(args, code, out, err), *words)

    return check


def tiny() -> list[str]:
    return [part for key, value in TINY.items() for part in ("--set", f"{key}={value}")]


def test_public_surface():
    """The commands, their options, and the names in `cian`. Users notice each change: note it in CHANGELOG."""
    import cian

    commands = typer.main.get_command(app).commands
    given = "--images --tags --masks --labels --classes --split --config --preset --set"
    pipeline = f"--out {given} --overwrite --json --quiet"
    assert {
        name: " ".join(each.opts[0] for each in command.params if each.name != "help" and each.opts[0][0] == "-")
        for name, command in commands.items()
    } == {
        "run": pipeline,
        "check": f"{given} --json --quiet",
        "predict": "--model --images --out --tags --overlays --fast --set --overwrite --json --quiet",
        "export": "--format --out --int8 --web --json --quiet",
        "evaluate": "--predictions --masks --classes --list --no-background --submit --competition --images "
        "--set --json --quiet",
        "suggest": "--count --format --out --prefix --json --quiet",
        "demo": "--out --data --set --overwrite --json --quiet",
        "app": "--port --host --no-browser --quiet",
        "ablate": f"--out {given} --repeat --only --saliency --json --quiet",
        "convert": "--to --out --images --classes --split --polygons --prefix --set --json --quiet",
        "doctor": "--no-run --json --quiet",
        "coco-masks": "--annotations --out --classes --set --quiet",
        "settings": "--markdown",
        **{stage.name: pipeline for stage in STAGES if stage.command is not None},
    }
    assert sorted(cian.__all__) == [
        "CIAN", "CianError", "Config", "CrossImageAffinity", "Prediction", "Segmenter", "__version__", "crf",
        "cross_image_affinity", "load", "load_config", "losses", "metrics", "run", "suggest",
    ]  # fmt: skip


def test_help_names_every_command():
    text = cli("--help").stdout
    for command in typer.main.get_command(app).commands:
        assert f"\n  {command} " in text
    assert "Exit codes: 0 = done" in text and "--install-completion" in text


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("run", ("seeds.foreground=1.25", "1.5 makes masks smaller")),
        ("seed", ("`cian run --help` shows the settings",)),
    ],
)
def test_help_fits_a_screen(command, words):
    lines = cli(command, "--help", env={**os.environ, "COLUMNS": "80"}).stdout.splitlines()
    assert len(lines) <= 40 and max(map(len, lines)) <= 80
    text = "\n".join(lines)
    for each in ("--images DIR", "`cian settings`", *words):
        assert each in text


class TestSettings:
    def test_lists_sections_and_what_people_change(self, monkeypatch, capsys):
        assert here(monkeypatch, "settings") == 0
        out = capsys.readouterr().out
        assert "  train       " in out and "max_side=512" in out and "cian settings paper" in out

    def test_every_setting_is_in_its_section_and_in_its_group(self, monkeypatch, capsys):
        for each in all_settings():
            section = each.key.partition(".")[0] if "." in each.key else each.key
            for words in {section, each.group}:
                assert here(monkeypatch, "settings", words) == 0
                assert f"{each.key} = " in capsys.readouterr().out

    def test_searches_keys_and_descriptions(self, monkeypatch, capsys):
        assert here(monkeypatch, "settings", "mean-field", "SEEDS") == 0
        out = capsys.readouterr().out
        assert "seeds.crf.iterations = 10" in out and "predict.crf.iterations" not in out

    def test_explains_the_keys_that_it_is_given(self, monkeypatch, capsys):
        assert here(monkeypatch, "settings", "train.robust", "seed") == 0
        out = capsys.readouterr().out
        assert "train.robust = 0.7" in out and "seed = 0" in out and "train.robust_after" not in out.split()

    def test_shows_the_nearest_keys_of_a_mistyped_one(self, monkeypatch, capsys):
        assert here(monkeypatch, "settings", "train.epohs") == 0
        out = capsys.readouterr().out
        assert "No setting has “train.epohs”" in out and "train.epochs = 12" in out and "seeds.margin" not in out

    def test_says_what_replaces_a_former_setting(self, refused):
        refused("settings", "seeds.raised_over", words=["seeds.foreground"])
        refused("settings", "xyzzy", words=["no setting", "cian settings"])

    def test_fits_80_columns_without_colour_when_piped(self):
        for words in ((), ("train",), ("crf",)):
            lines = cli("settings", *words).stdout.splitlines()
            assert lines and max(map(len, lines)) <= 80 and "\x1b" not in "".join(lines)

    def test_markdown_has_a_row_for_each_setting(self, monkeypatch, capsys):
        assert here(monkeypatch, "settings", "--markdown") == 0
        rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| `")]
        assert [row.split("`")[1] for row in rows] != []
        assert sorted(row.split("`")[1] for row in rows) == sorted(each.key for each in all_settings())

    def test_completion_offers_keys(self):
        given = {"_CIAN_COMPLETE": "complete_bash", "COMP_WORDS": "cian run --set train.ep", "COMP_CWORD": "3"}
        code = "import sys; sys.argv[0] = 'cian'; from cian.cli import main; main()"
        result = subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, **given}, capture_output=True, text=True, timeout=60
        )
        assert result.stdout.split() == ["train.epochs="]


def test_version():
    import cian

    assert cli("--version").stdout.strip() == f"cian {cian.__version__}"


@pytest.mark.parametrize("args", [["run"], ["nonsense"], ["run", "--out", "x", "--nonsense"], ["evaluate"]])
def test_wrong_usage_is_2(args):
    result = cli(*args)
    assert result.returncode == 2 and "Traceback" not in result.stderr


def test_check_reports_all_problems_at_once(drawn, tmp_path):
    data = drawn(count=6)
    (data / "images" / "002.png").write_bytes((data / "images" / "002.png").read_bytes()[:200])  # truncated
    (data / "images" / "003.png").write_bytes(b"not an image")
    with (data / "tags.csv").open("a") as file:
        file.write("nowhere.png,red\n")
    result = cli("check", "--images", data / "images", "--tags", data / "tags.csv")
    fails(result, "002.png", "003.png", "nowhere.png", "3 problems")


@pytest.mark.parametrize(("given", "expected"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_waiting_threads_sleep_unless_the_user_wants_otherwise(monkeypatch, given, expected):
    """OpenMP reads it when torch is imported, which no command does before `main`."""
    monkeypatch.setenv("OMP_WAIT_POLICY", "")  # restored after the test
    if given is None:
        monkeypatch.delenv("OMP_WAIT_POLICY")
    else:
        monkeypatch.setenv("OMP_WAIT_POLICY", given)
    assert here(monkeypatch, "--version") == 0
    assert os.environ["OMP_WAIT_POLICY"] == expected


def test_ctrl_c_is_one_message(monkeypatch, capsys, tmp_path):
    def press(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("cian.inference.folder.predict_folder", press)
    assert here(monkeypatch, "predict", "--model", "m", "--images", tmp_path, "--out", tmp_path / "o") == 130
    assert capsys.readouterr().err == "cian: Stopped. Finished work is kept. The same command resumes.\n"


def test_check_finds_what_would_stop_a_run(drawn, refused):
    data = drawn()
    args = ("check", "--images", data / "images", "--tags", data / "tags.csv")
    refused(*args, words=["12 training images: too few for a batch of 16", "classify.batch_size=12"])
    refused(*args, "--set", "seeds.background=none.onnx", words=["none.onnx"])


def test_check_of_good_data_shows_the_table(drawn, monkeypatch, capsys):
    data = drawn(count=20)
    assert here(monkeypatch, "check", "--images", data / "images", "--tags", data / "tags.csv") == 0
    out, err = capsys.readouterr()
    assert "blue" in out and "No problems" in err
    assert here(monkeypatch, "check", "--images", data / "images", "--tags", data / "tags.csv", "--quiet") == 0
    assert capsys.readouterr() == (out, "")


def test_check_as_json(drawn, monkeypatch, capsys):
    data = drawn(count=20)
    args = ("check", "--json", "--images", data / "images", "--tags", data / "tags.csv")
    assert here(monkeypatch, *args) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["data"]["images"] == {"train": 20} and result["data"]["classes"] == ["blue", "red"]
    assert result["error"] is None and not any(problem["fatal"] for problem in result["problems"])
    assert here(monkeypatch, *args, "--set", "classify.batch_size=64") == 1
    result = json.loads(capsys.readouterr().out)
    assert "set classify.batch_size=20" in result["error"] and result["data"]["images"] == {"train": 20}
    (data / "images" / "003.png").write_bytes(b"not an image")
    assert here(monkeypatch, *args) == 1
    out, err = capsys.readouterr()
    result = json.loads(out)
    (fatal,) = (problem for problem in result["problems"] if problem["fatal"])
    assert fatal["file"].endswith("003.png") and "003.png" in result["error"] and "003.png" in err


def test_run_checks_the_data_before_anything_else(drawn, tmp_path, refused):
    data = drawn(count=6)
    (data / "images" / "002.png").write_bytes(b"")
    args = ("--images", data / "images", "--tags", data / "tags.csv", "--out", tmp_path / "run", *tiny())
    refused("run", *args, words=["002.png"])
    assert not (tmp_path / "run" / "classify").exists()


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--set", "train.epohs=1"], ["Did you mean train.epochs"]),
        (["--set", "train.epochs=many"], ["train.epochs", "integer"]),
        (["--set", "train.epochs"], ["KEY=VALUE"]),
        (["--config", "nowhere.yaml"], ["nowhere.yaml"]),
        (["--set", "backbone.name=resnet51"], ["resnet50"]),
        (["--set", "runtime.device=tpu"], ["auto, cpu or cuda"]),
        (["--set", "seeds.background=nowhere.onnx"], ["nowhere.onnx"]),
        (["--set", "seeds.background=."], ["no such saliency map", "(and 7 more)"]),
        (["--set", "backbone.weights=nowhere.safetensors"], ["nowhere.safetensors"]),
        (["--set", "train.group_size=3"], ["settings: train: batch_size 4", "set train.batch_size=3"]),
        (["--set", "seeds.folder=nowhere"], ["nowhere", "no such folder"]),
        (["--split", "train"], ["NAME=FILE"]),
        (["--split", "train=nowhere.txt"], ["nowhere.txt"]),
        (["--masks", "nowhere"], ["nowhere"]),
        (["--classes", "nowhere.txt"], ["nowhere.txt"]),
        (["--set", "train.batch_size=64"], ["set train.batch_size=8"]),
        (["--set", "predict.splits=[test]"], ["no such split"]),
    ],
)
def test_bad_settings(drawn, tmp_path, refused, args, words):
    data = drawn(count=8)
    base = ["run", "--images", data / "images", "--tags", data / "tags.csv", "--out", tmp_path / "run", *tiny()]
    refused(*base, *args, words=words)


def test_mistyped_setting_is_told_without_importing_torch(tmp_path):
    code = (
        "import sys; from cian.cli import main\n"
        "try: main()\n"
        "finally: print('torch' in sys.modules)"
    )  # fmt: skip
    args = ["run", "--images", tmp_path, "--out", tmp_path / "run", "--set", "train.epohs=1"]
    result = subprocess.run([sys.executable, "-c", code, *map(str, args)], capture_output=True, text=True, timeout=300)
    fails(result, "Did you mean train.epochs")
    assert result.stdout.strip() == "False"


def test_no_images(tmp_path, refused):
    refused("run", "--out", tmp_path / "run", words=["--images"])
    refused("run", "--images", tmp_path / "nowhere", "--out", tmp_path / "run", words=["nowhere"])


def test_folder_that_is_no_run(tmp_path, drawn, refused):
    data = drawn()
    base = ["run", "--images", data / "images", "--tags", data / "tags.csv"]
    refused(*base, "--out", data, words=["not a run"])


def test_file_in_the_place_of_a_folder(tmp_path, drawn, refused):
    data = drawn()
    base = ["run", "--images", data / "images", "--tags", data / "tags.csv"]
    refused(*base, "--out", data / "tags.csv" / "run", words=["a folder is needed"])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_folder(tmp_path, drawn):
    data = drawn()
    (tmp_path / "locked").mkdir(mode=0o555)
    out = tmp_path / "locked" / "run"
    fails(cli("run", "--images", data / "images", "--tags", data / "tags.csv", "--out", out), "permission denied")


class TestEvaluate:
    @pytest.fixture
    def folders(self, tmp_path) -> Path:
        rng = np.random.default_rng(0)
        for i in range(3):
            truth = rng.integers(0, 3, (8, 9)).astype(np.uint8)
            truth[0] = 255
            write_mask(tmp_path / "masks" / f"{i}.png", truth)
            write_mask(tmp_path / "predictions" / f"{i}.png", np.where(truth == 255, 0, truth).astype(np.uint8))
        (tmp_path / "classes.txt").write_text("background\nкот\ndog\n", encoding="utf-8")
        return tmp_path

    def run(self, folder: Path, *more: str | Path) -> subprocess.CompletedProcess:
        args = [
            "--predictions",
            folder / "predictions",
            "--masks",
            folder / "masks",
            "--classes",
            folder / "classes.txt",
        ]
        return cli("evaluate", *args, *more)

    def test_perfect_masks(self, folders):
        result = self.run(folders)
        assert result.returncode == 0, result.stderr
        assert "mIoU 100.00" in result.stdout and "кот" in result.stdout and "images 3" in result.stdout

    def test_a_class_that_no_true_mask_shows(self, folders):
        assert "no true mask shows" not in self.run(folders).stdout
        for file in (folders / "masks").iterdir():
            write_mask(file, np.where(read_mask(file) == 2, 1, read_mask(file)).astype(np.uint8))
        assert "no true mask shows dog; where a prediction does, its IoU is 0" in self.run(folders).stdout

    def test_list_selects(self, folders):
        (folders / "list.txt").write_text("0\n2\n")
        assert "images 2" in self.run(folders, "--list", folders / "list.txt").stdout

    def test_json(self, folders):
        result = json.loads(self.run(folders, "--json", "--quiet").stdout)
        assert result["miou"] == 100 and result["images"] == 3 and set(result["iou"]) == {"background", "кот", "dog"}

    def test_options_that_need_submit(self, folders):
        fails(self.run(folders, "--images", folders), "--images: has an effect only with --submit")
        fails(self.run(folders, "--competition", "comp5"), "--competition: has an effect only with --submit")

    def test_missing_prediction(self, folders):
        (folders / "predictions" / "1.png").unlink()
        fails(self.run(folders), "1.png", "no such prediction")

    def test_other_size(self, folders):
        write_mask(folders / "predictions" / "1.png", np.zeros((4, 9), np.uint8))
        fails(self.run(folders), "1.png", "9×4 px", "9×8", "other proportions")

    def test_reduced(self, folders):
        """Masks of reduced images, as a run scores them."""
        mask = read_mask(folders / "masks" / "1.png")
        for file in (folders / "masks").iterdir():
            write_mask(folders / "predictions" / file.name, read_mask(file))
        write_mask(folders / "masks" / "1.png", mask.repeat(2, 0).repeat(2, 1))
        done = self.run(folders)
        assert done.returncode == 0 and "mIoU 100.00" in " ".join(done.stdout.split())

    def test_unknown_class_id(self, folders):
        write_mask(folders / "predictions" / "1.png", np.full((8, 9), 7, np.uint8))
        fails(self.run(folders), "1.png", "class id 7", "list of classes is complete")

    def test_no_png(self, folders):
        (folders / "predictions" / "1.png").write_bytes(b"nonsense")
        fails(self.run(folders), "1.png")

    def test_missing_folder(self, folders):
        fails(
            cli("evaluate", "--predictions", "nowhere", "--masks", "x", "--classes", "y"), "nowhere", "no such folder"
        )


def test_predict_without_a_model(tmp_path, refused):
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    base = ["predict", "--model", tmp_path / "nowhere", "--images", tmp_path]
    refused(*base, "--out", tmp_path / "o", words=["no model here"])


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "gbk"])
def test_output_in_any_encoding(tmp_path: Path, encoding: str) -> None:
    """What a log or a terminal cannot show is replaced. JSON stays exact."""
    for name in ("chien écossais", "猫"):
        for i in range(2):
            path = tmp_path / "images" / name / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (32, 32)).save(path)
    env = {**os.environ, "PYTHONIOENCODING": encoding}
    data = ("--images", tmp_path / "images", "--set", "classify.batch_size=2", "--set", "train.batch_size=2")
    for args in (("check", *data), ("run", "--help")):
        result = subprocess.run([*CLI, *args], capture_output=True, env=env)
        assert result.returncode == 0, result.stderr
        assert b"Traceback" not in result.stderr
    result = subprocess.run([*CLI, "check", "--json", *data], capture_output=True, env=env)
    assert json.loads(result.stdout.decode(encoding))["data"]["classes"] == ["chien écossais", "猫"]
    if encoding == "ascii":  # a locale without UTF-8, and Python's UTF-8 mode switched off
        locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
        result = subprocess.run([*CLI, "check", "--json", *data], capture_output=True, env={**os.environ, **locale})
        assert json.loads(result.stdout)["data"]["classes"] == ["chien écossais", "猫"]


def test_an_empty_out_is_not_this_folder(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    for out in (["--out", ""], ["--out="]):
        assert here(monkeypatch, "predict", "--model", "m", "--images", "i", *out) == 1
        assert "--out: is empty" in capsys.readouterr().err


@pytest.mark.skipif(os.name != "posix", reason="needs a shell")
@pytest.mark.parametrize(("end", "code"), [(">&-", 0), ("2>&-", 0), ("2>/dev/full", 0)])
def test_output_that_is_closed_or_full(end: str, code: int):
    command = shlex.join([*CLI, "settings", "seed"])
    result = subprocess.run(f"{command} {end}", shell=True, capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stderr) == (code, "")
