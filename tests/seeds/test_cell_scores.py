from __future__ import annotations

import numpy as np
import pytest
import torch

from cian.seeds.cell_scores import CellScores, LabelledCells
from cian.seeds.estimate_cells import labelled_cells

BOAT, WATER, LAND, COW = torch.eye(4)  # what a cell shows, as features


@pytest.fixture
def scores() -> CellScores:
    """Boats (tag 1) and the water around them were guessed to be objects, as cows (tag 2) were."""
    scores = CellScores(channels=4, detail_channels=2, num_tags=2)
    cells = torch.stack([BOAT, WATER, LAND, COW]).repeat(50, 1) + 0.01 * torch.randn(200, 4, generator=_generator())
    detail = torch.randn(200, 2, generator=_generator())
    tags = torch.eye(2)
    scores.estimate([cells[:100], cells[100:]], tags)
    scores.guessed = scores.estimate_objectness(cells, detail, torch.tensor([True, True, False, True]).repeat(50))
    return scores


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def objectness(scores: CellScores, cell: torch.Tensor, tag: int) -> float:
    found = scores(cell.view(1, 4, 1, 1), torch.zeros(1, 2, 1, 1))[1]
    return found[0, min(tag, found.shape[1]) - 1].item()


def test_labelled_water_becomes_background_where_boats_are(scores):
    assert objectness(scores, WATER, 1) > 0.6
    y = scores.described(torch.stack([BOAT, WATER]), torch.zeros(2, 2))
    scores.learn_objectness(
        scores.guessed, [LabelledCells(frozenset({1}), y[:1].expand(200, -1), y[1:].expand(200, -1))] * 3
    )
    assert objectness(scores, WATER, 1) < 0.4 < 0.6 < objectness(scores, WATER, 2)
    assert objectness(scores, BOAT, 1) > 0.9


def test_a_click_counts_less_than_a_mask(scores):
    before, found = objectness(scores, WATER, 1), {}
    y = scores.described(torch.stack([BOAT, WATER]), torch.zeros(2, 2))
    for cells in (1, 100):
        scores.learn_objectness(
            scores.guessed, [LabelledCells(frozenset({1}), y[:1].expand(cells, -1), y[1:].expand(cells, -1))] * 3
        )
        found[cells] = before - objectness(scores, WATER, 1)
    assert 0 < found[1] < found[100] / 2


def test_without_labelled_cells_every_tag_keeps_the_guesses(scores):
    before = [objectness(scores, cell, 1) for cell in (BOAT, WATER, LAND, COW)]
    scores.learn_objectness(scores.guessed, [])
    for tag in (1, 2):
        assert [objectness(scores, cell, tag) for cell in (BOAT, WATER, LAND, COW)] == pytest.approx(before, abs=1e-6)


def test_scores_of_each_tag_are_saved_and_loaded(scores):
    y = scores.described(torch.stack([BOAT, WATER]), torch.zeros(2, 2))
    scores.learn_objectness(scores.guessed, [LabelledCells(frozenset({1}), y[:1], y[1:])])
    other = CellScores(4, 2, 2)
    other.load_state_dict(scores.state_dict())
    assert objectness(other, WATER, 2) == objectness(scores, WATER, 2)


def test_cells_of_a_label_map():
    """Four cells: mostly object, background, half and half, not labelled. A single pixel is enough."""
    labels = np.full((4, 16), 255, np.uint8)
    labels[:, :3], labels[0, 3] = 2, 0
    labels[1, 5] = 0
    labels[0, 8:10], labels[1, 8:10] = 1, 0
    inside, outside = labelled_cells(labels, (1, 4))
    assert inside.tolist() == [[True, False, False, False]] and outside.tolist() == [[False, True, False, False]]
