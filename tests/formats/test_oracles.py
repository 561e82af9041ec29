"""The owners' programs read what `cian convert` writes; see `benchmarks/oracles.py`."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.workspace import ROOT


def test_owners_programs_agree() -> None:
    folder = os.environ.get("CIAN_ORACLES")
    if folder is None:
        pytest.skip("needs CIAN_ORACLES, the folder of benchmarks/oracles.py with pycocotools, datumaro and others")
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "oracles.py", folder], capture_output=True, text=True, timeout=1800
    )
    assert done.returncode == 0, done.stdout + done.stderr
