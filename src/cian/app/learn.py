"""The run learns again, with all labels, in a process of its own: `cian run`, or `cian seed` for the seeds alone.

Before, what the run has predicted so far is kept as RUN/rounds/N/. The run's lock is held for that moment alone: then
the new process takes it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cian.app.project import LABELS, NETWORKS, ROUNDS, Project
from cian.app.refusal import Refusal
from cian.errors import CianError
from cian.files import TEMPORARY, files_in, read_json, remove
from cian.pipeline.stages import STAGES
from cian.terminal import PROGRESS

_UNKNOWN = 5.0  # seconds of a stage that was never run
_WAIT = 20.0  # seconds for the process to stop when the server ends
_ORDER = [stage.name for stage in STAGES]
_OF_MODEL = {*(stage.name for stage in NETWORKS), "export", "predict"}  # the stages that a round holds the results of


class Learner:
    """
    Args:
        ended: called when a process has ended.
    """

    def __init__(self, project: Project, ended: Callable[[], None]):
        self.project, self.ended = project, ended
        self._starting = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._waiting: threading.Thread | None = None
        self._kind: str | None = None
        self._seconds: dict[str, float] = {}  # of the stages, before
        self._first: str | None = None  # the first stage that is run again
        self._fraction = 0.0
        self._stopped = False

    @property
    def running(self) -> bool:
        return self._waiting is not None and self._waiting.is_alive()

    def start(self, preview: bool) -> None:
        """
        Args:
            preview: makes the seeds alone.

        Raises:
            Refusal: it is learning already, or another process works on this run.
        """
        with self._starting:
            if self.running:
                raise Refusal(409, "This run is learning already. Stop that first, or wait.")
            records = self.project.run.records()
            self._seconds = {name: record.seconds for name, record in records.items()}
            if not preview:
                self._keep_round()
            self._kind, self._first, self._fraction, self._stopped = "seed" if preview else "run", None, 0.0, False
            self._progress_file.unlink(missing_ok=True)
            self._progress_file.parent.mkdir(parents=True, exist_ok=True)
            command = [sys.executable, "-m", "cian", self._kind, "--out", str(self.project.run.path), *self._labels()]
            with self._log_file.open("wb") as log:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env={**os.environ, PROGRESS: str(self._progress_file)},
                    start_new_session=True,  # Ctrl-C ends the server, which then stops it
                )
            self._waiting = threading.Thread(target=self._wait, args=(self._process,), daemon=True)
            self._waiting.start()

    def stop(self) -> None:
        """Asks the process to stop, as Ctrl-C does: finished work is kept."""
        if self._process is not None and self._process.poll() is None:
            self._stopped = True
            self._process.send_signal(signal.SIGTERM)  # SIGINT is ignored by children of a script's background jobs

    def close(self) -> None:
        self.stop()
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_WAIT)

    def state(self) -> dict[str, Any]:
        running, stage, left = self.running, None, None
        if running:
            stage, left = self._progress()
        return {
            "running": running,
            "kind": self._kind,
            "stage": stage,
            "fraction": self._fraction if running else None,
            "seconds_left": left,
            "line": self._line(),
            "error": self._error(),
            "round": len(self.project.rounds()),
        }

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        process.wait()
        self.ended()

    def _labels(self) -> list[str]:
        """The labels to learn from: those of the page, then those that the run had."""
        own = self.project.run.path.absolute() / LABELS
        given = self.project.read_config().data.labels
        paths = [path for path in (given if isinstance(given, tuple) else (given,)) if path is not None]
        others = [path for path in paths if path.resolve() != own.resolve()]
        has_own = own.is_dir() and any(name.endswith(".png") for name in files_in(own))
        value = [str(path) for path in ([own] if has_own else []) + others]
        return ["--set", f"data.labels={json.dumps(value) if value else 'null'}"]

    def _keep_round(self) -> None:
        """Keeps what the run has predicted, if its model is whole: after a stop or a failure, it is kept already. Seeds
        may be half made, by a preview that was stopped. A round is there as a whole, or not at all.

        Raises:
            Refusal: another process works on this run.
            OSError: the disk is full, or the run cannot be written.
        """
        run = self.project.run
        try:
            lock = run.locked()
            with lock:
                made = [each for name, each in run.records().items() if name in _OF_MODEL]
                last, stamp = self.project.last_round, self.project.model_stamp()
                if not stamp or not made or not all(each.done for each in made):
                    return
                if last is not None and self.project.model_stamp(last / "model") == stamp:
                    return  # nothing was learned since
                whole = run.path / ROUNDS / str(1 if last is None else int(last.name) + 1)
                target = whole.with_name(f"{TEMPORARY}{whole.name}")
                remove(target)
                for source in (run.path / "app" / "predictions" / stamp, run.folder("predictions")):
                    _link(source, target / "predictions")
                _link(run.model, target / "model")
                for stage in NETWORKS:
                    _link(run.folder(stage.name), target / stage.name, "model.safetensors")
                for file in (run.metrics_file, run.config_file, *run.path.glob("*/metrics.jsonl")):
                    if file.is_file():
                        copy = target / file.relative_to(run.path)
                        copy.parent.mkdir(parents=True, exist_ok=True)
                        shutil.copy2(file, copy)
                target.replace(whole)
        except CianError as error:
            if "another process" not in str(error):
                raise
            raise Refusal(409, "Another process works on this run. Wait for it, or stop it.") from None

    # Progress.

    @property
    def _progress_file(self) -> Path:
        return self.project.own("progress.json")

    @property
    def _log_file(self) -> Path:
        return self.project.own("learn.log")

    def _progress(self) -> tuple[str | None, float | None]:
        """The title of the stage at work, and the seconds left. A stage takes about as long as it took before."""
        try:
            records = self.project.run.records()
            told = read_json(self._progress_file, dict[str, Any])
        except CianError:  # nothing was told yet
            return "starting", None
        at = next((name for name in _ORDER if name in records and not records[name].done), None)
        if at is None:
            return told.get("title"), None
        last = "statistics" if self._kind == "seed" else _ORDER[-1]
        names = [name for name in _ORDER[: _ORDER.index(last) + 1] if name in records or name in self._seconds]
        if at not in names:  # left over from a learning that was stopped
            return told.get("title"), None
        self._first = min(self._first or at, at, key=_ORDER.index)
        todo = {name: max(self._seconds.get(name, _UNKNOWN), 0.1) for name in names[names.index(self._first) :]}
        before = sum(seconds for name, seconds in todo.items() if _ORDER.index(name) < _ORDER.index(at))
        part = told["done"] / max(1, told["total"])
        part = part if part < 1 else 0.0  # the stage before has said this
        whole = sum(todo.values())
        self._fraction = max(self._fraction, min(0.99, (before + part * todo[at]) / whole))
        own = told.get("seconds_left")
        later = whole - before - todo[at]
        title = next(stage.title for stage in STAGES if stage.name == at)
        return title, round(later + ((1 - part) * todo[at] if own is None else own), 1)

    def _line(self) -> str:
        """The last line that the process has said."""
        lines = self._said()
        return lines[-1][:300] if lines else ""

    def _error(self) -> str | None:
        """Why the process failed."""
        if self._process is None or self._process.poll() in (None, 0) or self._stopped:
            return None
        lines = self._said()
        start = next((i for i, line in enumerate(lines) if line.startswith("cian: ")), len(lines) - 1)
        text = " ".join(line.strip() for line in lines[start:])[:2000].removeprefix("cian: ")
        return text or f"The process ended with {self._process.returncode}. Run `cian run` to see why."

    def _said(self) -> list[str]:
        try:
            with self._log_file.open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - 20_000))
                return [line for line in file.read().decode(errors="replace").splitlines() if line.strip()]
        except OSError:
            return []


def _link(source: Path, target: Path, only: str | None = None) -> None:
    """Links the files of a folder into another one, or copies them. The run replaces its files and never changes them,
    so those in the other folder stay as they are."""
    for name in files_in(source) if source.is_dir() else ():
        if only not in (None, name) or name.rpartition("/")[2].startswith(TEMPORARY):
            continue
        copy = target / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.unlink(missing_ok=True)
        try:
            os.link(source / name, copy)
        except FileNotFoundError:  # replaced or removed meanwhile: a prediction that can be made again
            continue
        except OSError:  # a file system without links
            shutil.copy2(source / name, copy)
