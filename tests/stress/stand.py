"""What the trials share: a small data set, whole runs of it, a trained model, and how two runs are compared."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path

from tests.helpers import TINY, draw_images, options
from tests.stress.forked import Ended, call

# A run with every stage, in seconds. It writes a checkpoint after each step.
STEPS = 8
SETTINGS = {
    "classify.min_steps": STEPS,
    "train.min_steps": STEPS,
    "seeds.scales": [1.0],
    "seeds.crf.iterations": 1,
    "compare": True,
    "data.val_fraction": 0.25,
    "runtime.checkpoint_seconds": 0.01,
}
# As little as a run can be.
SHORT = {
    "classify.min_steps": 2,
    "train.min_steps": 2,
    "retrain.enabled": False,
    "compare": False,
    "data.val_fraction": 0,
    "runtime.checkpoint_seconds": 60,
}

OWN = ("files.csv", "stages.json", "fingerprints/")  # records that hold times

# What a trial is, and what tries it: in an empty folder; returns what was wrong.
Trial = tuple[str, Callable[[Path], list[str]]]
Trials = Iterator[Trial]
# Makes the trials of one item. The last argument is their share of a whole soak.
Item = Callable[["Stand", random.Random, float], Trials]


class Stand:
    """
    Args:
        work: the folder for everything that is written.
    """

    def __init__(self, work: Path):
        self.work = work
        self._whole: dict[str, Path] = {}
        self.home = work / "home"
        self.home.mkdir(parents=True, exist_ok=True)
        self._temporary = tempfile.TemporaryDirectory(prefix="cian-")  # not in `work`, whose path may be long
        self.temporary = Path(self._temporary.name)
        os.environ.update(HOME=str(self.home), TMPDIR=str(self.temporary), HF_HUB_OFFLINE="1")

    @cached_property
    def data(self) -> Path:
        return draw_images(self.work, count=8, masks=True)

    def run(self, out: Path, data: Path | None = None, **settings) -> list[str]:
        """The arguments of `cian` for a run of the data set."""
        return ["run", *options(data or self.data, out, **{**SETTINGS, **settings})]

    def whole(self, **settings) -> Path:
        """A run that nothing has disturbed. It is not to be changed."""
        key = json.dumps({**TINY, **SETTINGS, **settings}, sort_keys=True)
        if key not in self._whole:
            out = self.work / f"whole-{len(self._whole)}"
            ended = call(self.run(out, **settings), self.work / f"{out.name}.log")
            assert ended.code == 0, ended.text
            self._whole[key] = out
            (out.with_suffix(".seconds")).write_text(str(ended.seconds))
        return self._whole[key]

    def seconds(self, **settings) -> float:
        """How long that run took."""
        return float(self.whole(**settings).with_suffix(".seconds").read_text())

    @cached_property
    def model(self) -> Path:
        return self.whole(**SHORT) / "model"


def copy(folder: Path, target: Path) -> Path:
    """A copy, with the times of the files."""
    shutil.copytree(folder, target, symlinks=True)
    return target


def results(run: Path) -> dict[str, str]:
    """A fingerprint of each file that two runs have in common, by name: weights, masks, tables, scores, losses."""
    found = {}
    for file in sorted(path for path in run.rglob("*") if path.is_file()):
        name = file.relative_to(run).as_posix()
        if name.endswith("metrics.jsonl"):  # the speed differs
            found[name] = "\n".join(map(_without_speed, file.read_text(errors="replace").splitlines()))
        elif file.suffix in (".safetensors", ".png", ".csv", ".json") and not name.startswith(OWN):
            found[name] = hashlib.sha256(file.read_bytes()).hexdigest()
    return found


def _without_speed(line: str) -> str:
    """A line of a log, which may be damaged, without the speed."""
    try:
        content = json.loads(line)
    except (ValueError, RecursionError):
        return line
    return json.dumps({**content, "images_per_second": None} if isinstance(content, dict) else content)


def unlike(whole: Path, run: Path) -> list[str]:
    """What differs from an undisturbed run, and what a disturbed one has left."""
    expected, found = results(whole), results(run)
    wrong = [f"{name} is missing" for name in expected if name not in found]
    wrong += [f"{name} should not exist" for name in found if name not in expected]
    wrong += [f"{name} differs" for name in expected if name in found and expected[name] != found[name]]
    return wrong + left(run)


def left(folder: Path) -> list[str]:
    """What a killed process has left, and nobody has removed."""
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*")] if folder.is_dir() else []
    return [f"left: {name}" for name in names if ".cian-tmp-" in name or name.endswith("last.pt")]


def resumed(stand: Stand, folder: Path, out: Path, **settings) -> list[str]:
    """What is wrong after the same command has run to its end: it must give the same bits as an undisturbed run."""
    ended = call(stand.run(out, **settings), folder / "resumed.log")
    return ended.wrong(0) or unlike(stand.whole(**settings), out)


def times(most: int, share: float) -> range:
    """The numbers of the trials."""
    return range(max(1, round(most * share)))


def some(rng: random.Random, things: list, share: float) -> list:
    """All things in a whole soak, else a sample."""
    return things if share >= 1 else rng.sample(things, max(1, round(len(things) * share)))


def says(ended: Ended, *words: str) -> list[str]:
    """The words that a message lacks."""
    return [f"does not say {word!r}: {ended.text.strip()[-300:]}" for word in words if word not in ended.text]
