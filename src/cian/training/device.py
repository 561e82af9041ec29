"""Where training runs: device, precision and processes."""

from __future__ import annotations

import ctypes
import platform
from datetime import timedelta

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import InitProcessGroupKwargs

from cian.config import RuntimeConfig
from cian.errors import CianError
from cian.parallel import cores
from cian.terminal import console


def make_accelerator(runtime: RuntimeConfig) -> Accelerator:
    """The accelerator for the configured device, precision and processes.

    Raises:
        CianError: the device is missing, or cannot compute in this precision.
    """
    if runtime.device not in ("auto", "cpu", "cuda"):
        raise CianError(f"runtime.device = {runtime.device}: use auto, cpu or cuda.")
    if runtime.device == "cuda" and not torch.cuda.is_available():
        raise CianError("runtime.device = cuda: PyTorch sees no GPU here. Use auto or cpu.")
    cpu = runtime.device == "cpu" or not torch.cuda.is_available()
    if cpu and runtime.precision == "fp16":
        raise CianError("runtime.precision = fp16: needs a GPU. Use fp32 or bf16 on a CPU.")
    if cpu:
        _keep_memory()
    else:
        torch.backends.cuda.matmul.allow_tf32 = True  # matrix products as precise as convolutions are by default
    precision = {"fp32": "no"}.get(runtime.precision, runtime.precision)
    before = AcceleratorState._shared_state  # one for all of a Python process, which may run with several settings
    if before and (before["_mixed_precision"] != precision or before["_cpu"] != cpu):
        AcceleratorState._reset_state(reset_partial_state=True)
    patience = InitProcessGroupKwargs(timeout=timedelta(days=1))  # for the process that scores and reports alone
    accelerator = Accelerator(
        cpu=cpu,
        mixed_precision=precision,
        gradient_accumulation_steps=runtime.accumulate,
        kwargs_handlers=[patience],
    )
    console.quiet |= not accelerator.is_main_process  # in a distributed run one process speaks for all
    return accelerator


def _keep_memory() -> None:
    """Keeps the C allocator from returning freed memory to the system, which would map and clear the same pages again
    in every step: about 20 % of a training step on a CPU. Only glibc has these switches."""
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        for option, value in ((-4, 0), (-1, 2**31 - 1), (-2, 2**28)):  # M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD
            libc.mallopt(option, value)


def loader_workers(runtime: RuntimeConfig) -> int:
    """The number of loading processes: as configured, or one for every two cores, at most 8."""
    if runtime.workers is not None:
        return runtime.workers
    return max(1, min(8, cores() // 2))
