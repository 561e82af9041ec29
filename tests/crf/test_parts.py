"""How a call of the CRF uses threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from cian.crf import parts
from cian.parallel import cores


def test_a_worker_thread_uses_no_other_core():
    """If each of several workers took all cores, they would be slower than one after the other."""
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(parts.threads).result() == 1
    assert parts.threads() == min(cores(), parts.PARTS)


def test_parts_cover_a_range_in_order():
    for stop in (3, 4, 11):
        starts, ends = parts.bounds(3, stop)
        assert starts[0] == 3 and ends[-1] == stop and starts[1:] == ends[:-1]
        assert len(starts) == parts.PARTS


def test_threaded_keeps_the_order_of_results(monkeypatch):
    for count in (1, 2):
        monkeypatch.setattr(parts, "threads", lambda n=count: n)
        with parts.threaded() as run:
            assert run(lambda a, b: 10 * a + b, [1, 2, 3], [4, 5, 6]) == [14, 25, 36]
