"""Processes that are killed, interrupted, or not alone. The same command then gives the same bits."""

from __future__ import annotations

import json
import random
import signal
import time
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tests.stress.forked import Forked, call
from tests.stress.stand import SHORT, STEPS, Stand, Trials, left, results, resumed, says, some, times, unlike

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}
END_SECONDS = 60  # within which a signal ends a run, also on a busy machine


def kills(stand: Stand, rng: random.Random, share: float) -> Trials:
    """kill -9 of a run and of what it has started, at random moments."""
    for i in times(26, share):  # 104 kills
        workers, count = (2, 0, 0)[i % 3], 4
        moments = [rng.uniform(0.03, 1.3 / count) for _ in range(count)]
        shown = ", ".join(f"{moment:.0%}" for moment in moments)
        yield f"at {shown} of the time, {workers} workers", partial(_kill, stand, moments, workers)


def _kill(stand: Stand, moments: list[float], workers: int, folder: Path) -> list[str]:
    settings = {"runtime.workers": workers}
    whole, seconds = stand.whole(**settings), stand.seconds(**settings)
    out, log = folder / "run", folder / "killed.log"
    wrong: list[str] = []
    done: dict[Path, int] = {}
    for moment in moments:
        process = Forked(stand.run(out, **settings), log)
        if process.ends_within(moment * seconds):
            break
        process.send(signal.SIGKILL)
        ended = process.wait()
        if ended.code == 0:  # just before
            break
        wrong += [f"killed: {text}" for text in ended.wrong(-signal.SIGKILL)]
        wrong += [f"{file} was made again" for file, time_ in done.items() if _changed(file, time_)]
        done = _finished(out)
    wrong += resumed(stand, folder, out, **settings)
    wrong += [f"{file} was made again" for file, time_ in done.items() if _changed(file, time_)]
    again = call(stand.run(out, **settings), folder / "again.log")
    wrong += again.wrong(0) + [f"works again: {again.text}"] * ("resuming" in again.text or "re-running" in again.text)
    return wrong + [f"then: {text}" for text in unlike(whole, out)]


def _finished(run: Path) -> dict[Path, int]:
    """The weights of finished stages, and when they were written."""
    file = run / "stages.json"
    records = json.loads(file.read_text()) if file.exists() else {}
    weights = [run / name / "model.safetensors" for name, record in records.items() if record["done"]]
    return {path: path.stat().st_mtime_ns for path in weights if path.exists()}


def _changed(file: Path, time_: int) -> bool:
    return not file.exists() or file.stat().st_mtime_ns != time_


class Sent(NamedTuple):
    """A signal and when it is sent: after `moment` of the time of a whole run, or with `late` that many seconds after
    the last step of the first training."""

    number: signal.Signals
    group: bool
    late: bool
    moment: float

    def __str__(self) -> str:
        when = f"{self.moment:.2f} s after the last step" if self.late else f"after {self.moment:.0%} of the time"
        return f"{self.number.name} to the {'group' if self.group else 'process'} {when}"


def signals(stand: Stand, rng: random.Random, share: float) -> Trials:
    """Ctrl-C, SIGTERM and a closed terminal: the run ends with a message, and the same command resumes it."""
    for i in times(22, share):  # 66 signals
        workers, late = (2, 2, 0, 0)[i % 4], i % 2 == 0
        moments = [
            rng.uniform(0, 0.3) if late else rng.uniform(0.03, 0.5),
            rng.uniform(0.03, 0.5),
            rng.uniform(0.03, 0.5),
        ]
        sent = [
            Sent(rng.choice(list(CODES)), rng.random() < 0.5, late and not k, moment)
            for k, moment in enumerate(moments)
        ]
        yield f"{', '.join(map(str, sent))}, {workers} workers", partial(_interrupt, stand, sent, workers)


def _interrupt(stand: Stand, sent: list[Sent], workers: int, folder: Path) -> list[str]:
    settings = {"runtime.workers": workers}
    whole, seconds = stand.whole(**settings), stand.seconds(**settings)
    out, wrong = folder / "run", []
    for i, each in enumerate(sent):
        process = Forked(stand.run(out, **settings), folder / f"interrupted-{i}.log")
        if each.late:
            process.ends_within(120, until=lambda: _steps(out / "classify" / "metrics.jsonl") >= STEPS)
        process.ends_within(each.moment * (1 if each.late else seconds))
        if process.ended():
            return wrong + process.wait().wrong(0) + unlike(whole, out)
        process.send(each.number, each.group)
        start = time.monotonic()
        ended = process.wait()
        finished = "done in" in ended.text and not each.late
        wrong += [f"{each}: {text}" for text in ended.wrong(*([0] * finished), CODES[each.number])]
        if time.monotonic() - start > END_SECONDS:
            wrong.append(f"{each}: takes {time.monotonic() - start:.0f} s to end")
        if ended.code == CODES[each.number]:
            wrong += says(ended, "same command")
        wrong += _orphans(process)
    return wrong + resumed(stand, folder, out, **settings)


def _steps(log: Path) -> int:
    """The last step that a training has logged."""
    lines = log.read_text().splitlines() if log.exists() else []
    return json.loads(lines[-1])["step"] if lines else 0


def _orphans(process: Forked) -> list[str]:
    """Waits for the processes that an ended one has started; they must end by themselves."""
    stop = time.monotonic() + END_SECONDS
    while process.relatives() and time.monotonic() < stop:
        time.sleep(0.1)
    alive = process.relatives()
    process.send(signal.SIGKILL)
    return [f"{len(alive)} processes outlive it"] if alive else []


def alone(stand: Stand, rng: random.Random, share: float) -> Trials:
    """kill -9 of the main process alone: its loading processes end as well."""
    for _ in times(6, share):
        moment = rng.uniform(0.2, 0.9)
        yield f"at {moment:.0%} of the time", partial(_kill_main, stand, moment)


def _kill_main(stand: Stand, moment: float, folder: Path) -> list[str]:
    settings = {"runtime.workers": 2}
    out = folder / "run"
    process = Forked(stand.run(out, **settings), folder / "killed.log")
    process.ends_within(moment * stand.seconds(**settings))
    process.send(signal.SIGKILL, group=False)
    process.wait()
    return _orphans(process) + resumed(stand, folder, out, **settings)


def predictions(stand: Stand, rng: random.Random, share: float) -> Trials:
    """kill -9 of `cian predict` at random moments."""
    for _ in times(8, share):
        moments = [rng.uniform(0.1, 0.9) for _ in range(rng.randint(1, 3))]
        yield ", ".join(f"at {moment:.0%} of the time" for moment in moments), partial(_kill_predict, stand, moments)


def _kill_predict(stand: Stand, moments: list[float], folder: Path) -> list[str]:
    args = ["predict", "--model", stand.model, "--images", stand.data / "images", "--overlays", "--out"]
    whole = call([*args, folder / "whole"], folder / "whole.log")
    for moment in moments:
        process = Forked([*args, folder / "out"], folder / "killed.log")
        process.ends_within(moment * whole.seconds)
        process.send(signal.SIGKILL)
        process.wait()
    ended = call([*args, folder / "out"], folder / "resumed.log")
    wrong = whole.wrong(0) + ended.wrong(0) + left(folder / "out")
    return wrong + ["the masks differ"] * (results(folder / "whole") != results(folder / "out"))


def together(stand: Stand, rng: random.Random, share: float) -> Trials:
    """Several processes on one folder: one of them works, the others say so."""
    for count in some(rng, [2, 4], share):
        yield f"{count} runs", partial(_together, stand, count)
        yield f"{count} predictions", partial(_predict_together, stand, count)


def _together(stand: Stand, count: int, folder: Path) -> list[str]:
    out = folder / "run"
    started = [Forked(stand.run(out, **SHORT), folder / f"{i}.log") for i in range(count)]
    ended = [process.wait() for process in started]
    wrong = [text for each in ended for text in each.wrong(0, 1)]
    codes = sorted(each.code for each in ended)
    wrong += [f"exit codes {codes}"] * (codes != [0] + [1] * (count - 1))
    wrong += [text for each in ended if each.code for text in says(each, "another process")]
    return wrong + unlike(stand.whole(**SHORT), out)


def _predict_together(stand: Stand, count: int, folder: Path) -> list[str]:
    args = ["predict", "--model", stand.model, "--images", stand.data / "images", "--out"]
    started = [Forked([*args, folder / "out"], folder / f"{i}.log") for i in range(count)]
    ended = [process.wait() for process in started]
    wrong = [text for each in ended for text in each.wrong(0, 1)]
    wrong += ["no process works"] * all(each.code for each in ended)
    whole = call([*args, folder / "whole"], folder / "whole.log")
    wrong += whole.wrong(0) + left(folder / "out")
    return wrong + ["the masks differ"] * (results(folder / "whole") != results(folder / "out"))
