"""The training loop: resumes from its checkpoint, logs, and stops cleanly when interrupted."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.data import DataLoader

from cian.config import OptimizerConfig, RuntimeConfig
from cian.data.dataset import TrainingSet
from cian.data.sampler import GroupSampler
from cian.errors import CianError, Interrupted
from cian.terminal import Ticker
from cian.training.checkpoint import load_checkpoint, save_checkpoint, save_weights
from cian.training.device import loader_workers
from cian.training.interrupts import catch_signals, ignore_signals
from cian.training.log import Log

Batch = dict[str, Tensor]
Losses = dict[str, Tensor]
LOG_STEPS = 10


def make_optimizer(groups: list[dict], settings: OptimizerConfig) -> torch.optim.Optimizer:
    if settings.name == "sgd":
        return torch.optim.SGD(groups, momentum=0.9, weight_decay=settings.weight_decay, fused=True)
    return torch.optim.AdamW(groups, weight_decay=settings.weight_decay, fused=True)


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
    epoch, step, total = load_checkpoint(checkpoint, model, optim, accelerator)
    workers = loader_workers(runtime)
    loader = DataLoader(
        data,
        batch_sampler=_Plan(sampler, epochs, epoch, step),
        num_workers=workers,
        pin_memory=accelerator.device.type == "cuda",
        prefetch_factor=3 if workers else None,
        worker_init_fn=ignore_signals,
    )
    per_step = sampler.batch_size * accelerator.num_processes
    images = sum(len(sampler.epoch(e)) for e in range(min(epochs, 3))) / min(epochs, 3) * epochs * per_step
    log = Log(folder, total) if accelerator.is_main_process else None
    accelerator.step = 0  # accumulation starts anew with each stage and each checkpoint
    saved = time.monotonic()
    ask = False  # whether several processes have to agree on a checkpoint at the next step
    done = total * per_step
    text = ""
    with (
        _loading_errors(),
        catch_signals() as stop,
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
                    save_checkpoint(checkpoint, model, optim, accelerator, *at, total)
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
