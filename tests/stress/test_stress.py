"""A short form of the soak, with the same random numbers each time, and the page that explains it."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.workspace import ROOT

SHARE = 0.02  # of a whole soak
ITEM = re.compile(r"^def (\w+)\(stand: Stand, rng: random.Random, share: float\) -> Trials:", re.MULTILINE)


@pytest.mark.parametrize("group", ["runs", "inputs"])
def test_a_part_of_the_soak(group: str, tmp_path) -> None:
    command = [sys.executable, "-m", "tests.stress", "--share", str(SHARE), "--work", tmp_path, group]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_the_page_names_what_exists() -> None:
    items = {name for path in (ROOT / "tests" / "stress").glob("*.py") for name in ITEM.findall(path.read_text())}
    assert len(items) == 29  # as many as the pattern must find
    text = (ROOT / "docs" / "promises.md").read_text(encoding="utf-8")
    tables = "\n".join(line.rpartition(" | ")[2] for line in text.splitlines() if line.startswith("|"))
    for name in re.findall("`([^`]+)`", tables):
        assert (ROOT / name).exists() if "/" in name else name in items, name
