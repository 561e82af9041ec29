"""Weights and checkpoints on disk."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from cian.errors import CianError, Problem
from cian.files import read_sealed, write_bytes, write_json, write_sealed

if TYPE_CHECKING:
    from accelerate import Accelerator

_KIND = "checkpoint 1"


def save_checkpoint(
    path: Path, model: nn.Module, optim: Any, accelerator: Accelerator, epoch: int, step: int, total: int
) -> None:
    """Writes the state of a training, and the place of its next step, in the main process."""
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        state = {
            "model": model.state_dict(),
            "optimizer": optim.state_dict(),
            "place": [epoch, step, total],  # of the next step
            "processes": accelerator.num_processes,
        }
        if accelerator.scaler is not None:
            state["scaler"] = accelerator.scaler.state_dict()
        data = io.BytesIO()  # not the file itself: on a full disk torch does not raise an OSError
        torch.save(state, data)
        write_sealed(path, _KIND, data.getbuffer())  # torch checks no checksum
        write_json(path.with_name("last.json"), {"epoch": epoch, "step": step, "total_steps": total})


def load_checkpoint(path: Path, model: nn.Module, optim: Any, accelerator: Accelerator) -> tuple[int, int, int]:
    """Loads a checkpoint, if there is one, and returns the place to continue from: (epoch, step in it, steps in all).

    A damaged checkpoint is not used. The training then starts from its beginning.

    Raises:
        CianError: another number of processes wrote it, whose steps are of another size.
    """
    if not path.exists():
        return 0, 0, 0
    body = read_sealed(path, _KIND)
    if body is None:
        from cian.terminal import note  # slow to import; loading a model needs this file

        note(Problem(str(path), "damaged, or of an earlier version", "The training starts from its beginning"))
        return 0, 0, 0
    state = torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
    if (processes := state["processes"]) != accelerator.num_processes:
        raise CianError(
            f"{path}: this training started with {processes} process{'es' * (processes > 1)}, not "
            f"{accelerator.num_processes}. Resume with {processes}, or remove this file to train from the start."
        )
    model.load_state_dict(state["model"])
    optim.load_state_dict(state["optimizer"])
    if accelerator.scaler is not None and "scaler" in state:
        accelerator.scaler.load_state_dict(state["scaler"])
    epoch, step, total = state["place"]
    return epoch, step, total


def save_weights(model: nn.Module, path: Path) -> None:
    """Writes the parameters and buffers of a network as safetensors."""
    # Not `save_file`, whose error on a full disk is not an OSError.
    write_bytes(path, save({name: value.contiguous() for name, value in model.state_dict().items()}))


def load_weights(model: nn.Module, path: Path) -> None:
    """Loads what `save_weights` wrote.

    Raises:
        CianError: the file is missing or damaged, belongs to another network, or holds values that are not finite.
    """
    try:
        state = load_file(path)
        model.load_state_dict(state)
    except FileNotFoundError:
        raise CianError(f"{path}: no such file. Train first, or give a folder with model.safetensors.") from None
    except Exception as error:  # noqa: BLE001 - safetensors has an exception type of its own, torch raises RuntimeError
        reason = " ".join(str(error).split())[:200]
        raise CianError(
            f"{path}: these weights cannot be loaded ({reason}). Check that they belong to this configuration."
        ) from None
    if (name := not_finite(state)) is not None:
        raise CianError(f"{path}: {name} holds values that are NaN or infinite. Train again, or take other weights.")


def not_finite(state: Mapping[str, Tensor]) -> str | None:
    """The name of the first tensor that holds NaN or infinite values; None if there is none."""
    return next((name for name, value in state.items() if not value.isfinite().all()), None)
