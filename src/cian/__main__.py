"""The command `cian`, and `python -m cian`."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

from cian.signals import end_at_once, handle_signals


def main() -> None:
    """Runs the command line. Before and after its work, a signal ends the process at once."""
    handle_signals(end_at_once)
    _use_utf8()
    from cian.cli import main as command

    try:
        command()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        with suppress(OSError):
            if sys.stdout is not None:  # it is None where it was closed
                sys.stdout.flush()
        handle_signals(lambda *_: os._exit(code))
        raise


def _use_utf8() -> None:
    """Starts again in Python's UTF-8 mode where the locale has another encoding: files would get other names in it, and
    folders of classes other classes. What the terminal cannot show is replaced."""
    if sys.getfilesystemencoding() != "utf-8" and not sys.flags.ignore_environment:
        os.environ["PYTHONUTF8"] = "1"
        os.environ.setdefault("PYTHONIOENCODING", f"{getattr(sys.stdout, 'encoding', None) or 'ascii'}:replace")
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


if __name__ == "__main__":
    main()
