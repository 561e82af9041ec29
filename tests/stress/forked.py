"""`cian` in a forked process that has everything imported: a trial without the seconds of a cold start."""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
import os
import pkgutil
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.linalg  # noqa: F401 (loaded late)
import torch
import torch.utils.tensorboard

import cian.__main__
import cian.pipeline.run
import cian.report.page
from cian.crf.dense import dense_crf
from cian.data.sampler import form_groups

for _module in pkgutil.walk_packages(cian.__path__, "cian."):
    importlib.import_module(_module.name)
torch.set_num_threads(1)  # threads of this process would be missing in its children


def _warm_up() -> None:
    """Loads what each run would load: compiled loops and the page of the report."""
    form_groups(np.zeros(4, np.int32), np.arange(5), 2, np.random.default_rng(0))
    dense_crf(np.zeros((8, 8, 3), np.uint8), np.zeros((2, 8, 8), np.float32), iterations=1)
    cian.report.page._template = functools.cache(cian.report.page._template)
    cian.report.page._template()
    gc.collect()
    gc.freeze()  # what is collected in a child does not touch, and so not copy, the memory of this process


_warm_up()

UNPRINTED = 120  # Python's exit code where it cannot print its last words
BEGUN = 42  # exit code of a run that is stopped where its work would begin
TRACES = ("Traceback (most recent call last)", "Exception ignored", "Fatal Python error", "leaked", "core dumped")
Hook = Callable[[], object]


@dataclass(frozen=True)
class Ended:
    """A process that has ended.

    Attributes:
        code: its exit code, or the negative number of the signal that ended it.
        text: what it wrote to stdout and stderr.
        seconds: how long it took.
        cpu: the seconds of a core that it used, which hardly depend on what else the machine does.
        memory: its largest size in bytes.
        late: whether it was killed because it took too long.
    """

    code: int
    text: str
    seconds: float
    cpu: float
    memory: int
    late: bool = False

    def wrong(self, *codes: int, seconds: float = 120, memory: float = 2) -> list[str]:
        """What no process may do: end with another code than these, show a traceback, or fail without a word.

        Args:
            seconds, memory: what it may use, in s of a core and GB.
        """
        found = [f"ends with {self.code}: {self.text.strip()[-300:]}"] * (self.code not in codes)
        found += [f"says {sign!r}: {self.text.strip()[-200:]}" for sign in TRACES if sign in self.text]
        if self.late or self.cpu > seconds:
            found.append(f"takes {self.seconds:.0f} s, {self.cpu:.0f} s of a core")
        if self.memory > memory * 1e9:
            found.append(f"takes {self.memory / 1e9:.1f} GB")
        if self.code > 0 and self.code != BEGUN and not self.text.strip():
            found.append("fails without a word")
        return found


class Forked:
    """A running `cian ARGS`, in a session of its own.

    Args:
        log: the file that gets stdout and stderr.
        folder: its working directory.
        limits: by `resource.RLIMIT_…`, its limits.
        hook: called in the new process before `cian` starts.
    """

    def __init__(
        self,
        args: Sequence[str | Path],
        log: Path,
        folder: Path | None = None,
        limits: Mapping[int, int] | None = None,
        hook: Hook | None = None,
    ):
        self.args, self.log, self._start = list(map(str, args)), log, time.monotonic()
        self._status: tuple[int, float, float, int] | None = None
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if not self.pid:
            self._be_child(folder, limits or {}, hook)
        with contextlib.suppress(OSError):  # also done there; whoever comes first
            os.setpgid(self.pid, self.pid)

    def _be_child(self, folder: Path | None, limits: Mapping[int, int], hook: Hook | None) -> None:
        """Never returns."""
        code = 70
        try:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            with contextlib.suppress(OSError):
                os.setsid()
            null, log = os.open(os.devnull, os.O_RDONLY), os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            for source, target in ((null, 0), (log, 1), (log, 2)):
                os.dup2(source, target)
            os.closerange(3, 256)
            if folder is not None:
                os.chdir(folder)
            for kind, most in limits.items():
                resource.setrlimit(kind, (most, resource.getrlimit(kind)[1]))
            if hook is not None:
                hook()
            sys.argv = ["cian", *self.args]
            code = self._call()
            try:
                for stream in filter(None, (sys.stdout, sys.stderr)):
                    stream.flush()
            except OSError:
                code = UNPRINTED
        except BaseException:  # noqa: BLE001 (it must not reach the trials)
            with contextlib.suppress(BaseException):
                traceback.print_exc()
        finally:
            os._exit(code)

    @staticmethod
    def _call() -> int:
        try:
            cian.__main__.main()
        except SystemExit as end:
            return end.code if isinstance(end.code, int) else int(end.code is not None)
        return 0

    def ended(self) -> bool:
        if self._status is None:
            pid, status, usage = os.wait4(self.pid, os.WNOHANG)
            if pid:
                seconds, cpu = time.monotonic() - self._start, usage.ru_utime + usage.ru_stime
                self._status = os.waitstatus_to_exitcode(status), seconds, cpu, usage.ru_maxrss * 1024
        return self._status is not None

    def ends_within(self, seconds: float, until: Callable[[], object] = lambda: False) -> bool:
        """Waits for the end, for some seconds, or for an event; returns whether it has ended."""
        stop = time.monotonic() + seconds
        while not self.ended() and time.monotonic() < stop and not until():
            time.sleep(0.005)
        return self.ended()

    def send(self, number: int, group: bool = True) -> None:
        """Sends a signal to the process, or to it and all that it has started."""
        with contextlib.suppress(ProcessLookupError):
            (os.killpg if group else os.kill)(self.pid, number)

    def wait(self, seconds: float = 900, most: float = 4e9) -> Ended:
        """Waits for the end; kills it after some seconds, or where it takes more memory than `most` bytes."""
        late = not self.ends_within(seconds, until=lambda: size(self.pid) > most)
        if late:
            self.send(signal.SIGKILL)
            self.ends_within(60)
        assert self._status is not None, f"{self.args}: cannot be killed"
        code, took, cpu, memory = self._status
        text = self.log.read_text("utf-8", "replace") if self.log.exists() else ""
        return Ended(code, text, took, cpu, memory, late)

    def relatives(self) -> list[int]:
        """The processes of its session that are alive."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                state, _, _, session = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
                if int(session) == self.pid and state != "Z":
                    found.append(int(folder.name))
        return found


def call(args: Sequence[str | Path], log: Path, seconds: float = 900, **more) -> Ended:
    """Runs `cian ARGS` to its end. `more` as of `Forked`."""
    log.unlink(missing_ok=True)
    return Forked(args, log, **more).wait(seconds)


def size(pid: int) -> int:
    """The memory that a process takes now, in bytes."""
    with contextlib.suppress(OSError, IndexError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()
    return 0


def stop_at_work() -> None:
    """A hook: the process ends with `BEGUN` where a run would start its first stage."""

    def begin(*_: object) -> None:
        os._exit(BEGUN)

    cian.pipeline.run._run_stage = begin
