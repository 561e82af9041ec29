"""The cores of a process."""

from __future__ import annotations

import os

import pytest

from cian.cores import cores


@pytest.mark.parametrize(("processes", "share"), [("1", 8), ("4", 2), ("16", 1), ("", 8)])
def test_processes_of_a_machine_share_its_cores(monkeypatch, processes, share):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", processes)
    assert cores() == share
