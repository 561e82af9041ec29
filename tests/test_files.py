"""Tables that spreadsheets open, and what is removed."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest

from cian.files import TEMPORARY, atomic, lock, read_csv, remove, remove_temporaries, write_csv


@pytest.mark.parametrize("sign", list("=+-@\t\r\n"))
def test_no_cell_is_a_formula(tmp_path: Path, sign: str) -> None:
    """Each text stays another one, so that no two classes become one."""
    row = [f"{sign}cmd|' /C calc'!A0", f"'{sign}cmd", "a=b", "'quoted'", "", None, 7, Path("a/b.jpg")]
    header = [str(column) for column in range(len(row))]
    write_csv(tmp_path / "table.csv", [header, row])
    with (tmp_path / "table.csv").open(newline="", encoding="utf-8") as file:
        _, cells = csv.reader(file)
    (found,) = read_csv(tmp_path / "table.csv")
    assert list(found.values()) == ["" if cell is None else str(cell) for cell in row]
    assert cells == [f"'{row[0]}", f"'{row[1]}", "a=b", "'quoted'", "", "", "7", "a/b.jpg"]


def test_a_folder_that_is_a_link_is_emptied(tmp_path: Path) -> None:
    disk, other = tmp_path / "disk", tmp_path / "other"
    for folder in (disk / "inner", other):
        folder.mkdir(parents=True)
        (folder / "a.png").touch()
    (disk / "link").symlink_to(other)
    (tmp_path / "masks").symlink_to(disk)
    remove(tmp_path / "masks")
    assert (tmp_path / "masks").is_symlink() and not list(disk.iterdir()) and (other / "a.png").exists()
    remove(disk)
    remove(tmp_path / "masks")  # now it leads nowhere
    remove(tmp_path / "missing")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other"]


def test_a_file_that_is_being_written_is_kept(tmp_path: Path) -> None:
    with atomic(tmp_path / "a.txt") as temporary:
        temporary.write_text("half")
        code = "import sys; from pathlib import Path; from cian.files import remove_temporaries\n"
        subprocess.run([sys.executable, "-c", f"{code}remove_temporaries(Path(sys.argv[1]))", tmp_path], check=True)
        assert temporary.exists()
    assert (tmp_path / "a.txt").read_text() == "half"


def test_what_a_killed_process_left_goes_with_the_next_lock(tmp_path: Path) -> None:
    (tmp_path / f"{TEMPORARY}x.csv").touch()
    with lock(tmp_path, "works here"):
        assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_only_temporary_files_are_removed(tmp_path: Path) -> None:
    for name in (f"{TEMPORARY}x.png", f"inner/{TEMPORARY}y.png", "inner/a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    remove_temporaries(tmp_path, deep=False)
    assert len(list(tmp_path.rglob("*.png"))) == 2
    remove_temporaries(tmp_path)
    assert [path.name for path in tmp_path.rglob("*.png")] == ["a.png"]
