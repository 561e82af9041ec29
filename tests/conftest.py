from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:  # several of them share the cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

from tests.helpers import draw_images, heed_signals

heed_signals()

LONGEST = (
    "test_distributed.py",
    "test_faults.py",
    "test_stress.py",
    "test_recipes.py",
    "test_run.py",
    "test_docs.py",
    "test_page.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, so that no worker is left with one of them at the end."""
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


@pytest.fixture
def drawn(tmp_path: Path) -> Callable[..., Path]:
    """`draw_images` into the test's own folder."""
    return partial(draw_images, tmp_path)
