"""The documentation as a site: it builds without a warning, holds every page, and its links lead somewhere."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.workspace import ROOT


def test_the_site_builds_without_a_warning() -> None:
    for name in ("zensical", "mkdocstrings"):
        pytest.importorskip(name, reason="needs pip install '.[docs]'")
    done = subprocess.run([ROOT / ".ci/docs", sys.executable], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    site = ROOT / "build/site"
    found = json.loads((site / "search.json").read_text(encoding="utf-8"))
    assert "saliency network" in json.dumps(found)
    reference = (site / "docs/api.html").read_text(encoding="utf-8")
    assert "The messages in a batch of groups" in reference  # the docstring of cross_image_affinity


def test_every_page_is_in_the_menu() -> None:
    menu = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert not [
        page.name for page in ROOT.glob("docs/*.md") if f"- docs/{page.name}\n" not in menu and page.stem != "index"
    ]


@pytest.mark.parametrize(
    "target", ["b.html", "a.html#no-such", "#no-such", "folder", "https://example.org/x.js", "//example.org/x.js"]
)
def test_broken_links_are_found(tmp_path: Path, target: str) -> None:
    spec = importlib.util.spec_from_file_location("links", ROOT / ".ci/links.py")
    assert spec is not None and spec.loader is not None
    links = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(links)
    (tmp_path / "folder").mkdir()
    (tmp_path / "a.html").write_text('<h1 id="top">A</h1><a href="#top">up</a><a href="https://example.org/">other</a>')
    assert not links.broken(tmp_path)
    (tmp_path / "c.html").write_text(f'<script src="{target}"></script>')
    assert links.broken(tmp_path) == [f"c.html: {target}"]
