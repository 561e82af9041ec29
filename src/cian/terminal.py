"""Progress and notes, on stderr: a live bar on a terminal, a line every 20 seconds elsewhere."""

from __future__ import annotations

import os
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from cian.errors import Problem, is_silent

# File names may contain brackets, and have to stay on one line to be copied.
console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)

PROGRESS = "CIAN_PROGRESS"  # the environment variable with the name of a file that progress is also written to, as JSON
_TELL_SECONDS = 0.5  # between two versions of this file
LINE_SECONDS = 20.0  # between two lines of progress
SMOOTHING = 0.7  # weight of the earlier speed in the shown one


def speak(aloud: bool) -> None:
    """Turns progress and notes on or off. Of several processes only the first one shows them."""
    console.quiet = not aloud or is_silent()


def note(problem: Problem) -> None:
    """Shows a problem that does not stop the run. A terminal gets lines of its width, a file one line."""
    console.print(wrapped(f"note: {problem}", "      "), style="yellow")


def wrapped(text: str, indent: str) -> str:
    """Lines of the terminal's width, the second and following ones indented; where there is no terminal, the text."""
    if not console.is_terminal:
        return text
    lines = textwrap.wrap(text, console.width, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False)
    return "\n".join(lines)


class Ticker:
    """Shows the progress of one piece of work, with its speed and the time left.

    Args:
        title: what is being done.
        total: the number of units.
        done: the units that are done already.
        unit: what is counted, in the plural.
    """

    def __init__(self, title: str, total: int, done: int = 0, unit: str = "images"):
        self.title, self.total, self.done, self.unit = title, total, done, unit
        self.speed: float | None = None  # units per second
        self._start = self._last = self._printed = time.monotonic()
        self._bar: Progress | None = None
        self._told = 0.0
        self._tell()
        if console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("{task.fields[text]}"),
                console=console,
                transient=True,
            )
            self._task = self._bar.add_task(title, total=total, completed=done, text="")

    def __enter__(self) -> Ticker:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._bar:
            self._bar.stop()
        if kind is None:
            seconds = time.monotonic() - self._start
            unit = self.unit.removesuffix("s") if self.done == 1 else self.unit
            console.print(f"{self.title}: {self.done} {unit} in {duration(seconds)}")

    @property
    def seconds_left(self) -> float | None:
        return None if not self.speed else (self.total - self.done) / self.speed

    def advance(self, units: int = 1, text: str = "") -> None:
        """Counts `units` as done, and shows `text` beside the speed."""
        now = time.monotonic()
        speed = units / max(now - self._last, 1e-9)
        self._last = now
        # The harmonic mean of speeds is the average over time, not over steps.
        self.speed = speed if self.speed is None else 1 / (SMOOTHING / self.speed + (1 - SMOOTHING) / speed)
        self.done += units
        left = self.seconds_left
        line = f"{self.speed:.3g} {self.unit}/s"
        if left:
            line += f" · {duration(left)} left"
        if text:
            line = f"{text} · {line}"
        if self._bar:
            self._bar.update(self._task, completed=self.done, text=line)
        elif now - self._printed >= LINE_SECONDS:
            self._printed = now
            console.print(f"{self.title}: {self.done}/{self.total} · {line}")
        if now - self._told >= _TELL_SECONDS:
            self._tell()

    def _tell(self) -> None:
        """Writes how far the work is, for a program that watches."""
        if (name := os.environ.get(PROGRESS)) and not is_silent():
            from cian.files import write_json

            self._told = time.monotonic()
            state = {"title": self.title, "done": self.done, "total": self.total, "seconds_left": self.seconds_left}
            with suppress(OSError):
                write_json(Path(name), state)


@contextmanager
def ticking(title: str, unit: str = "images") -> Iterator[Callable[[int, int], None]]:
    """A callback (done, total) that shows progress, for work that counts its units."""
    tickers: list[Ticker] = []

    def advance(done: int, total: int) -> None:
        if not tickers:
            tickers.append(Ticker(title, total, unit=unit).__enter__())
        tickers[0].advance(done - tickers[0].done)

    try:
        yield advance
    except BaseException as error:
        for ticker in tickers:
            ticker.__exit__(type(error))
        raise
    for ticker in tickers:
        ticker.__exit__(None)


def duration(seconds: float) -> str:
    """`under 1 s`, `8 s`, `3:20 min`, `2:05 h`."""
    seconds = round(seconds)
    if seconds < 1:
        return "under 1 s"
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60}:{seconds % 60:02d} min"
    return f"{seconds // 3600}:{seconds % 3600 // 60:02d} h"


class Stopwatch:
    """Measures the seconds since it was created."""

    def __init__(self) -> None:
        self.start = time.monotonic()

    @property
    def seconds(self) -> float:
        return round(time.monotonic() - self.start, 2)
