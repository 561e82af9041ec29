"""A short form of the soak, with the same random numbers each time, and the page that explains it."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.workspace import ROOT

# The items of the soak, and the share of each.
PARTS = {
    "kills signals alone predictions together": 0.03,
    "files models checkpoints records changes": 0.03,
    "disks limits clocks terminals": 0.03,
    "csv json_tags coco xml lists submissions labels": 0.03,
    "images masks configurations weights outputs": 0.02,
    "yaml arguments": 0.03,
}


@pytest.mark.parametrize("items", PARTS)
def test_a_part_of_the_soak(items: str, tmp_path) -> None:
    command = [sys.executable, "-m", "tests.stress", "--share", str(PARTS[items]), "--work", tmp_path, *items.split()]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_the_parts_are_the_whole() -> None:
    command = [sys.executable, "-c", "from tests.stress.__main__ import NAMES; print(*NAMES)"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    names.remove("growth")  # takes too long
    assert [name for part in PARTS for name in part.split()] == names


def test_the_page_names_what_exists() -> None:
    text = (ROOT / "docs" / "promises.md").read_text(encoding="utf-8")
    tables = "\n".join(line.rpartition(" | ")[2] for line in text.splitlines() if line.startswith("|"))
    items = {"growth", *(name for part in PARTS for name in part.split())}
    for name in re.findall("`([^`]+)`", tables):
        assert (ROOT / name).exists() if "/" in name else name in items, name
