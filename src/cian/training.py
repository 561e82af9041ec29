"""The training loop that every stage with an optimiser shares: devices and precision (accelerate), schedule,
checkpoints, logs, progress, interruption.

A checkpoint holds the model, the optimiser and the place in the plan. Order and augmentation follow from (seed, epoch,
image), so a resumed run computes what an uninterrupted one would have: bit for bit on the same CPU; a GPU sums in
another order each time.
"""

from __future__ import annotations

import ctypes
import io
import json
import math
import platform
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import InitProcessGroupKwargs
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.utils.data import DataLoader

from cian.config import OptimizerConfig, RuntimeConfig
from cian.cores import cores
from cian.data.dataset import TrainingSet
from cian.data.groups import GroupSampler
from cian.errors import CianError, Interrupted
from cian.progress import Ticker, console
from cian.runs import write_bytes, write_json, write_text

Batch = dict[str, Tensor]
Losses = dict[str, Tensor]

LOG_STEPS = 10


def make_accelerator(runtime: RuntimeConfig) -> Accelerator:
    """
    Raises:
        CianError: the device is not there, or it cannot do the precision.
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
    console.quiet = not accelerator.is_main_process  # one process of a distributed run speaks for all
    return accelerator


def _keep_memory() -> None:
    """Keeps the C allocator from handing freed memory back to the system, which would map and clear the same pages anew
    in every step: some 20 % of a training step on a CPU. Only glibc has these switches."""
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        for option, value in ((-4, 0), (-1, 2**31 - 1), (-2, 2**28)):  # M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD
            libc.mallopt(option, value)


def make_optimizer(groups: list[dict], settings: OptimizerConfig) -> torch.optim.Optimizer:
    if settings.name == "sgd":
        return torch.optim.SGD(groups, momentum=0.9, weight_decay=settings.weight_decay, fused=True)
    return torch.optim.AdamW(groups, weight_decay=settings.weight_decay, fused=True)


def loader_workers(runtime: RuntimeConfig) -> int:
    """Loading processes: as set, or one for every two cores, at most 8."""
    if runtime.workers is not None:
        return runtime.workers
    return max(1, min(8, cores() // 2))


def fit(
    model: nn.Module,
    loss: Callable[[nn.Module, Batch, float], Losses],
    parameters: list[dict],
    data: TrainingSet,
    sampler: GroupSampler,
    *,
    folder: Path,
    section: str,
    label: str,
    epochs: int,
    optimizer: OptimizerConfig,
    runtime: RuntimeConfig,
    accelerator: Accelerator,
) -> Path:
    """Trains `model`, going on from the checkpoint in `folder` if there is one.

    Args:
        model: moved to the accelerator's device.
        loss: (model, batch, share of the training done) → scalars by name; "total" is minimised.
        parameters: optimiser groups with their "lr".
        data, sampler: samples and the plan of batches.
        section: of the settings, for the errors.
        folder: gets `checkpoints/`, `metrics.jsonl`, `tensorboard/` and, at the end, `model.safetensors`.

    Returns:
        The path of the trained weights.

    Raises:
        Interrupted: SIGINT or SIGTERM came; a checkpoint was written.
        CianError: the loss is not finite, or a checkpoint is of another number of processes.
    """
    weights = folder / "model.safetensors"
    checkpoint = folder / "checkpoints" / "last.pt"
    if weights.exists():  # the process was killed between the last step and the record of it
        checkpoint.unlink(missing_ok=True)
        return weights
    model.train()
    optim = make_optimizer(parameters, optimizer)
    base_lrs = [group["lr"] for group in optim.param_groups]
    engine, optim = accelerator.prepare(model, optim)
    epoch, step, total = _load_checkpoint(checkpoint, model, optim, accelerator)
    workers = loader_workers(runtime)
    loader = DataLoader(
        data,
        batch_sampler=_Plan(sampler, epochs, epoch, step),
        num_workers=workers,
        pin_memory=accelerator.device.type == "cuda",
        prefetch_factor=3 if workers else None,
        worker_init_fn=_ignore_signals,
    )
    per_step = sampler.batch_size * accelerator.num_processes
    images = sum(len(sampler.epoch(e)) for e in range(min(epochs, 3))) / min(epochs, 3) * epochs * per_step
    log = _Log(folder, total) if accelerator.is_main_process else None
    accelerator.step = 0  # accumulation starts anew with each stage and each checkpoint
    saved = time.monotonic()
    ask = False  # whether several processes have to agree on a checkpoint at the next step
    done = total * per_step
    text = ""
    with (
        _loading_errors(),
        _signals() as stop,
        Ticker(label, max(round(images), done), done) as ticker,
        _Batches(loader) as batches,
    ):
        while epoch < epochs:
            steps = len(sampler.epoch(epoch))
            while step < steps:
                batch = {k: v.to(accelerator.device, non_blocking=True) for k, v in next(batches).items()}
                progress = (epoch + (0 if optimizer.poly_per_epoch else step / steps)) / epochs
                for group, lr in zip(optim.param_groups, base_lrs, strict=True):
                    group["lr"] = lr * (1 - progress) ** optimizer.poly_power
                if (epoch, step) == (epochs - 1, steps - 1):
                    accelerator.step = -1  # the last batches make a step, however few
                with accelerator.accumulate(engine):
                    losses = loss(engine, batch, (epoch + step / steps) / epochs)
                    accelerator.backward(losses["total"])
                    if optimizer.clip_norm and accelerator.sync_gradients:
                        accelerator.clip_grad_norm_(engine.parameters(), optimizer.clip_norm)
                    optim.step()
                    optim.zero_grad()
                step, total = step + 1, total + 1
                if log is not None and (total % LOG_STEPS == 0 or step == steps):
                    values = {name: round(float(value.detach()), 6) for name, value in losses.items()}
                    if not math.isfinite(values["total"]):
                        raise CianError(
                            f"{label}: the loss became {values['total']} in epoch {epoch + 1}, step {total}. Lower the "
                            f"learning rate, {section}.optimizer.lr={optimizer.lr:g}, or set "
                            f"{section}.optimizer.clip_norm=1 or runtime.precision=fp32."
                        )
                    log.write(total, epoch + step / steps, values, optim.param_groups[0]["lr"], ticker.speed)
                    text = f" · loss {values['total']:.3f}"
                ticker.advance(per_step, f"epoch {epoch + 1}/{epochs}{text}")
                ask = ask or accelerator.num_processes == 1 or total % LOG_STEPS == 0
                if not ask or not accelerator.sync_gradients:
                    continue  # several processes agree from time to time only; a checkpoint holds no gradients
                ask = False
                due = time.monotonic() - saved > runtime.checkpoint_seconds
                interrupted, due = _any_process(accelerator, stop.is_set(), due)
                if interrupted or due:
                    at = (epoch, step) if step < steps else (epoch + 1, 0)
                    _save_checkpoint(checkpoint, model, optim, accelerator, *at, total)
                    saved = time.monotonic()
                if interrupted:
                    raise Interrupted(
                        f"{label}: stopped in epoch {epoch + 1} of {epochs}; a checkpoint is written. The same command "
                        "goes on from here."
                    )
            epoch, step = epoch + 1, 0
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        save_weights(model, weights)
        checkpoint.unlink(missing_ok=True)
        if log is not None:
            log.close()
    accelerator.wait_for_everyone()
    accelerator.free_memory()
    return weights


def _any_process(accelerator: Accelerator, *flags: bool) -> list[bool]:
    """Each flag, whether it is set in any of the processes: clocks and signals differ, but what follows is done
    together."""
    if accelerator.num_processes == 1:
        return list(flags)
    own = torch.tensor([flags], dtype=torch.uint8, device=accelerator.device)
    return [bool(flag) for flag in accelerator.gather(own).amax(0).tolist()]


class _Batches:
    """The batches of a loader. On leaving, its processes end, if need be by force: they ignore signals, so that the
    main process would wait for ever for one that is stuck."""

    def __init__(self, loader: DataLoader):
        self.loader = loader

    def __enter__(self) -> _Batches:
        self.batches: Any = iter(self.loader)
        return self

    def __next__(self) -> Batch:
        return next(self.batches)

    def __exit__(self, *_: object) -> None:
        if self.loader.num_workers:
            self.batches._shutdown_workers()  # `del` would do nothing where a traceback holds the iterator
            for process in self.batches._workers:
                process.kill()


def _ignore_signals(_: int) -> None:
    """Ctrl-C reaches the whole process group; the main process alone decides when loading ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


@contextmanager
def _loading_errors() -> Iterator[None]:
    """What goes wrong in a loading process becomes one message."""
    try:
        yield
    except CianError as error:
        found = re.search(r"^cian\.[\w.]+Error: (.*)", str(error), re.DOTALL | re.MULTILINE)  # below the traceback
        if found is None:
            raise
        raise CianError(found[1].strip()) from None
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise CianError(
            "A loading process ended, probably for want of memory. Run the same command again with "
            "--set runtime.workers=0. (A script of your own needs `if __name__ == '__main__':` around its call.)"
        ) from None


class _Plan:
    """The sampler's plan from a place on, as a batch sampler."""

    def __init__(self, sampler: GroupSampler, epochs: int, epoch: int, step: int):
        self.sampler, self.place = sampler, (epochs, epoch, step)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        return self.sampler.batches(*self.place)


class _Log:
    """metrics.jsonl and TensorBoard; lines after the checkpoint that a killed process wrote are taken back."""

    def __init__(self, folder: Path, step: int):
        from torch.utils.tensorboard import SummaryWriter

        path = folder / "metrics.jsonl"
        folder.mkdir(parents=True, exist_ok=True)
        kept = [line for line in read_metrics(path) if line["step"] <= step]
        write_text(path, "".join(json.dumps(line) + "\n" for line in kept))
        self.file = path.open("a", encoding="utf-8")
        self.board = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

    def write(self, step: int, epoch: float, losses: dict[str, float], lr: float, speed: float | None) -> None:
        line = {"step": step, "epoch": round(epoch, 4), **losses, "lr": lr, "images_per_second": round(speed or 0, 2)}
        self.file.write(json.dumps(line) + "\n")
        self.file.flush()
        for name, value in line.items():
            if name != "step":
                self.board.add_scalar(name, value, step)

    def close(self) -> None:
        self.file.close()
        self.board.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a metrics.jsonl; a last line that was cut off by a kill is left out."""
    lines = []
    if path.exists():
        for text in path.read_text(encoding="utf-8").splitlines():
            try:
                lines.append(json.loads(text))
            except ValueError:
                break
    return lines


def _save_checkpoint(
    path: Path, model: nn.Module, optim: Any, accelerator: Accelerator, epoch: int, step: int, total: int
) -> None:
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        state = {
            "model": model.state_dict(),
            "optimizer": optim.state_dict(),
            "place": [epoch, step, total],  # in batches of all processes
            "processes": accelerator.num_processes,
        }
        if accelerator.scaler is not None:
            state["scaler"] = accelerator.scaler.state_dict()
        data = io.BytesIO()  # not the file itself: on a full disk torch raises no OSError
        torch.save(state, data)
        write_bytes(path, data.getbuffer())
        write_json(path.with_name("last.json"), {"epoch": epoch, "step": step, "total_steps": total})


def _load_checkpoint(path: Path, model: nn.Module, optim: Any, accelerator: Accelerator) -> tuple[int, int, int]:
    """(epoch, step in it, steps in all) to go on from.

    Raises:
        CianError: another number of processes wrote it; its place would be another one here.
    """
    if not path.exists():
        return 0, 0, 0
    state = torch.load(path, map_location="cpu", weights_only=True)
    if (processes := state["processes"]) != accelerator.num_processes:
        raise CianError(
            f"{path}: this training was begun with {processes} process{'es' * (processes > 1)}, not "
            f"{accelerator.num_processes}. Go on with as many, or remove this file to train anew."
        )
    model.load_state_dict(state["model"])
    optim.load_state_dict(state["optimizer"])
    if accelerator.scaler is not None and "scaler" in state:
        accelerator.scaler.load_state_dict(state["scaler"])
    epoch, step, total = state["place"]
    return epoch, step, total


@contextmanager
def _signals() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set, so that a step is finished first; a second signal acts at once."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop  # signals cannot be handled here
        return

    def handle(number: int, _: Any) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def save_weights(model: nn.Module, path: Path) -> None:
    # not `save_file`, whose error on a full disk is no OSError
    write_bytes(path, save({name: value.contiguous() for name, value in model.state_dict().items()}))


def load_weights(model: nn.Module, path: Path) -> None:
    """
    Raises:
        CianError: the file is missing, damaged, or of another network.
    """
    try:
        model.load_state_dict(load_file(path))
    except FileNotFoundError:
        raise CianError(f"{path}: no such file. Train first, or give a folder with model.safetensors.") from None
    except Exception as error:  # noqa: BLE001 - safetensors has an exception type of its own, torch raises RuntimeError
        reason = " ".join(str(error).split())[:200]
        raise CianError(f"{path}: these weights cannot be loaded ({reason}). Do they belong to this config?") from None
