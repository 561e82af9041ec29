"""Errors of loading processes."""

from __future__ import annotations

import signal

import pytest

from cian.errors import CianError, Interrupted
from cian.signals import Stop
from cian.training.loading import loading_errors


def test_a_loading_process_that_a_signal_ends_is_no_error():
    """A signal to the group ends a loading process that does not ignore signals yet."""
    stop = Stop()
    with pytest.raises(CianError, match="A loading process ended") as found, loading_errors(stop):
        raise RuntimeError("DataLoader worker (pid 1) is killed by signal: Killed")
    assert not isinstance(found.value, Interrupted)
    stop.number = signal.SIGTERM
    with pytest.raises(Interrupted) as stopped, loading_errors(stop):
        raise RuntimeError("DataLoader worker (pid 1) is killed by signal: Terminated")
    assert stopped.value.number == signal.SIGTERM
