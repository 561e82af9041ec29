"""`cian doctor`: what is installed and what the machine has, and a small run that shows that everything works."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from cian.config.presets import PRESETS, fitting
from cian.errors import CianError
from cian.parallel import cores

_GB = 2**30
_LITTLE = 5.0  # GB of free disk, below which a run may not fit
_PACKAGES = ("torch", "torchvision", "timm", "accelerate", "numpy", "numba", "pillow")
_EXTRAS = {  # what each is for
    "app": "the page of `cian app`",
    "export": "ONNX",
    "heif": "HEIC photographs",
    "parquet": "tags in Parquet",
    "saliency": "saliency networks",
}
_TINY: dict[str, Any] = {  # the demo with a network that learns little, and fast
    "compare": False,
    "backbone.name": "test_efficientnet",
    "backbone.weights": "random",
    "classify.epochs": 1,
    "classify.min_steps": 2,
    "train.epochs": 1,
    "train.min_steps": 2,
    "train.batch_size": 4,
    "classify.batch_size": 4,
    "runtime.workers": 0,
}


@dataclass(frozen=True)
class Finding:
    """
    Attributes:
        what: what was looked at.
        found: what it is.
        cure: what to do, if something is wrong.
    """

    what: str
    found: str
    cure: str = ""


def examine() -> Iterator[Finding]:
    """What is installed, and what the machine has."""
    yield Finding("cian", f"{version('cian')}, Python {platform.python_version()}, {platform.platform(terse=True)}")
    yield Finding("packages", ", ".join(f"{name} {version(name)}" for name in _PACKAGES))
    for requirement, found in _unmet():
        what = f"{requirement.name} {found or 'is not installed'}"
        yield Finding("package", f"{what}, needed: {requirement.specifier}", f"pip install '{requirement}'")
    yield Finding("processor", f"{cores()} cores, {_memory()}")
    free = shutil.disk_usage(Path.cwd()).free / _GB
    yield Finding("disk", f"{free:.0f} GB free here", "Free some space." if free < _LITTLE else "")
    temporary = tempfile.gettempdir()
    free = shutil.disk_usage(temporary).free / _GB
    yield Finding("temporary files", f"{temporary}, {free:.0f} GB free", "Set TMPDIR." if free < 0.5 else "")
    yield from _accelerators()
    yield _loops()
    for extra, purpose in _EXTRAS.items():
        added = f"not installed. `pip install '.[{extra}]'` adds it" if any(_unmet(extra)) else "installed"
        yield Finding("optional", f"{purpose}: {added}")


def _unmet(extra: str = "") -> Iterator[tuple[Requirement, str]]:
    """What cian needs, itself or for an extra, and what is installed instead; "" if nothing is."""
    for requirement in map(Requirement, requires("cian") or ()):
        if not _applies(requirement, extra) or (extra and _applies(requirement, "")):
            continue
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            found = ""
        if not found or not requirement.specifier.contains(found, prereleases=True):
            yield requirement, found


def _applies(requirement: Requirement, extra: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def _memory() -> str:
    try:
        return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / _GB:.0f} GB memory"
    except (AttributeError, ValueError, OSError):  # not a POSIX system
        return "memory unknown"


def _accelerators() -> Iterator[Finding]:
    """The GPUs, and the preset that fits."""
    import torch

    memory = [torch.cuda.get_device_properties(i).total_memory / _GB for i in range(torch.cuda.device_count())]
    for i, size in enumerate(memory):
        yield Finding("GPU", f"{torch.cuda.get_device_name(i)}, {size:.0f} GB")
    if not memory:
        built = "PyTorch is built for CPUs" if torch.version.cuda is None else "PyTorch sees none"
        yield Finding("GPU", f"none ({built})")
    name = fitting(max(memory, default=0.0))
    chosen = PRESETS[name]
    more = "" if name == "small" else ", or small for speed"
    yield Finding("preset", f"--preset {name} ({chosen.about}){more}")


def _loops() -> Finding:
    from cian.crf.dense import loops_work

    if loops_work(4):
        return Finding("dense CRF", "compiled")
    return Finding("dense CRF", "plain loops, several times slower", "Install cian again, with the numba it asks for.")


def try_out() -> Finding:
    """A run on 24 drawn images, with random weights: all stages, in less than a minute.

    Raises:
        CianError: a stage failed.
    """
    from cian.config import Config, changed
    from cian.demo import data_config
    from cian.demo.animals import generate
    from cian.demo.run import SETTINGS
    from cian.pipeline.run import run_config
    from cian.runs.directory import Run
    from cian.terminal import console

    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="cian-doctor-") as folder:
        data = Path(folder) / "data"
        generate(data, train=20, val=4)
        quiet, console.quiet = console.quiet, True
        try:
            run = run_config(changed(Config(data=data_config(data)), {**SETTINGS, **_TINY}), Run(Path(folder) / "run"))
        finally:
            console.quiet = quiet
        if len(list(run.folder("predictions").glob("*.png"))) != 4:
            raise CianError("A run on drawn images has made no masks. Please report this, with what is printed above.")
    return Finding("trial run", f"all stages work ({time.monotonic() - start:.0f} s)")
