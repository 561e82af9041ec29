"""The cores of a process."""

from __future__ import annotations

import os

import pytest

import cian.parallel
from cian.parallel import cores


@pytest.fixture(autouse=True)
def eight(monkeypatch, tmp_path):
    """A machine of 8 cores, without containers."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    monkeypatch.setattr(cian.parallel, "CGROUP", tmp_path)


@pytest.mark.parametrize(("processes", "share"), [("1", 8), ("4", 2), ("16", 1), ("", 8)])
def test_processes_of_a_machine_share_its_cores(monkeypatch, processes, share):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", processes)
    assert cores() == share


@pytest.mark.parametrize(
    ("quota", "share"),
    [("200000 100000", 2), ("150000 100000", 2), ("1000 100000", 1), ("6400000 100000", 8), ("max 100000", 8)],
)
def test_quota_of_a_container(tmp_path, quota, share):
    (tmp_path / "cpu.max").write_text(quota + "\n")
    assert cores() == share


@pytest.mark.parametrize(("quota", "share"), [("250000", 3), ("-1", 8)])
def test_quota_of_an_older_container(tmp_path, monkeypatch, quota, share):
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(quota + "\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert cores() == share
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert cores() == max(1, share // 2)
