"""The table keeps images, tags, splits and masks together through every selection."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cian.data.table import TRAIN, Table


@pytest.fixture
def table() -> Table:
    return Table.build(
        ["cat", "dog", "yak"],
        ["a", "b", "x/c", "d"],
        [Path("a.jpg"), Path("b.png"), Path("x/c.jpg"), Path("d.jpg")],
        [[2, 1, 2], [], None, [3]],
        ["val", "train", "test", "train"],
        [Path("a.png"), None, Path("c.png"), None],
    )


def test_names(table: Table) -> None:
    assert len(table) == 4
    assert table.num_classes == 4
    assert table.class_names == ("background", "cat", "dog", "yak")
    assert table.split_names == ("train", "val", "test")


def test_tags(table: Table) -> None:
    assert [table.tags(i).tolist() for i in range(4)] == [[1, 2], [], [], [3]]
    assert table.tagged.tolist() == [True, True, False, True]
    assert table.tag_offsets.tolist() == [0, 2, 2, 2, 3]
    assert table.tag_ids.dtype == np.int32
    assert table.tag_offsets.dtype == np.int64


def test_allowed(table: Table) -> None:
    assert table.allowed(0).tolist() == [True, True, True, False]
    assert table.allowed(1).tolist() == [True, False, False, False]
    assert table.allowed(2).tolist() == [True, True, True, True]  # its tags are unknown


def test_multi_hot(table: Table) -> None:
    hot = table.multi_hot()
    assert hot.dtype == np.float32
    assert hot.tolist() == [[1, 1, 0], [0, 0, 0], [0, 0, 0], [0, 0, 1]]


def test_select(table: Table) -> None:
    chosen = table.select(np.array([2, 0]))
    assert chosen.ids == ("x/c", "a")
    assert chosen.images == (Path("x/c.jpg"), Path("a.jpg"))
    assert chosen.splits == ("test", "val")
    assert chosen.masks == (Path("c.png"), Path("a.png"))
    assert chosen.tagged.tolist() == [False, True]
    assert [chosen.tags(i).tolist() for i in range(2)] == [[], [1, 2]]
    assert chosen.classes == table.classes


def test_split_and_with_masks(table: Table) -> None:
    assert table.split(TRAIN).ids == ("b", "d")
    assert table.with_masks().ids == ("a", "x/c")
    empty = table.split("none")
    assert len(empty) == 0
    assert empty.multi_hot().shape == (0, 3)
    assert empty.split_names == ()
    assert len(empty.select([])) == 0


def test_defaults() -> None:
    table = Table.build(["cat"], ["a"], [Path("a.jpg")], [[1]])
    assert table.splits == (TRAIN,)
    assert table.masks == (None,)
