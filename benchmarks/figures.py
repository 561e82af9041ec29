"""What a benchmark measured: printed, and kept for the table that `make bench` writes (see `bench.py`)."""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Sequence
from pathlib import Path

KEPT_IN = "CIAN_FIGURES"  # environment variable: a file of JSON lines, one a figure


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Median [smallest, largest]; one value alone as it is."""
    texts = [f"{value:.{digits}f}" for value in (statistics.median(values), min(values), max(values))]
    return f"{texts[0]} [{texts[1]}, {texts[2]}]" if len(values) > 1 else texts[0]


def figure(
    name: str,
    values: Sequence[float],
    unit: str = "",
    *,
    most: float | None = None,
    least: float | None = None,
    digits: int = 2,
    note: str = "",
) -> None:
    """Prints a figure, and keeps it.

    Args:
        name: what was measured; of a ratio, "a / b".
        values: of the repetitions; the median counts.
        most, least: the aim, if there is one.
        digits: after the point; the aim is held against the rounded median, which is what the reader sees.
        note: what else is to be known, such as the times behind a ratio.
    """
    median = round(statistics.median(values), digits)
    measured = f"{spread(values, digits)}{unit and ' ' + unit}"
    aim = f"≤ {most:g}" if most is not None else f"≥ {least:g}" if least is not None else ""
    reached = (most is None or median <= most) and (least is None or median >= least)
    verdict = f" (aim {aim}: {'reached' if reached else 'MISSED'})" if aim else ""
    print(f"{name}: {measured}{verdict}{note and '; ' + note}", flush=True)
    if file := os.environ.get(KEPT_IN):
        row = {"name": name, "measured": measured, "aim": aim, "reached": reached, "note": note}
        with Path(file).open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(row, ensure_ascii=False) + "\n")
