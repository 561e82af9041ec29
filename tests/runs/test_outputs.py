from __future__ import annotations

import os

import numpy as np
import pytest
from safetensors.numpy import save_file

from cian.data.masks import write_mask
from cian.runs import outputs
from cian.runs.directory import Record, Run
from cian.runs.outputs import Losses, Results, losses, remember

RESULTS = Results(["train/model.safetensors"], {"seeds": ["a", "b/c", "d"], "compare/none": []})
NAMES = ["train/model.safetensors", "seeds/a.png", "seeds/b/c.png", "seeds/d.png"]


@pytest.fixture
def run(tmp_path) -> Run:
    run = Run(tmp_path / "run")
    for name in NAMES:
        (run.path / name).parent.mkdir(parents=True, exist_ok=True)
        (run.path / name).write_text(f"content of {name}")
    return run


@pytest.fixture
def record(run) -> Record:
    record = Record({}, done=True)
    remember(run, RESULTS, record)
    return record


def test_what_is_as_it_was_is_not_read(run, record, monkeypatch):
    monkeypatch.setattr(outputs, "_contents", lambda *_: pytest.fail("the masks were read"))
    (run.path / "seeds" / "other.txt").write_text("not of the stage")
    assert losses(run, RESULTS, record) == Losses()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("content", ["", "Content of {}", "content of {}."])
def test_a_damaged_file_is_named(run, record, name, content):
    (run.path / name).write_text(content.format(name))
    found = losses(run, RESULTS, record)
    assert found and (found.missing, found.damaged) == ([], [name])


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_file_is_named(run, record, name):
    (run.path / name).unlink()
    found = losses(run, RESULTS, record)
    assert found and (found.missing, found.damaged) == ([name], [])


def test_times_alone_change_nothing(run, record):
    """As when a run is copied. Afterwards, the masks are not read again."""
    for time in (1_000_000_000, 3_000_000_000):
        for name in NAMES:
            os.utime(run.path / name, (time, time))
        found = losses(run, RESULTS, record)
        assert not found and found.unknown
        remember(run, RESULTS, record)
        assert losses(run, RESULTS, record) == Losses()


@pytest.mark.parametrize("damage", [b"", b"[]", b'{"seeds": 1}', None])
def test_without_the_last_look_contents_are_compared(run, record, damage):
    run.seen_file.unlink()
    if damage is not None:
        run.seen_file.write_bytes(damage)
    found = losses(run, RESULTS, record)
    assert not found and found.unknown
    (run.path / "seeds" / "d.png").write_text("other")
    assert losses(run, RESULTS, record).damaged == ["seeds/d.png"]


def test_names_that_are_not_valid_text(run):
    results, record = Results([], {"seeds": ["\udce9"]}), Record({}, done=True)
    file = run.path / "seeds" / "\udce9.png"
    file.write_text("one")
    remember(run, results, record)
    assert losses(run, results, record) == Losses()
    file.write_text("other")
    assert losses(run, results, record).damaged == ["seeds/\udce9.png"]


def test_masks_whose_fingerprints_are_lost_are_believed(run, record):
    run.fingerprints_file("seeds").write_text("damaged")
    (run.path / "seeds" / "d.png").write_text("other")
    found = losses(run, RESULTS, record)
    assert not found and found.unknown


def readable(run: Run) -> None:
    save_file({"a": np.zeros(2)}, run.path / NAMES[0])
    for name in NAMES[1:]:
        write_mask(run.path / name, np.eye(4, dtype=np.uint8))


@pytest.mark.parametrize("done", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_without_fingerprints_what_cannot_be_read_is_damaged(run, done, name):
    """As in a stage that was killed, or in a run of an earlier version."""
    readable(run)
    content = (run.path / name).read_bytes()
    for damaged in (b"", content[:-1], content[:-20]):
        (run.path / name).write_bytes(damaged)
        assert losses(run, RESULTS, Record({}, done)).damaged == [name]
    (run.path / name).unlink()
    found = losses(run, RESULTS, Record({}, done))
    assert (found.missing, found.damaged) == ([name] if done else [], [])


def test_a_run_of_an_earlier_version_is_believed_once(run):
    readable(run)
    record = Record({}, done=True)
    found = losses(run, RESULTS, record)
    assert not found and found.unknown
    remember(run, RESULTS, record)
    (run.path / "seeds" / "d.png").write_text("other")
    assert losses(run, RESULTS, record).damaged == ["seeds/d.png"]


def test_fingerprints_of_dated_files_are_kept_apart(run):
    """So that two runs with the same results have the same stages.json."""
    dated, record = Results(NAMES[:1], {}, dated=True), Record({}, done=True)
    remember(run, dated, record)
    assert record.made == {} and losses(run, dated, record) == Losses()
    (run.path / NAMES[0]).write_text("other")
    assert losses(run, dated, record).damaged == NAMES[:1]
