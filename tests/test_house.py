"""The packages import each other in one direction."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

UPWARDS = {("inference", "export")}  # a model that is saved or uploaded writes its card, which shows its predictions
SOURCE = Path(__file__).parents[1] / "src/cian"


def _imported(tree: ast.AST) -> Iterator[str]:
    """The names of modules that are imported when the code runs, at the top and in functions."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{name.name}" for name in node.names)
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        yield from _imported(node)


def _graph() -> dict[str, set[str]]:
    """The packages and modules in `src/cian`, and which others each of them imports."""
    names = {path.stem for path in SOURCE.iterdir()} - {"__init__", "__pycache__"}
    graph: dict[str, set[str]] = {name: set() for name in names}
    for path in SOURCE.rglob("*.py"):
        own = path.relative_to(SOURCE).with_suffix("").parts[0]
        parts = (name.split(".") for name in _imported(ast.parse(path.read_text())))
        graph.setdefault(own, set()).update(part[1] for part in parts if part[0] == "cian" and len(part) > 1)
    return {name: (graph[name] & names) - {name} for name in names}


def test_packages_import_each_other_in_no_circle() -> None:
    graph = _graph()
    assert {"formats", "data"} <= graph["reading"] and "pipeline" in graph["cli"]
    for low, high in UPWARDS:
        graph[low].remove(high)
    list(TopologicalSorter(graph).static_order())  # a CycleError names the circle
