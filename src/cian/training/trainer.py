"""The training loop: resumes from its checkpoint, logs, and stops cleanly when it is interrupted."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from cian.config import OptimizerConfig, RuntimeConfig
from cian.data.dataset import TrainingSet
from cian.data.sampler import GroupSampler
from cian.distributed import join_batch_norms
from cian.errors import CianError, Interrupted
from cian.signals import Stop, catch_signals
from cian.terminal import Ticker
from cian.training.checkpoint import load_checkpoint, not_finite, save_checkpoint, save_weights
from cian.training.loading import Batch, Batches, BatchPlan, loading_errors, make_loader
from cian.training.log import Log

Losses = dict[str, Tensor]
LOG_STEPS = 10  # steps from one line of the log to the next


@dataclass(frozen=True)
class Task:
    """What is trained, on what, and for how long.

    Attributes:
        model: a network with a `backbone`.
        loss: (model, batch, share of the training that is done) → scalars by name; "total" is minimised.
        data, sampler: the samples, and the plan of batches.
        folder: gets `checkpoints/`, `metrics.jsonl`, `tensorboard/` and, at the end, `model.safetensors`.
        title: the name that people read.
        section: the section of the settings, for error messages.
    """

    model: nn.Module
    loss: Callable[[nn.Module, Batch, float], Losses]
    data: TrainingSet
    sampler: GroupSampler
    epochs: int
    optimizer: OptimizerConfig
    folder: Path
    title: str
    section: str

    @property
    def weights(self) -> Path:
        """The trained weights."""
        return self.folder / "model.safetensors"

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoints" / "last.pt"


def fit(task: Task, runtime: RuntimeConfig, accelerator: Accelerator) -> None:
    """Trains the task's model, from its checkpoint on if there is one, and writes the trained weights.

    The model moves to the accelerator's device.

    Raises:
        Interrupted: a signal came; a checkpoint is written.
        CianError: the loss or the weights are not finite, or the checkpoint comes from another number of processes.
    """
    if not task.weights.exists():  # else the process was killed after the last step
        training = _Training(task, runtime, accelerator)
        with catch_signals() as stop:
            training.run(stop)
            if not_finite(task.model.state_dict()) is not None:
                raise training.diverged("the weights became NaN or infinite")
            accelerator.wait_for_everyone()
            if accelerator.is_main_process:
                save_weights(task.model, task.weights)
            accelerator.wait_for_everyone()
        accelerator.free_memory()
    if accelerator.is_main_process:
        task.checkpoint.unlink(missing_ok=True)


def make_optimizer(model: nn.Module, settings: OptimizerConfig) -> torch.optim.Optimizer:
    """The optimiser of a network: its backbone at `lr`, everything else at `lr · new_lr_factor`."""
    named = dict(model.named_parameters())
    old = [value for name, value in named.items() if name.startswith("backbone.") and value.requires_grad]
    new = [value for name, value in named.items() if not name.startswith("backbone.")]
    groups = [{"params": old, "lr": settings.lr}, {"params": new, "lr": settings.lr * settings.new_lr_factor}]
    if settings.name == "sgd":
        return torch.optim.SGD(groups, momentum=0.9, weight_decay=settings.weight_decay, fused=True)
    return torch.optim.AdamW(groups, weight_decay=settings.weight_decay, fused=True)


class _Training:
    """A training under way: the task, and how far it is.

    Attributes:
        epoch, step, total: the next step: its epoch, its number in the epoch, its number in the training.
    """

    def __init__(self, task: Task, runtime: RuntimeConfig, accelerator: Accelerator):
        self.task, self.runtime, self.accelerator = task, runtime, accelerator
        task.model.train()
        join_batch_norms(task.model)
        optimizer = make_optimizer(task.model, task.optimizer)
        self.first_lrs = [group["lr"] for group in optimizer.param_groups]
        self.engine, self.optimizer = accelerator.prepare(task.model, optimizer)
        self.epoch, self.step, self.total = load_checkpoint(task.checkpoint, task.model, self.optimizer, accelerator)
        accelerator.step = 0  # gradient accumulation begins with the task, and with each checkpoint
        self.per_step = task.sampler.batch_size * accelerator.num_processes  # images
        self.log = Log(task.folder, self.total, runtime.trackers) if accelerator.is_main_process else None
        self.saved = time.monotonic()
        self.ask = False  # whether the processes agree on a checkpoint at the next step that allows one
        self.text = ""  # beside the progress

    def run(self, stop: Stop) -> None:
        """Takes all steps that are left."""
        task = self.task
        plan = BatchPlan(task.sampler, task.epochs, self.epoch, self.step)
        loader = make_loader(task.data, plan, self.runtime, self.accelerator.device.type == "cuda")
        log: AbstractContextManager = nullcontext() if self.log is None else closing(self.log)
        with log, loading_errors(stop), self._ticker() as ticker, Batches(loader) as batches:
            while self.epoch < task.epochs:
                steps = len(task.sampler.epoch(self.epoch))
                while self.step < steps:
                    losses = self._learn(next(batches), steps)
                    self.step, self.total = self.step + 1, self.total + 1
                    self._write_log(losses, steps, ticker)
                    ticker.advance(self.per_step, f"epoch {self.epoch + 1}/{task.epochs}{self.text}")
                    self._save_when_due(steps, stop)
                self.epoch, self.step = self.epoch + 1, 0

    def _ticker(self) -> Ticker:
        first = [len(self.task.sampler.epoch(epoch)) for epoch in range(min(self.task.epochs, 3))]
        images = sum(first) / len(first) * self.task.epochs * self.per_step
        done = self.total * self.per_step
        return Ticker(self.task.title, max(round(images), done), done)

    def _learn(self, batch: Batch, steps: int) -> Losses:
        """One step, of `steps` in this epoch."""
        task, accelerator = self.task, self.accelerator
        batch = {key: value.to(accelerator.device, non_blocking=True) for key, value in batch.items()}
        # The schedule of the learning rate: poly decay.
        progress = (self.epoch + (0 if task.optimizer.poly_per_epoch else self.step / steps)) / task.epochs
        for group, lr in zip(self.optimizer.param_groups, self.first_lrs, strict=True):
            group["lr"] = lr * (1 - progress) ** task.optimizer.poly_power
        if (self.epoch, self.step) == (task.epochs - 1, steps - 1):
            accelerator.step = -1  # the last batches make a step, however few they are
        with accelerator.accumulate(self.engine):
            losses = task.loss(self.engine, batch, (self.epoch + self.step / steps) / task.epochs)
            accelerator.backward(losses["total"])
            if task.optimizer.clip_norm and accelerator.sync_gradients:
                accelerator.clip_grad_norm_(self.engine.parameters(), task.optimizer.clip_norm)
            self.optimizer.step()
            self.optimizer.zero_grad()
        return losses

    def _write_log(self, losses: Losses, steps: int, ticker: Ticker) -> None:
        """Writes every LOG_STEPS-th step and the last one of an epoch into the log.

        Raises:
            CianError: the loss is not finite.
        """
        if self.log is None or (self.total % LOG_STEPS and self.step < steps):
            return
        values = {name: round(float(value.detach()), 6) for name, value in losses.items()}
        if not math.isfinite(values["total"]):
            raise self.diverged(f"the loss became {values['total']} in epoch {self.epoch + 1}, step {self.total}")
        lr = self.optimizer.param_groups[0]["lr"]
        self.log.write(self.total, self.epoch + self.step / steps, values, lr, ticker.speed)
        self.text = f" · loss {values['total']:.3f}"

    def diverged(self, what: str) -> CianError:
        """The error of a training that diverged."""
        title, section, lr = self.task.title, self.task.section, self.task.optimizer.lr
        return CianError(
            f"{title}: {what}. Lower {section}.optimizer.lr (it is {lr:g}), or set {section}.optimizer.clip_norm=1 or "
            "runtime.precision=fp32."
        )

    def _save_when_due(self, steps: int, stop: Stop) -> None:
        """Writes a checkpoint when the last one is old enough, and when the training is to stop.

        Raises:
            Interrupted: the training is to stop.
        """
        accelerator = self.accelerator
        # Several processes agree only from time to time, because that costs time.
        self.ask = self.ask or accelerator.num_processes == 1 or self.total % LOG_STEPS == 0
        if not self.ask or not accelerator.sync_gradients:  # a checkpoint holds no gradients
            return
        self.ask = False
        due = time.monotonic() - self.saved > self.runtime.checkpoint_seconds
        interrupted, due = _any_process(accelerator, stop.number is not None, due)
        if interrupted or due:
            place = (self.epoch, self.step) if self.step < steps else (self.epoch + 1, 0)
            save_checkpoint(self.task.checkpoint, self.task.model, self.optimizer, accelerator, *place, self.total)
            self.saved = time.monotonic()
        if interrupted:
            raise Interrupted(
                f"{self.task.title}: stopped in epoch {self.epoch + 1} of {self.task.epochs}; a checkpoint is written. "
                "The same command resumes.",
                stop.number or signal.SIGTERM,  # another process has it
            )


def _any_process(accelerator: Accelerator, *flags: bool) -> list[bool]:
    """For each flag, whether any process has set it. Clocks and signals differ, but the processes act together."""
    if accelerator.num_processes == 1:
        return list(flags)
    own = torch.tensor([flags], dtype=torch.uint8, device=accelerator.device)
    return [bool(flag) for flag in accelerator.gather(own).amax(0).tolist()]
