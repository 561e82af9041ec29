from __future__ import annotations

import subprocess
import sys

import pytest

from cian import CianError
from cian.files import atomic, read_json, remove_temporaries, write_json
from cian.runs.directory import Record, Run


def test_what_fails_leaves_the_old_file(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("old")
    with pytest.raises(RuntimeError), atomic(file) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert file.read_text() == "old" and list(tmp_path.iterdir()) == [file]


def test_what_succeeds_replaces_it(tmp_path):
    write_json(tmp_path / "deep" / "a.json", {"ä": 1})
    assert read_json(tmp_path / "deep" / "a.json") == {"ä": 1}


def test_what_a_killed_process_left_is_removed(tmp_path):
    code = (
        "import os, sys; from pathlib import Path; from cian.runs.directory import atomic\n"
        "with atomic(Path(sys.argv[1]) / 'a.png') as t: t.write_text('half'); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)])
    assert len(list(tmp_path.iterdir())) == 1 and not (tmp_path / "a.png").exists()
    remove_temporaries(tmp_path)
    assert not list(tmp_path.iterdir())


def test_records(tmp_path):
    run = Run(tmp_path / "run")
    with run.locked():
        run.record("seed", Record({"a": 1}))
        run.record("train", Record({"b": 2}, done=True, seconds=3.5))
        run.record("seed", None)
    assert run.records() == {"train": Record({"b": 2}, True, 3.5)}


def test_one_process_at_a_time(tmp_path):
    run = Run(tmp_path / "run")
    with run.locked(), pytest.raises(CianError, match="another process"), Run(tmp_path / "run").locked():
        pass
    with run.locked():
        pass


def test_refuses_a_folder_of_something_else(tmp_path):
    (tmp_path / "thesis.tex").write_text("…")
    with pytest.raises(CianError, match="not a run"):
        Run(tmp_path)
    with pytest.raises(CianError, match="is a file"):
        Run(tmp_path / "thesis.tex")


def test_broken_record_names_the_file(tmp_path):
    (tmp_path / "stages.json").write_text("{")
    with pytest.raises(CianError, match=r"stages\.json: cannot be read"):
        Run(tmp_path).records()
