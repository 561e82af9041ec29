from __future__ import annotations

import json
import subprocess
import sys

import pytest

from cian import CianError
from cian.files import atomic, read_json, read_sealed, remove_temporaries, write_json, write_sealed
from cian.runs.directory import Record, Run
from tests.helpers import here, options


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
        "import os, sys; from pathlib import Path; from cian.files import atomic\n"
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


def test_what_a_killed_process_left_in_a_run_is_removed(tmp_path):
    run = Run(tmp_path / "run")
    for name in (".cian-tmp-a.json", ".cian-tmp-seeds/a.png", "fingerprints/compare/.cian-tmp-b.csv"):
        (run.path / name).parent.mkdir(parents=True, exist_ok=True)
        (run.path / name).touch()
    with run.locked():
        left = {file.relative_to(run.path).as_posix() for file in run.path.rglob("*") if file.is_file()}
    assert left == {".lock", "stages.json"}


def test_a_folder_that_is_a_link_is_emptied(tmp_path):
    """Its target may be on another disk."""
    run = Run(tmp_path / "run")
    (tmp_path / "disk" / "deep").mkdir(parents=True)
    for name in ("a.png", "deep/b.png"):
        (tmp_path / "disk" / name).touch()
    run.path.mkdir()
    (run.path / "seeds").symlink_to(tmp_path / "disk")
    run.clear(["seeds", "none"])
    assert list((tmp_path / "disk").iterdir()) == [] and (run.path / "seeds").is_symlink()


def test_refuses_a_folder_of_something_else(tmp_path):
    (tmp_path / "thesis.tex").write_text("…")
    with pytest.raises(CianError, match="not a run"):
        Run(tmp_path)
    with pytest.raises(CianError, match="is a file"):
        Run(tmp_path / "thesis.tex")


GOOD = {"inputs": {}, "done": True, "seconds": 1.5}


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000]
    + [
        json.dumps({"train": record}).encode()
        for record in (1, {"done": True}, GOOD | {"seconds": "x"}, GOOD | {"inputs": None}, GOOD | {"inputs": [1]},
                       GOOD | {"done": "no"})
    ],
)  # fmt: skip
def test_a_damaged_record_is_one_message(tmp_path, content):
    (tmp_path / "stages.json").write_bytes(content)
    with pytest.raises(CianError, match=r"stages\.json: damaged \(.*\)\. Restore it, or start over with --overwrite"):
        Run(tmp_path).records()


def test_what_is_written_with_a_checksum(tmp_path):
    file = tmp_path / "a"
    write_sealed(file, "test 1", b"some bytes")
    assert read_sealed(file, "test 1") == b"some bytes"
    assert read_sealed(file, "test 2") is None and read_sealed(tmp_path / "none", "test 1") is None
    whole = file.read_bytes()
    for broken in (b"", whole[:-1], whole[:20], *(_flipped(whole, bit) for bit in range(8 * len(whole)))):
        file.write_bytes(broken)
        assert read_sealed(file, "test 1") is None


def _flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def test_a_new_run_does_not_empty_a_folder_that_it_does_not_own(drawn, tmp_path, monkeypatch, capsys):
    """A link in a new run leads to files of somebody else."""
    other, out = tmp_path / "other", tmp_path / "run"
    other.mkdir()
    (other / "precious.txt").write_text("precious")
    write_json(out / "stages.json", {})
    (out / "seeds").symlink_to(other)
    assert here(monkeypatch, "run", *options(drawn(), out)) == 1
    assert f"{out / 'seeds'}: is a link to a folder that holds files" in capsys.readouterr().err
    assert (other / "precious.txt").read_text() == "precious"
