"""The cores of a process, and work for them."""

from __future__ import annotations

import os
import threading

import pytest
import torch

import cian.parallel
from cian.parallel import cores, overlapped


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


@pytest.mark.parametrize("on_cpu", [True, False])
def test_overlapped_keeps_the_order_and_leaves_items_out(on_cpu):
    def read(item: int) -> int | None:
        return None if item == 3 else 10 * item

    threads = torch.get_num_threads()
    results = overlapped(on_cpu, range(50), read, lambda given: given + 1, lambda given, result: (given, result))
    assert list(results) == [None if i == 3 else (10 * i, 10 * i + 1) for i in range(50)]
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("on_cpu", [True, False])
def test_overlapped_stops_reading_when_the_caller_stops(on_cpu):
    """The items may be an endless stream."""
    read: list[int] = []
    results = overlapped(on_cpu, iter(int, 1), read.append, str, lambda given, result: result)
    next(results)
    results.close()
    assert 1 <= len(read) <= 2 * 2 * cores() + 1


@pytest.mark.parametrize("on_cpu", [True, False])
def test_overlapped_raises_what_the_work_raises(on_cpu):
    def compute(given: int) -> int:
        if given == 2:
            raise ValueError("item 2")
        return given

    with pytest.raises(ValueError, match="item 2"):
        list(overlapped(on_cpu, range(10), abs, compute, lambda given, result: result))


def test_few_results_wait_in_the_memory_of_a_gpu():
    """However many cores there are, four results at most wait for their CRF."""
    lock, full = threading.Lock(), threading.Event()
    alive, counts = 0, []

    def compute(given: int) -> int:
        nonlocal alive
        with lock:
            alive += 1
            counts.append(alive)
        if alive == 4:
            full.set()
        return given

    def finish(given: int, result: int) -> None:
        nonlocal alive
        assert full.wait(60)  # holds every result back until the memory is full
        with lock:
            alive -= 1

    list(overlapped(False, range(20), lambda item: item, compute, finish))
    assert alive == 0 and max(counts) == 4


@pytest.mark.parametrize("on_cpu", [True, False])
def test_few_large_images_wait(on_cpu):
    started: list[int] = []

    def read(item: int) -> int:
        started.append(item)
        return item

    sizes = [10, 100, 100, 20, 20, 20, 200]  # millions of pixels
    jobs = overlapped(on_cpu, range(7), read, lambda i: i, lambda i, _: i, pixels=lambda i: sizes[i] * 10**6)
    waiting = []
    for done in jobs:
        waiting.append(sum(sizes[item] for item in started if item > done))
    most = 128 if on_cpu else 256  # read ahead, and computed
    assert started == list(range(7)) and all(each <= most or each == 200 for each in waiting)
