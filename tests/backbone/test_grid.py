from __future__ import annotations

import pytest
import torch

from cian.backbone.grid import Grid

CORNER = Grid(8, "corner", (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
CENTRE = Grid(16, "centre", (0.0, 0.5, 1.0), (1.0, 1.0, 1.0))


@pytest.mark.parametrize(
    ("grid", "size", "expected"),
    [
        (CORNER, (321, 320), (321, 321)),
        (CORNER, (1, 9), (1, 9)),
        (CORNER, (2, 10), (9, 17)),
        (CENTRE, (1, 16), (16, 16)),
        (CENTRE, (17, 32), (32, 32)),
    ],
)
def test_size_is_the_next_that_fits(grid, size, expected):
    assert grid.size(*size) == expected == grid.size(*expected)


def test_cells_take_the_label_at_their_centre():
    assert CORNER.cells(torch.arange(17)[None, None])[0].tolist() == [[0, 8, 16]]
    assert CENTRE.cells(torch.arange(32).expand(1, 32, 32))[0].tolist() == [[8, 24], [8, 24]]


@pytest.mark.parametrize("grid", [CORNER, CENTRE])
def test_upsampled_cells_keep_their_place(grid):
    """A ramp over the cells becomes a ramp over the pixels, with the cells' values at the cells' centres."""
    side, _ = grid.size(5 * grid.stride, 1)
    cells = grid.cells(torch.arange(side)[None, None].expand(1, side, side))[0, 0].float()
    if not grid.corner:
        cells = cells - 0.5  # the centre of a patch lies between two pixels
    found = grid.upsample(cells.expand(1, 1, len(cells), len(cells)), (side, side))[0, 0, 0]
    inner = slice(int(cells[0]) + 1, int(cells[-1]))
    torch.testing.assert_close(found[inner], torch.arange(side, dtype=torch.float32)[inner])


def test_normalised_mean_colour_is_zero():
    pixels = torch.tensor(CORNER.mean_colour, dtype=torch.uint8)[None, :, None, None].expand(2, 3, 4, 5)
    normalised = CORNER.normalise(pixels)
    assert normalised.shape == (2, 3, 4, 5) and normalised.abs().max() < 0.01
    assert CENTRE.mean_colour == (0, 128, 255)


def test_scaled_to_a_size_that_fits():
    pixels = CORNER.as_input(torch.zeros(50, 30, 3, dtype=torch.uint8).numpy(), torch.device("cpu"))
    assert pixels.shape == (1, 3, 50, 30)
    assert CORNER.scaled(pixels, 1.5).shape[2:] == CORNER.size(75, 45)
    fitting = pixels[:, :, :49, :25]
    assert CORNER.scaled(fitting, 1.0) is fitting
