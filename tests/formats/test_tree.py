"""Folders and archives as one thing; hostile archives are refused."""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from pathlib import Path

import pytest

from cian.errors import CianError
from cian.formats.tree import Tree


def archive(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for name, content in files.items():
            target.writestr(name, content)
    return path


def test_folder_archive_and_file_are_alike(tmp_path: Path) -> None:
    files = {"a.json": b'{"a": 1}', "in/b.txt": b"b", ".hidden/c.txt": b"c", "d.exe": b"d", "__MACOSX/in/b.txt": b""}
    for name, content in files.items():
        (tmp_path / "folder" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "folder" / name).write_bytes(content)
    for tree in (Tree(tmp_path / "folder"), Tree(archive(tmp_path / "some.zip", files))):
        assert tree.names == ["a.json", "in/b.txt"]
        assert tree.read("in/b.txt") == b"b"
        assert tree.json("a.json") == [("a", 1)]
        assert tree.where("a.json") == f"{tree.path}/a.json"
    single = Tree(tmp_path / "folder" / "a.json")
    assert single.names == ["a.json"] and single.json("a.json") == [("a", 1)]
    assert single.where("a.json") == str(tmp_path / "folder" / "a.json")
    with pytest.raises(CianError, match="no such file or folder"):
        Tree(tmp_path / "none")


def test_pipes_are_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(CianError, match="is not a file"):
        Tree(tmp_path / "pipe.csv")


@pytest.mark.parametrize("name", ["../x.json", "a/../../x.json", "/etc/x.json", "C:\\x.json", "..\\x.json"])
def test_paths_that_lead_out_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(CianError, match="holds a file that leads out of it"):
        Tree(archive(tmp_path / "a.zip", {"good.json": b"{}", name: b"{}"}))


def test_bombs_are_refused_before_they_are_unpacked(tmp_path: Path) -> None:
    tree = Tree(archive(tmp_path / "a.zip", {"a.json": bytes(200 * 2**20)}))
    with pytest.raises(CianError, match="would unpack to 200 MB, over 100 times its size"):
        tree.read("a.json")


def test_bombs_that_lie_about_their_size_are_cut(tmp_path: Path) -> None:
    """The archive says 10 bytes, but the file unpacks to 64 MB: no more than that is read."""
    path = archive(tmp_path / "a.zip", {"a.json": bytes(64 * 2**20)})
    size = struct.pack("<I", 64 * 2**20)
    path.write_bytes(path.read_bytes().replace(size, struct.pack("<I", 10)))
    with pytest.raises(CianError, match=r"a\.json: cannot be unpacked"):
        Tree(path).read("a.json")


def test_broken_archives(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.zip", {"a.json": b'{"a": "' + bytes(range(97, 122)) * 9 + b'"}'})
    whole = path.read_bytes()
    crc = struct.pack("<I", zlib.crc32(b'{"a": "' + bytes(range(97, 122)) * 9 + b'"}'))
    path.write_bytes(whole.replace(crc, b"\0\0\0\0"))
    with pytest.raises(CianError, match=r"a\.json: cannot be unpacked"):
        Tree(path).read("a.json")
    for bit, message in ((0x1, "cannot be unpacked"),):  # encrypted
        flags = bytearray(whole)
        flags[6] |= bit
        flags[whole.index(b"PK\1\2") + 8] |= bit
        path.write_bytes(flags)
        with pytest.raises(CianError, match=message):
            Tree(path).read("a.json")
    path.write_bytes(whole[:-30])
    assert Tree(path).names == ["a.zip"]  # no archive
