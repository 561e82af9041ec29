from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest

from cian.config import DataConfig
from cian.data import known_files
from cian.data.known_files import KnownFiles, fingerprint
from cian.data.masks import write_mask
from cian.reading import check
from cian.reading.check import check_dataset

OLD = 1_600_000_000


def write(file: Path, text: str, time: int = OLD) -> Path:
    file.write_text(text)
    os.utime(file, (time, time))
    return file


@pytest.fixture
def reads(monkeypatch) -> list[str]:
    """The names of the files whose fingerprints are made."""
    names: list[str] = []
    original = known_files._fingerprint
    monkeypatch.setattr(known_files, "_fingerprint", lambda path: (names.append(Path(path).name), original(path))[1])
    return names


@pytest.mark.parametrize("time", [OLD, 4_000_000_000])
def test_an_unchanged_file_is_read_once(tmp_path, reads, time):
    """Also one whose time is in the future."""
    files = [write(tmp_path / name, name, time) for name in ("a", "b,\"c'\nd", "ä")]
    first = KnownFiles(tmp_path / "record")
    found = first.fingerprints(files)
    assert found == first.fingerprints(files) and len(set(found)) == 3 and len(reads) == 3
    first.save()
    assert KnownFiles(tmp_path / "record").fingerprints(files[::-1]) == found[::-1] and len(reads) == 3


@pytest.mark.parametrize("change", ["size", "time", "both"])
def test_a_changed_file_is_read_again(tmp_path, reads, change):
    file = write(tmp_path / "a", "text")
    first = KnownFiles(tmp_path / "record")
    (before,) = first.fingerprints([file])
    first.learn(file, "content")
    first.save()
    write(file, "text" if change == "time" else "longer", OLD if change == "size" else OLD + 1)
    second = KnownFiles(tmp_path / "record")
    second.look([file])
    assert second.content(file) == ""
    assert second.fingerprints([file]) == [fingerprint(file)]
    assert (fingerprint(file) == before) == (change == "time")


def test_a_file_that_has_just_been_written_is_read_again(tmp_path, reads):
    """A second change within the same tick of the clock would show neither in its size nor in its time."""
    (tmp_path / "a").write_text("one")
    for _ in range(2):
        files = KnownFiles(tmp_path / "record")
        files.fingerprints([tmp_path / "a"])
        files.save()
    assert reads == ["a", "a"]


def test_a_file_that_had_just_been_written_is_known_at_the_end_of_a_run(tmp_path, reads, monkeypatch):
    """If it is still the same. So two runs on the same data have the same record."""
    a, b = (tmp_path / name for name in "ab")
    for file in (b, a):
        file.write_text("one")
    files = KnownFiles(tmp_path / "record")
    files.learn(b, "content")
    files.fingerprints([a])
    b.write_text("two")
    os.utime(b, ns=(a.stat().st_mtime_ns,) * 2)
    monkeypatch.setattr(known_files, "_FRESH_NS", 0)
    files.save()
    reads.clear()
    KnownFiles(tmp_path / "record").fingerprints([a, b])
    assert reads == ["b"]


@pytest.mark.parametrize("damage", [lambda data: data[:-3], lambda data: data.replace(b"a", b"b"), lambda data: b""])
def test_a_damaged_record_is_ignored(tmp_path, damage):
    file, record = write(tmp_path / "a", "text"), tmp_path / "record"
    files = KnownFiles(record)
    files.learn(file, "an image")
    files.save()
    again = KnownFiles(record)
    again.look([file])
    assert again.content(file) == "an image"
    record.write_bytes(damage(record.read_bytes()))
    broken = KnownFiles(record)
    broken.look([file])
    assert broken.content(file) == "" and broken.fingerprints([file]) == [fingerprint(file)]
    broken.save()
    assert KnownFiles(record).fingerprints([file]) == [fingerprint(file)]


def test_files_that_nobody_asked_for_stay_in_the_record(tmp_path, reads):
    a, b = (write(tmp_path / name, name) for name in "ab")
    first = KnownFiles(tmp_path / "record")
    first.fingerprints([a])
    first.save()
    second = KnownFiles(tmp_path / "record")
    second.fingerprints([b])
    second.save()
    KnownFiles(tmp_path / "record").fingerprints([a, b])
    assert reads == ["a", "b"]


def test_a_record_is_made_only_if_asked(tmp_path):
    files = KnownFiles(tmp_path / "run" / "record")
    files.fingerprints([write(tmp_path / "a", "text")])
    files.save(new=False)
    assert not (tmp_path / "run").exists()
    files.save()
    assert (tmp_path / "run" / "record").exists()


def test_other_processes_get_none_of_it(tmp_path):
    files = KnownFiles(tmp_path / "record")
    files.learn(write(tmp_path / "a", "text"), "content")
    assert pickle.loads(pickle.dumps(files)).content(tmp_path / "a") == ""


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        KnownFiles().fingerprints([tmp_path / "none"])


def test_a_second_check_reads_what_has_changed_and_finds_the_same(drawn, tmp_path, monkeypatch):
    data = drawn(masks=True)
    for file in data.rglob("*.png"):
        os.utime(file, (OLD, OLD))
    wrong = data / "masks" / "003.png"
    mask = check.read_mask(wrong)
    mask[0, 0] = 77  # no such class
    write_mask(wrong, mask)
    os.utime(wrong, (OLD, OLD))
    config = DataConfig(
        images=data / "images", tags=data / "tags.csv", masks=data / "masks", classes=data / "classes.txt", min_images=1
    )

    def problems() -> list[str]:
        files = KnownFiles(tmp_path / "record")
        found = [str(problem) for problem in check_dataset(config, 0, known=files)[1]]
        files.save()
        return found

    first = problems()
    assert any("003.png: holds the values 77" in text for text in first)
    read: list[str] = []
    for name in ("decode", "read_mask"):
        original = getattr(check, name)
        monkeypatch.setattr(check, name, lambda path, original=original: (read.append(path.name), original(path))[1])
    assert problems() == first and not read
    (data / "images" / "005.png").write_bytes(b"no image")
    assert any("005.png: not an image" in text for text in problems())
    assert read == ["005.png"]
