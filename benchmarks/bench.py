"""Every figure of speed: runs the benchmarks one after the other and writes their table into docs/speed.md.

    python benchmarks/bench.py [--results FILE]

Each benchmark runs in another process. The table, with the commit, the machine and the versions, replaces the earlier
one between two markers in the file. If a benchmark fails or is interrupted, the file is not changed. Nothing else
should run at the same time.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from figures import KEPT_IN

HERE = Path(__file__).parent
BEGIN, END = "<!-- make bench: begin -->", "<!-- make bench: end -->"
RESNET = ["--backbone", "resnet50", "--stride", "8", "--crop", "321", "--batch", "4"]
LITE = ["--backbone", "tf_efficientnet_lite0", "--hidden", "128", "--batch", "8", "--precision", "fp32"]
COMMANDS = (
    ["startup.py"],
    ["groups.py"],
    ["crf.py"],
    ["limits.py"],
    ["predict.py"],
    ["overhead.py"],
    ["overhead.py", *RESNET, "--repetitions", "3", "--module-only"],
    ["plain.py"],
    ["plain.py", *LITE, "--repetitions", "3"],
)
PACKAGES = ("torch", "timm", "numpy", "numba", "pydensecrf2")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=HERE.parent / "docs" / "speed.md")
    options = parser.parse_args()
    before = options.results.read_text(encoding="utf-8")
    replaced(before, "")  # fails now rather than after minutes
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(folder) / "figures.jsonl"
        for command in COMMANDS:
            print(f"\n== {' '.join(command)}", flush=True)
            subprocess.run(
                [sys.executable, HERE / command[0], *command[1:]], check=True, env={**os.environ, KEPT_IN: str(kept)}
            )
        rows = [json.loads(line) for line in kept.read_text(encoding="utf-8").splitlines()]
    text = f"{machine()}\n\n{table(rows)}"
    options.results.write_text(replaced(before, text), encoding="utf-8")
    print(f"\n{text}\n\nwritten to {options.results}")


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown of figures as `figures.figure` keeps them."""
    lines = ["| figure | measured | aim | |", "|---|---|---|---|"]
    for row in rows:
        verdict = ("reached" if row["reached"] else "**missed**") if row["aim"] else ""
        note = f"; {row['note']}" if row["note"] else ""
        lines.append(f"| {row['name']} | {row['measured']}{note} | {row['aim']} | {verdict} |")
    return "\n".join(lines)


def machine() -> str:
    """When, of which commit, on what, with what: one line."""
    cpu = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.processor() or platform.machine(),
    )
    memory = next((int(line.split()[1]) for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), 0)
    flags = next((line.split() for line in _lines("/proc/cpuinfo") if line.startswith("flags")), [])
    vectors = " + ".join(name for name in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if name in flags)
    parts = (
        f"{datetime.date.today():%d %B %Y}, commit {_git('rev-parse', '--short', 'HEAD')}"
        f"{' with changes' if _git('status', '--porcelain', '--', 'src') else ''}",
        f"{os.cpu_count()} cores of {cpu}{vectors and f' ({vectors})'}",
        f"{memory / 2**20:.0f} GB",
        f"{platform.system()}, Python {platform.python_version()}",
        *(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES),
    )
    return ", ".join(parts) + ". Median [smallest, largest] of the repetitions:"


def replaced(text: str, table: str, first: str = BEGIN, last: str = END) -> str:
    """The text with another table between the markers.

    Raises:
        SystemExit: they are not there.
    """
    before, begin, rest = text.partition(first)
    _, end, after = rest.partition(last)
    if not begin or not end:
        raise SystemExit(f"the results need the lines {first} and {last}, between which the table is written")
    return f"{before}{begin}\n{table}\n{end}{after}"


def _lines(file: str) -> list[str]:
    path = Path(file)
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def _git(*arguments: str) -> str:
    result = subprocess.run(["git", *arguments], cwd=HERE.parent, capture_output=True, text=True)
    return result.stdout.strip() if result.returncode == 0 else "unknown"


if __name__ == "__main__":
    main()
