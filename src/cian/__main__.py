"""The command `cian`, and `python -m cian`."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

from cian.signals import end_at_once, handle_signals


def main() -> None:
    """Runs the command line. Before and after its work, a signal ends the process at once."""
    handle_signals(end_at_once)
    from cian.cli import main as command

    try:
        command()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        with suppress(OSError):
            sys.stdout.flush()
        handle_signals(lambda *_: os._exit(code))
        raise


if __name__ == "__main__":
    main()
