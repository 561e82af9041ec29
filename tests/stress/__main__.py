"""Runs the trials and prints a table: what was tried, and what failed.

python -m tests.stress --minutes 60              all, as far as this time goes: `make soak`
python -m tests.stress --share 0.05 csv kills    a part of some items
python -m tests.stress --seeds 3 --trial 17 csv  one trial again; its files are kept
"""

from __future__ import annotations

import argparse
import datetime
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.helpers import heed_signals
from tests.stress import (
    damage,
    hostile_images,
    hostile_labels,
    hostile_models,
    hostile_settings,
    hostile_tags,
    kills,
    machine,
)
from tests.stress.stand import Item, Stand

GROUPS: dict[str, tuple[Item, ...]] = {
    "runs": (
        *(kills.kills, kills.signals, kills.alone, kills.predictions, kills.together),
        *(damage.files, damage.models, damage.checkpoints, damage.records, damage.changes),
        *(machine.disks, machine.limits, machine.clocks, machine.terminals, machine.growth),
    ),
    "inputs": (
        *(hostile_tags.csv, hostile_tags.json_tags, hostile_tags.coco, hostile_tags.xml, hostile_tags.lists),
        *(hostile_tags.submissions, hostile_labels.labels, hostile_images.images, hostile_images.masks),
        *(hostile_models.configurations, hostile_models.weights, hostile_models.outputs),
        *(hostile_settings.yaml, hostile_settings.arguments),
    ),
}
NAMES = {item.__name__: item for group in GROUPS.values() for item in group}
BEGIN, END = "<!-- make soak: begin -->", "<!-- make soak: end -->"
SHOWN = 5  # failures of one trial


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("items", nargs="*", metavar="ITEM", help=f"{', '.join(GROUPS)}, {', '.join(NAMES)}")
    parser.add_argument("--share", type=float, default=1.0, help="share of a whole soak")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="random seeds, which trials take in turn")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="after which no trial starts")
    parser.add_argument("--trial", type=int, help="the number of one trial")
    parser.add_argument("--work", type=Path, help="where the folder of all files is made")
    parser.add_argument("--page", type=Path, help="the page that the table is written into")
    options = parser.parse_args()
    if unknown := [name for name in options.items if name not in NAMES.keys() | GROUPS.keys()]:
        parser.error(f"no item is called {unknown[0]}")
    heed_signals()
    work = Path(tempfile.mkdtemp(prefix="cian-stress-", dir=options.work))
    stand, rows, start = Stand(work.resolve()), [], time.monotonic()
    for item in [item for name in options.items or GROUPS for item in GROUPS.get(name) or [NAMES[name]]]:
        rows.append((item.__name__, *_run(item, stand, options, start + 60 * options.minutes)))
        text = table(rows, options, time.monotonic() - start)
        if options.page:
            before, begin, rest = options.page.read_text(encoding="utf-8").partition(BEGIN)
            options.page.write_text(f"{before}{begin}\n{text}\n{END}{rest.partition(END)[2]}", encoding="utf-8")
    print(f"\n{text}")
    failed = sum(row[3] for row in rows)
    if not failed and options.trial is None:
        shutil.rmtree(work)
    return int(bool(failed))


def table(rows: list[tuple[str, int, int, int]], options: argparse.Namespace, seconds: float) -> str:
    """Markdown: what was tried, when, and what failed."""
    lines = ["| item | what is tried | tried | failed |", "|---|---|---|---|"]
    for name, tried, drawn, failed in rows:
        about = (NAMES[name].__doc__ or "").partition("\n")[0]
        count = f"{tried} of {drawn}" if tried < drawn else tried or "not here"
        lines.append(f"| `{name}` | {about} | {count} | {failed} |")
    command = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(command, capture_output=True, text=True).stdout.strip()
    head = f"{datetime.date.today():%d %B %Y}, commit {commit}, random seeds {', '.join(map(str, options.seeds))}, "
    head += f"{seconds / 60:.0f} minutes:"
    head += f" {sum(row[1] for row in rows)} tried, {sum(row[3] for row in rows)} failed."
    return "\n".join([head, "", *lines])


def _run(item: Item, stand: Stand, options: argparse.Namespace, end: float) -> tuple[int, int, int]:
    """The numbers of trials: tried before `end`, drawn, and failed."""
    name, tried, number, failed = item.__name__, 0, -1, 0
    start, used = time.monotonic(), _cpu_seconds()
    drawn = [item(stand, random.Random(f"{name} {seed}"), options.share) for seed in options.seeds]
    for number, choices in enumerate(zip(*drawn, strict=True)):
        what, act = choices[number % len(choices)]
        if options.trial not in (None, number) or time.monotonic() > end:
            continue
        folder = stand.work / f"{name}-{number}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        wrong = act(folder)
        tried += 1
        if wrong:
            failed += 1
            more = f" (and {len(wrong) - SHOWN} more)" * (len(wrong) > SHOWN)
            print(f"FAILED {name} {number}, {what}: {'; '.join(wrong[:SHOWN])}{more}", flush=True)
        elif options.trial is None:
            shutil.rmtree(folder)
        if options.trial is not None:
            print(f"{what}: {wrong or 'ok'}; files in {folder}")
    took, used = time.monotonic() - start, _cpu_seconds() - used
    print(f"{name}: {tried} tried, {failed} failed, {took:.0f} s ({used:.0f} s of a core)", flush=True)
    return tried, number + 1, failed


def _cpu_seconds() -> float:
    """What this process and those that it has waited for have used."""
    return sum(os.times()[:4])


if __name__ == "__main__":
    sys.exit(main())
