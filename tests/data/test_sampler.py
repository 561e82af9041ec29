"""Groups share a tag, cost linear work, and follow from the seed and the epoch alone."""

from __future__ import annotations

import numpy as np
import pytest

from cian import CianError
from cian.data import sampler
from cian.data.sampler import GroupSampler, form_groups
from tests.helpers import lines_run


def rows(tags: list[set[int]]) -> tuple[np.ndarray, np.ndarray]:
    offsets = np.cumsum([0, *(len(row) for row in tags)])
    return np.array([tag for row in tags for tag in sorted(row)], np.int32), offsets


def random_tags(count: int, classes: int = 6, seed: int = 0) -> list[set[int]]:
    rng = np.random.default_rng(seed)
    return [set((rng.choice(classes, rng.integers(1, 4), replace=False) + 1).tolist()) for _ in range(count)]


def by_definition(tags: list[set[int]], group_size: int, order: list[int]) -> list[list[int]]:
    """The method's text: take the next image, then the next ones that share a tag with all members; skipped images go
    back to the front of the queue."""
    queue, groups = list(order), []
    while queue:
        group = [queue[0]]
        for image in queue[1:]:
            if len(group) < group_size and all(tags[image] & tags[member] for member in group):
                group.append(image)
        whole = len(group) == group_size
        groups += [group] if whole else []
        used = set(group) if whole else {queue[0]}
        queue = [image for image in queue if image not in used]
    return groups


@pytest.mark.parametrize("group_size", [2, 3, 4])
def test_equals_the_definition(group_size):
    tags = random_tags(60)
    got = form_groups(*rows(tags), group_size, np.random.default_rng(7))
    order = np.random.default_rng(7).permutation(len(tags)).tolist()
    assert got.tolist() == by_definition(tags, group_size, order)


@pytest.mark.parametrize("group_size", [1, 2, 3, 5])
def test_members_share_a_tag_and_are_used_once(group_size):
    tags = random_tags(300, classes=9)
    groups = form_groups(*rows(tags), group_size, np.random.default_rng(1))
    assert groups.shape[1] == group_size
    assert len(np.unique(groups)) == groups.size > 250
    for group in groups:
        assert all(tags[a] & tags[b] for a in group for b in group)


def test_images_without_tags_are_grouped_with_one_another():
    tags = [set(), {1}, set(), {1}]
    groups = form_groups(*rows(tags), 2, np.random.default_rng(0))
    assert {frozenset(group.tolist()) for group in groups} == {frozenset({0, 2}), frozenset({1, 3})}


def test_images_without_a_partner_are_left_out():
    assert form_groups(*rows([{1}, {2}, {3}]), 2, np.random.default_rng(0)).shape == (0, 2)


def test_plan_is_decided_by_seed_and_epoch():
    table = rows(random_tags(40))
    first, second = (GroupSampler(*table, 8, 2, seed=3) for _ in range(2))
    assert np.array_equal(first.epoch(2), second.epoch(2))
    assert not np.array_equal(first.epoch(0), first.epoch(1))
    assert not np.array_equal(first.epoch(0), GroupSampler(*table, 8, 2, seed=4).epoch(0))


def test_layout_is_chunks_of_groups():
    tags = random_tags(40)
    for batch in GroupSampler(*rows(tags), 12, 3).epoch(0):
        chunks = batch.reshape(3, 4)
        assert all(tags[a] & tags[b] for group in chunks.T for a in group for b in group)


def test_batches_resume_at_any_place():
    whole_plan = GroupSampler(*rows(random_tags(40)), 8, 2)
    whole = list(whole_plan.batches(3))
    steps = len(whole_plan.epoch(0))
    assert list(whole_plan.batches(3, epoch=1, step=2)) == whole[steps + 2 :]
    assert whole[0][0][1] == 0 and whole[-1][0][1] == 2


def test_processes_share_the_global_batch():
    table = rows(random_tags(64))
    whole = GroupSampler(*table, 16, 2).epoch(0)
    parts = [GroupSampler(*table, 8, 2, rank=rank, world=2).epoch(0) for rank in range(2)]
    for step, batch in enumerate(whole):
        assert sorted(batch) == sorted([*parts[0][step], *parts[1][step]])


def test_too_few_images_name_the_cure():
    with pytest.raises(CianError, match="too few for a batch of"):
        GroupSampler(*rows(random_tags(6)), 16, 2)


def test_work_is_linear_in_the_images(monkeypatch: pytest.MonkeyPatch):
    for name in ("_tags_in_order", "_places_by_tag", "_fill_groups", "_shares_with_all"):  # as plain Python, to count
        monkeypatch.setattr(sampler, name, getattr(sampler, name).py_func)

    def work(count: int) -> int:
        rng = np.random.default_rng(0)
        offsets = np.arange(0, 2 * count + 1, 2)
        ids = np.sort(rng.integers(1, 21, (count, 2)), axis=1).ravel().astype(np.int32)
        return lines_run(lambda: form_groups(ids, offsets, 2, rng))

    assert work(4000) < 5 * work(1000)  # 4 times if linear, 16 times if quadratic
