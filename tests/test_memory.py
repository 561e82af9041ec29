from __future__ import annotations

import gc
import os
import platform
import subprocess
import sys

import pytest

from cian.memory import uncollected

PREDICT = """
import sys
from pathlib import Path
import numpy as np, torch
from cian import Segmenter
from cian.build import build_network
from cian.config import load_config

def megabytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20

torch.set_num_threads(1)
config = load_config(None, {"backbone.name": "test_efficientnet", "backbone.weights": "random",
                            "predict.scales": [1.0], "predict.crf.iterations": 0})
segmenter = Segmenter(build_network(config, 3), config, ("background", "a", "b"))
rng = np.random.default_rng(0)
for count in range(400):
    if count == 100:
        before = megabytes()
    segmenter.predict(np.zeros((*rng.integers(48, 200, 2), 3), np.uint8))
print(megabytes() - before)
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="memory is measured on Linux")  # noqa: PTH110
def test_images_of_many_sizes_take_no_more_memory_than_few():
    """Without bounds, PyTorch keeps convolutions that were prepared for each size: 30 MB here, 4 with them."""
    result = subprocess.run([sys.executable, "-c", PREDICT], capture_output=True, text=True, check=True)
    assert float(result.stdout) < 15


FREED = """
import sys
from pathlib import Path
from threading import Thread
from cian.memory import give_back

def megabytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20

kept = []

def work():
    blocks = [b"x" * (100_000 + i) for i in range(2000)]  # each below the size that the system gives apart
    kept.extend(blocks[::100])  # so that no large part is free

thread = Thread(target=work)
thread.start()
thread.join()
before = megabytes()
give_back()
print(before - megabytes())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the memory of glibc")
def test_free_memory_is_given_back():
    result = subprocess.run([sys.executable, "-c", FREED], capture_output=True, text=True, check=True)
    assert float(result.stdout) > 150


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
