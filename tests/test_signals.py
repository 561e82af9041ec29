"""Signals end the work cleanly, whenever they come: exit code 128 + number, one message, no traceback."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cian.errors import CianError, Interrupted
from cian.signals import STOPPED, catch_signals, handling, interruptible
from tests.helpers import CLI

ALL = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
MESSAGE = f"cian: {STOPPED}\n"


@pytest.mark.parametrize("number", ALL)
def test_work_ends_and_cleans_up(number):
    before = signal.getsignal(number)
    cleaned = False
    with pytest.raises(Interrupted, match="The same command resumes") as stopped, interruptible():
        try:
            signal.raise_signal(number)
        finally:
            signal.raise_signal(number)  # the shell sends it, too, and both count as one
            cleaned = True
    assert stopped.value.number == number and cleaned and signal.getsignal(number) == before


@pytest.mark.parametrize("kind", [RuntimeError, CianError])
def test_a_failure_that_follows_from_a_signal_is_none(kind):
    """Libraries turn a KeyboardInterrupt into errors of their own, and we turn these into ours."""
    with pytest.raises(Interrupted, match="Stopped"), interruptible():
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise kind("these weights cannot be loaded") from None
    with pytest.raises(CianError, match="no signal") as failed, interruptible():
        raise CianError("no signal")
    assert not isinstance(failed.value, Interrupted)


def test_a_signal_in_a_finaliser_is_not_lost(capfd):
    """Python prints and swallows what a finaliser raises."""

    class Kept:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Interrupted) as stopped, interruptible():
        Kept()
        time.sleep(5)
        raise AssertionError("swallowed")
    assert stopped.value.number == signal.SIGTERM and capfd.readouterr().err == ""


def test_signals_that_are_ignored_stay_ignored():
    """`nohup` ignores SIGHUP."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interruptible(), catch_signals() as stop:
            signal.raise_signal(signal.SIGHUP)
        assert stop.number is None and signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_signal_after_the_last_look_is_passed_on():
    got: list[int] = []
    with handling(lambda number, _: got.append(number)):
        with catch_signals() as stop:
            signal.raise_signal(signal.SIGTERM)
            assert stop.number == signal.SIGTERM and not got
        assert got == [signal.SIGTERM]
        with pytest.raises(Interrupted), catch_signals():
            signal.raise_signal(signal.SIGTERM)
            raise Interrupted("obeyed")
    assert len(got) == 1


@pytest.mark.parametrize("number", ALL)
def test_while_a_module_is_loaded(tmp_path, number):
    """A module may swallow an exception, or be left half loaded."""
    loading = f"import os\ntry:\n    os.kill(os.getpid(), {number})\nexcept BaseException:\n    pass\n"
    (tmp_path / "typer.py").write_text(loading)  # of those that the command line needs
    result = python(tmp_path, "-m", "cian", "--version")
    assert (result.returncode, result.stderr, result.stdout) == (128 + number, MESSAGE, "")
    (tmp_path / "heavy.py").write_text(loading)  # of those that work needs
    result = python(tmp_path, "-c", "from cian.signals import interruptible\nwith interruptible():\n    import heavy")
    assert (result.returncode, result.stderr) == (128 + number, MESSAGE)


@pytest.mark.parametrize("loads", [True, False], ids=["while it loads", "at work"])
def test_of_several_processes_one_says_that_it_was_stopped(tmp_path, monkeypatch, loads):
    monkeypatch.setenv("RANK", "1")
    stop = f"import os; os.kill(os.getpid(), {signal.SIGTERM})"
    (tmp_path / "heavy.py").write_text(stop)
    code = f"""
from cian import cli
def work():
    with cli.interruptible():
        {"import heavy" if loads else stop}
cli.app = work
cli.main()
"""
    result = python(tmp_path, "-c", code)
    assert (result.returncode, result.stderr) == (128 + signal.SIGTERM, "")


def test_after_its_work_a_process_ends_at_once(tmp_path):
    """Nothing is left to stop, so that the exit code is that of the work."""
    (tmp_path / "sitecustomize.py").write_text(
        "import atexit, os, time\natexit.register(lambda: (os.kill(os.getpid(), 15), time.sleep(60)))\n"
    )
    result = python(tmp_path, "-m", "cian", "--version")
    assert (result.returncode, result.stderr) == (0, "") and result.stdout.startswith("cian ")
    result = python(tmp_path, "-m", "cian", "nonsense")
    assert result.returncode == 2 and "Traceback" not in result.stderr


def python(first: Path, *args: str) -> subprocess.CompletedProcess:
    """Runs Python, which looks for modules in the folder `first` before others."""
    path = os.pathsep.join(filter(None, (str(first), os.environ.get("PYTHONPATH"))))
    command = [sys.executable, *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=50, env={**os.environ, "PYTHONPATH": path})


WORK = """
import sys, time
from pathlib import Path
from cian.errors import Interrupted
from cian.signals import interruptible
from cian.terminal import Ticker
try:
    with interruptible(), Ticker("work", 1000) as ticker:
        try:
            Path("begun").touch()
            while True:
                ticker.advance()
                time.sleep(0.01)
        finally:
            time.sleep(float(sys.argv[1]))
            Path("cleaned").touch()
except Interrupted as error:
    print(error, file=sys.stderr)
    sys.exit(128 + error.number)
"""


def wait_for(file: Path) -> None:
    end = time.monotonic() + 30
    while not file.exists() and time.monotonic() < end:
        time.sleep(0.01)
    assert file.exists()


def test_a_second_signal_ends_at_once(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", WORK, "100"], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    wait_for(tmp_path / "begun")
    process.send_signal(signal.SIGTERM)
    time.sleep(1.2)  # sooner, it would count as the same
    process.send_signal(signal.SIGINT)
    _, text = process.communicate(timeout=20)
    assert process.returncode == 130 and text.endswith(MESSAGE) and "Traceback" not in text
    assert not (tmp_path / "cleaned").exists()


def test_a_closed_terminal(tmp_path):
    """Its bar of progress cannot be written any more, which is no failure of its own."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(tmp_path)
        os.execv(sys.executable, [sys.executable, "-c", WORK, "0"])
    wait_for(tmp_path / "begun")
    time.sleep(0.3)
    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 128 + signal.SIGHUP and (tmp_path / "cleaned").exists()


def test_the_command_line_starts_where_signals_are_handled():
    """The installed command and `python -m cian` are the same."""
    text = (Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    assert 'cian = "cian.__main__:main"' in text and CLI[1:] == ["-m", "cian"]
