"""Signals that ask the process to stop: SIGINT (Ctrl-C), SIGTERM (a scheduler) and SIGHUP (a closed terminal).

While a command works, the first signal raises KeyboardInterrupt, so that nothing is left half done. A training finishes
its step and writes a checkpoint first. A second signal ends the process at once, as does any signal while modules are
loaded. That is safe: what is on disk survives even `kill -9`.
"""

from __future__ import annotations

import os
import signal
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, NoReturn

from cian.errors import Interrupted, is_silent

Handler = Callable[[int, FrameType | None], Any]

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
STOPPED = "Stopped. Finished work is kept. The same command resumes."
_TOGETHER = 1.0  # seconds in which signals count as one: the terminal, the shell and torchrun send one each


class Stop:
    """The signal that asks to stop.

    Attributes:
        number: of the first signal; None as long as there is none.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._since = 0.0

    def handler(self, first: Handler, second: Handler) -> Handler:
        """Notes the first signal and calls `first`; calls `second` for those that come later than just after it."""

        def handle(number: int, frame: FrameType | None) -> None:
            _leave_closed_terminal()
            if self.number is None:
                self.number, self._since = number, time.monotonic()
                first(number, frame)
            elif time.monotonic() - self._since > _TOGETHER:
                second(number, frame)

        return handle


def handle_signals(handler: Handler) -> dict[int, Any]:
    """Sets the handler of the signals. Those that are ignored stay ignored, as `nohup` and a script's `&` want it.

    Returns:
        The handlers before.
    """
    if threading.current_thread() is not threading.main_thread():
        return {}  # signals cannot be handled here
    before = {number: signal.getsignal(number) for number in SIGNALS}
    before = {number: earlier for number, earlier in before.items() if earlier not in (signal.SIG_IGN, None)}
    for number in before:
        signal.signal(number, handler)
    return before


@contextmanager
def handling(handler: Handler) -> Iterator[None]:
    """`handle_signals` for a block."""
    before = handle_signals(handler)
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


@contextmanager
def interruptible() -> Iterator[None]:
    """A block of work that ends with the first signal.

    Raises:
        Interrupted: a signal came.
    """
    stop = Stop()

    def interrupt(number: int, frame: FrameType | None) -> None:
        if _loads_module(frame):  # which may swallow an exception, or turn it into another one
            end_at_once(number)
        _raise(number)

    def again(unraisable: sys.UnraisableHookArgs) -> None:
        if isinstance(unraisable.exc_value, KeyboardInterrupt) and stop.number is not None:  # swallowed by a finaliser
            number, stop.number = stop.number, None
            threading.Timer(0.01, signal.raise_signal, [number]).start()
        else:
            before(unraisable)

    before, sys.unraisablehook = sys.unraisablehook, again
    try:
        with handling(stop.handler(interrupt, end_at_once)):
            yield
    except KeyboardInterrupt as error:
        number = error.args[0] if error.args and error.args[0] in SIGNALS else signal.SIGINT
        raise Interrupted(STOPPED, number) from None
    except Exception as error:
        if stop.number is None or isinstance(error, Interrupted):
            raise
        raise Interrupted(STOPPED, stop.number) from None  # what the signal broke is no error
    finally:
        sys.unraisablehook = before


@contextmanager
def catch_signals() -> Iterator[Stop]:
    """A block that looks at `Stop.number` from time to time, and raises `Interrupted` once it is set. A signal that
    comes after the last look is passed on at the end of the block. A second signal raises KeyboardInterrupt."""
    stop = Stop()
    with handling(stop.handler(lambda *_: None, _raise)):
        yield stop
    if stop.number is not None:
        signal.raise_signal(stop.number)


def ignore_signals(_: int) -> None:
    """For loading processes: Ctrl-C reaches them as well, but the main process decides when they end."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def end_at_once(number: int, _: FrameType | None = None) -> NoReturn:
    """A handler that ends the process without any clean-up."""
    _leave_closed_terminal()
    show_cursor = "\x1b[?25h" if os.isatty(2) else ""  # a bar of progress hides it
    with suppress(OSError):
        if not is_silent():
            os.write(2, f"{show_cursor}cian: {STOPPED}\n".encode())
    os._exit(128 + number)


def _raise(number: int, _: FrameType | None = None) -> NoReturn:
    raise KeyboardInterrupt(number)


def _loads_module(frame: FrameType | None) -> bool:
    """Whether an import is going on in this frame or one of its callers."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _leave_closed_terminal() -> None:
    """Sends output nowhere if its terminal is closed: writing would be an error."""
    for output in (1, 2):
        with suppress(OSError):
            if stat.S_ISCHR(os.fstat(output).st_mode) and not os.isatty(output):
                os.dup2(os.open(os.devnull, os.O_WRONLY), output)
