"""Files that are cut, emptied, overwritten, or have a bit flipped. The next run makes them again, and says so."""

from __future__ import annotations

import json
import random
import re
import signal
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

from tests.stress.forked import Ended, Forked, call
from tests.stress.mutations import spoiled
from tests.stress.stand import SHORT, Stand, Trials, copy, some, times, unlike

Way = Callable[[bytes, random.Random], bytes]  # makes damaged content

# A training that is long enough to be interrupted in the middle.
LONG = {**SHORT, "train.min_steps": 16, "runtime.checkpoint_seconds": 0.01}


def flipped(content: bytes, rng: random.Random) -> bytes:
    """The content with one bit changed."""
    changed = bytearray(content)
    changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def zeroed(content: bytes, _: random.Random) -> bytes:
    """The content whose last third was never written, as after a power failure."""
    kept = len(content) * 2 // 3
    return content[:kept] + bytes(len(content) - kept)


WAYS: dict[str, Way] = {
    "cut by a byte": lambda content, _: content[:-1],
    "cut in half": lambda content, _: content[: len(content) // 2],
    "emptied": lambda _, __: b"",
    "zeroed at its end": zeroed,
    "with a flipped bit": flipped,
}
RESULTS = ("classify/model.safetensors", "classify/cells.safetensors", "train/model.safetensors")
RESULTS += ("model/model.safetensors", "model/config.json", "seeds/*.png", "predictions/*.png", "metrics.json")


def files(stand: Stand, rng: random.Random, share: float) -> Trials:
    """A file of a finished run is damaged; the same command mends it."""
    for pattern, way in some(rng, [(pattern, way) for pattern in RESULTS for way in WAYS], share):
        yield f"{pattern} {way}", partial(_damage, stand, pattern, way, rng.random())


def _damage(stand: Stand, pattern: str, way: str, seed: float, folder: Path) -> list[str]:
    out, rng = copy(stand.whole(**SHORT), folder / "run"), random.Random(seed)
    path = rng.choice(sorted(out.glob(pattern)))
    path.write_bytes(WAYS[way](path.read_bytes(), rng))
    ended = call(stand.run(out, **SHORT), folder / "mended.log")
    return ended.wrong(0) or unlike(stand.whole(**SHORT), out)


def models(stand: Stand, rng: random.Random, share: float) -> Trials:
    """A model that somebody was given is damaged: `cian predict` refuses it, or gives a mask of each image."""
    names = ("config.json", "model.safetensors")
    for name, way in some(rng, [(name, way) for name in names for way in WAYS if way != "with a flipped bit"], share):
        yield f"{name} {way}", partial(_damage_model, stand, name, way)


def _damage_model(stand: Stand, name: str, way: str, folder: Path) -> list[str]:
    model = copy(stand.model, folder / "model")
    content = (model / name).read_bytes()
    (model / name).write_bytes(WAYS[way](content, random.Random(0)))
    args = ["predict", "--model", model, "--images", stand.data / "images", "--out", folder / "out"]
    harmless = name == "config.json" and way == "cut by a byte"  # the last line break
    ended = call(args, folder / "predict.log")
    return ended.wrong(0 if harmless else 1) + ["a mask was written"] * (not harmless and (folder / "out").exists())


def checkpoints(stand: Stand, rng: random.Random, share: float) -> Trials:
    """The checkpoint of an interrupted training is damaged: the training starts again, and never uses it."""
    for way in some(rng, list(WAYS), share):
        for _ in times(12 if way == "with a flipped bit" else 1, share):
            yield way, partial(_damage_checkpoint, stand, way, rng.random())


@cache
def _interrupted(stand: Stand) -> Path:
    """A run that was killed in the middle of a training."""
    out = stand.work / "interrupted"
    process = Forked(stand.run(out, **LONG), stand.work / "interrupted.log")
    log = out / "train" / "metrics.jsonl"
    process.ends_within(60, until=lambda: log.exists() and log.read_text().count("\n") > 1)
    process.send(signal.SIGKILL)
    assert process.wait().code == -signal.SIGKILL
    return out


def _damage_checkpoint(stand: Stand, way: str, seed: float, folder: Path) -> list[str]:
    out, rng = copy(_interrupted(stand), folder / "run"), random.Random(seed)
    (path,) = out.rglob("last.pt")
    path.write_bytes(WAYS[way](path.read_bytes(), rng))
    ended = call(stand.run(out, **LONG), folder / "resumed.log")
    wrong = ended.wrong(0) or unlike(stand.whole(**LONG), out)
    return wrong + ["does not say that the checkpoint is damaged"] * ("damaged" not in ended.text)


# What a record may hold after a power failure, or after somebody has edited it.
CONTENTS: dict[str, bytes] = {
    "empty": b"",
    "null": b"null",
    "a number": b"5\n",
    "a list": b"[]",
    "a map of nothing": b"{}",
    "a map of numbers": b'{"classify": 1, "train": 2, "seed": {"a": 1}}',
    "binary": bytes(range(256)),
    "zeros": bytes(500),
    "deep": b"[" * 100_000,
    "Latin-1": "data: {images: é}".encode("latin-1"),
}
RECORDS = ("stages.json", "config.yaml", "files.csv", "data.csv", "metrics.json", "train/metrics.jsonl")


def records(stand: Stand, rng: random.Random, share: float) -> Trials:
    """A record of a run holds something else: the same command mends it, or says how."""
    ways: dict[str, Way] = {what: lambda *_, content=content: content for what, content in CONTENTS.items()}
    pairs = [(name, what, way) for name in RECORDS for what, way in {**ways, **WAYS}.items()]
    pairs += [("stages.json", "one value replaced", _spoiled)] * 15
    for name, what, way in some(rng, pairs, share):
        yield f"{name}: {what}", partial(_replace, stand, name, way, rng.random())


def _spoiled(content: bytes, rng: random.Random) -> bytes:
    return json.dumps(spoiled(json.loads(content), rng)[0]).encode()


def _replace(stand: Stand, name: str, way: Way, seed: float, folder: Path) -> list[str]:
    out = copy(stand.whole(**SHORT), folder / "run")
    path = out / name
    path.write_bytes(way(path.read_bytes(), random.Random(seed)))
    (out / "report.html").unlink()  # so that records are read
    ended = _cured(stand, out, folder)
    return ended.wrong(0) or [text for text in unlike(stand.whole(**SHORT), out) if not text.startswith(name)]


def _cured(stand: Stand, out: Path, folder: Path) -> Ended:
    """Runs a command, and where it fails does what its message says."""
    ended = call(stand.run(out, **SHORT), folder / "first.log")
    if ended.wrong(1):
        return ended
    found = re.search(r"cian: (\S+?)(, line \d+)?: .*[Rr]emove it", ended.text, re.DOTALL)
    if found:
        Path(found[1]).unlink()
    return call([*stand.run(out, **SHORT), *["--overwrite"] * ("--overwrite" in ended.text)], folder / "cured.log")


def changes(stand: Stand, rng: random.Random, share: float) -> Trials:
    """Images are deleted, damaged or replaced while a run trains, and put back afterwards."""
    whats = ["deleted", "overwritten", "cut", "replaced by another image"]
    for what, workers in some(rng, [(what, workers) for what in whats for workers in (0, 2)], share):
        yield f"{what} while it trains, {workers} workers", partial(_change_images, stand, what, workers)


def _change_images(stand: Stand, what: str, workers: int, folder: Path) -> list[str]:
    data, out = copy(stand.data, folder / "data"), folder / "run"
    files = sorted((data / "images").iterdir())
    kept = {file: file.read_bytes() for file in files}
    settings = {**LONG, "runtime.workers": workers}
    process = Forked(stand.run(out, data, **settings), folder / "changed.log")
    log = out / "classify" / "metrics.jsonl"
    process.ends_within(60, until=log.exists)
    for file in files:
        if what == "deleted":
            file.unlink()
        else:
            other = kept[files[0]] if what.startswith("replaced") else b"no image"
            file.write_bytes(kept[file][: len(kept[file]) // 2] if what == "cut" else other)
    wrong = process.wait().wrong(0, 1)
    for file, content in kept.items():
        file.write_bytes(content)
    ended = call(stand.run(out, data, **settings), folder / "restored.log")
    expected = stand.whole(**settings)
    return wrong + (ended.wrong(0) or [text for text in unlike(expected, out) if not text.startswith("data.csv")])
