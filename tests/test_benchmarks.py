"""What `make bench` writes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from cian.evaluation.metrics import Confusion

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> tuple[ModuleType, ModuleType]:
    """The modules `figures` and `bench`."""
    monkeypatch.syspath_prepend(FOLDER)
    for name in ("figures", "bench"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    import bench
    import figures

    return figures, bench


def kept(figures: ModuleType, monkeypatch: pytest.MonkeyPatch, file: Path, *arguments: Any, **options: Any) -> dict:
    monkeypatch.setenv(figures.KEPT_IN, str(file))
    figures.figure(*arguments, **options)
    return json.loads(file.read_text(encoding="utf-8").splitlines()[-1])


def test_the_median_is_held_against_the_aim(scripts, monkeypatch, tmp_path):
    figures, _ = scripts
    file = tmp_path / "figures.jsonl"
    row = kept(figures, monkeypatch, file, "a / b", [1.4, 1.1, 1.2], most=1.2, note="two")
    assert row == {"name": "a / b", "measured": "1.20 [1.10, 1.40]", "aim": "≤ 1.2", "reached": True, "note": "two"}
    assert not kept(figures, monkeypatch, file, "a / b", [1.4, 1.1, 1.21], most=1.2)["reached"]
    assert kept(figures, monkeypatch, file, "a / b", [4], "×", least=4)["measured"] == "4.00 ×"
    assert not kept(figures, monkeypatch, file, "a / b", [3.9], "×", least=4)["reached"]
    assert kept(figures, monkeypatch, file, "a", [3.9])["aim"] == ""


def test_the_table_replaces_the_one_before(scripts):
    _, bench = scripts
    rows = [
        {"name": "a / b", "measured": "1.20", "aim": "≤ 1.2", "reached": True, "note": "two"},
        {"name": "c", "measured": "3 s", "aim": "≤ 2", "reached": False, "note": ""},
        {"name": "d", "measured": "3 s", "aim": "", "reached": True, "note": ""},
    ]
    table = bench.table(rows)
    assert table.splitlines()[2:] == [
        "| a / b | 1.20; two | ≤ 1.2 | reached |",
        "| c | 3 s | ≤ 2 | **missed** |",
        "| d | 3 s |  |  |",
    ]
    first = bench.replaced(f"before\n{bench.BEGIN}\nold\n{bench.END}\nafter\n", table)
    assert first == f"before\n{bench.BEGIN}\n{table}\n{bench.END}\nafter\n"
    assert bench.replaced(first, table) == first
    with pytest.raises(SystemExit, match="need the lines"):
        bench.replaced("no place for it", table)


def test_results_have_a_place_for_the_table(scripts):
    _, bench = scripts
    text = (FOLDER.parent / "docs" / "speed.md").read_text(encoding="utf-8")
    assert bench.replaced(text, "new") != text
    assert all((FOLDER / command[0]).is_file() for command in bench.COMMANDS)


def test_machine_says_what_ran_where(scripts):
    _, bench = scripts
    said = bench.machine()
    assert "commit" in said and "torch" in said and "cores of" in said


@pytest.mark.parametrize(
    ("correction", "expected"),
    [
        ("background", [0, 0, 2, 0, 255, 1, 1]),
        ("missed", [0, 1, 2, 1, 255, 1, 1]),
        ("classes", [0, 1, 1, 0, 255, 1, 1]),
        ("all", [0, 0, 1, 1, 255, 1, 1]),
    ],
)
def test_seeds_are_corrected_in_one_respect(monkeypatch, correction, expected):
    monkeypatch.syspath_prepend(FOLDER)
    import corrected

    seeds = np.array([[0, 1, 2, 0, 255, 1, 1]], np.uint8)
    truth = np.array([[0, 0, 1, 1, 1, 1, 255]], np.uint8)
    assert corrected.corrected(seeds, truth, correction).tolist() == [expected]


def test_wrong_labels_are_counted(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    import corrected

    seeds = np.array([[0, 1, 2, 0, 255, 1, 1, 0, 0]], np.uint8)
    truth = np.array([[0, 0, 1, 1, 1, 1, 255, 0, 0]], np.uint8)
    confusion = Confusion(3)
    confusion.add(seeds, truth)
    said = corrected.wrong(confusion.counts)
    assert "object labels 33.3 % lie on background; of the others 50.0 %" in said and "labels 25.0 %" in said
    assert "object labels – lie" in corrected.wrong(Confusion(3).counts)


def test_table_of_voc_has_gains_and_shares(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    import voc

    def entry(*values, with_crf=None):
        runs = {str(seed): {"miou": value, "miou_crf": with_crf} for seed, value in enumerate(values, 3)}
        return {"group": "steps", "runs": runs}

    scores = {
        "completion": entry(41.0, 43.0),
        "baseline": entry(40.0, 41.0),
        "full-supervision": entry(50.0, 50.0),
    }
    assert voc.scores_table(scores, ["3", "4"]).splitlines()[2:] == [
        "| baseline | 40.00 | 41.00 | 40.50 ± 0.71 |  | 81.0 % |",
        "| completion | 41.00 | 43.00 | 42.00 ± 1.41 | +1.00, +2.00: +1.50 ± 0.71 | 84.0 % |",
        "| full-supervision | 50.00 | 50.00 | 50.00 ± 0.00 | +10.00, +9.00: +9.50 ± 0.71 |  |",
    ]
    alone = voc.scores_table({"completion": entry(41.0, with_crf=42.0)}, ["3"]).splitlines()[2:]
    assert alone == ["| completion | 41.00 | 41.00 |  |  |", "| completion, with CRF | 42.00 | 42.00 |  |  |"]


# What labels bring.


@pytest.fixture
def labels(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module `labels`."""
    monkeypatch.syspath_prepend(FOLDER)
    import labels

    return labels


def two_objects() -> np.ndarray:
    """Two objects, an ignored border around one of them, and a speck that is too small for a label."""
    mask = np.zeros((120, 160), np.uint8)
    mask[20:60, 10:50] = 255
    mask[22:58, 12:48] = 3
    mask[70:80, 60:150] = 5
    mask[2:5, 150:153] = 5
    return mask


@pytest.mark.parametrize(("kind", "background"), [("strokes", 1), ("clicks", 2)])
def test_a_stroke_or_a_click_lies_in_each_object(labels, kind, background):
    mask = two_objects()
    found = labels.drawn(mask, kind)
    assert np.array_equal(found, labels.drawn(mask, kind))
    known = found != 255
    assert np.array_equal(found[known], mask[known]) and known.mean() < 0.1
    assert {int(i): count_parts(found == i) for i in np.unique(found[known])} == {0: background, 3: 1, 5: 1}
    rows, columns = np.nonzero(found == 5)
    assert rows.min() > 70 and rows.max() < 79  # it keeps to the middle
    assert (np.ptp(columns) > 60) == (kind == "strokes")


def test_strokes_of_objects_of_all_shapes_stay_inside(labels):
    rng = np.random.default_rng(0)
    for size in (1, 2, 3, 40):
        mask = np.zeros((60, 80), np.uint8)
        mask[30 : 30 + size, 5 : 5 + rng.integers(1, 60)] = 7
        mask[:, 79] = 2  # one pixel wide
        for kind in ("strokes", "clicks"):
            found = labels.drawn(mask, kind)
            assert set(np.unique(found)) >= {0, 2, 7}
            assert np.array_equal(found[found != 255], mask[found != 255])
    object_alone = labels.drawn(np.full((40, 40), 4, np.uint8), "strokes")
    assert set(np.unique(object_alone)) == {4, 255}
    assert np.array_equal(labels.drawn(mask, "masks"), mask)


def count_parts(region: np.ndarray) -> int:
    from scipy.ndimage import label

    return label(region, np.ones((3, 3)))[1]


def result(kind: str, images: int, seed: int, miou: float, alone: bool = False) -> dict[str, Any]:
    return {
        "data": "VOC", "kind": kind, "images": images, "of": 600, "order": "random", "alone": alone, "seed": seed,
        "settings": {}, "miou": {"val": miou}, "with_crf": {"val": miou + 2}, "seeds": 50.0, "commit": "1",
    }  # fmt: skip


def test_results_of_all_random_seeds_make_a_row_with_a_persons_time(labels, tmp_path):
    file = tmp_path / "results" / "labels.json"
    for each in (
        result("masks", 600, 0, 50.0),
        result("tags", 0, 0, 39.0),
        result("tags", 0, 1, 41.0),
        result("masks", 60, 0, 30.0),
        result("masks", 60, 0, 45.0),  # the same run again, of another version
        result("masks", 60, 0, 20.0, alone=True),
    ):
        labels.keep(each, file)
    results = json.loads(file.read_text(encoding="utf-8"))
    assert labels.tables(results).splitlines()[4:] == [
        "| tags | 0 | 3.3 | 40.00 ± 1.41 | 80.0 % | 42.00 ± 1.41 | 80.8 % |",
        "| masks alone | 60 | 4.0 | 20.00 | 40.0 % | 22.00 | 42.3 % |",
        "| tags and masks | 60 | 7.0 | 45.00 | 90.0 % | 47.00 | 90.4 % |",
        "| tags and masks | 600 | 40.0 | 50.00 | 100.0 % | 52.00 | 100.0 % |",
    ]
    labels.draw(results, tmp_path / "labels.png")
    assert (tmp_path / "labels.png").read_bytes().startswith(b"\x89PNG")
