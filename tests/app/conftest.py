"""A tiny run, and the page's server on a copy of it."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("starlette", reason="needs `pip install '.[app]'`")
pytest.importorskip("httpx", reason="needs httpx")

from starlette.testclient import TestClient

import cian
from cian.app.project import Project
from cian.app.server import build
from tests.helpers import TINY, draw_images

TOKEN = "the-token"
HOST = "http://127.0.0.1:8000"
HELD_OUT = ("010", "011")  # the last two of twelve images


@pytest.fixture(scope="session", autouse=True)
def _threads_end() -> Iterator[None]:
    """Waits for what still looks at images: Python must not end while its threads compute."""
    yield
    for thread in threading.enumerate():
        if thread.name in ("cian-ranks", "cian-scan"):
            thread.join(60)


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on twelve images, of which two are held out."""
    root = tmp_path_factory.mktemp("app")
    data = draw_images(root, masks=True)
    names = [f"{i:03d}" for i in range(12)]
    (data / "train.txt").write_text("\n".join(name for name in names if name not in HELD_OUT), encoding="utf-8")
    (data / "val.txt").write_text("\n".join(HELD_OUT), encoding="utf-8")
    settings = {
        **TINY,
        "retrain.enabled": False,
        "data.masks": data / "masks",
        "data.classes": data / "classes.txt",
        "data.splits": {"train": data / "train.txt", "val": data / "val.txt"},
    }
    cian.run(data / "images", data / "tags.csv", root / "run", **settings)
    return root / "run"


@pytest.fixture
def run(tiny_run: Path, tmp_path: Path) -> Path:
    """A copy of the run, for a test that changes it."""
    return Path(shutil.copytree(tiny_run, tmp_path / "run"))


def client_of(run: Path) -> TestClient:
    return TestClient(build(Project(run), TOKEN), base_url=HOST, cookies={"cian": TOKEN})


@pytest.fixture
def client(run: Path) -> TestClient:
    return client_of(run)


@pytest.fixture(scope="session")
def looking(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> TestClient:
    """A client of a run that no test changes."""
    return client_of(Path(shutil.copytree(tiny_run, tmp_path_factory.mktemp("looking") / "run")))
