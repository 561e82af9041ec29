from __future__ import annotations

import gc

import pytest

from cian.memory import uncollected


@pytest.mark.parametrize("before", [True, False])
def test_the_garbage_collector_stops_for_the_block_only(before):
    was = gc.isenabled()
    (gc.enable if before else gc.disable)()
    try:
        with pytest.raises(ValueError, match="broken"), uncollected():
            assert not gc.isenabled()
            raise ValueError("broken")
        assert gc.isenabled() == before
    finally:
        (gc.enable if was else gc.disable)()
