"""The batches of training images, and how many epochs of them are needed."""

from __future__ import annotations

from accelerate import Accelerator

from cian.config import Config
from cian.data.sampler import GroupSampler
from cian.data.table import Table


def training_batches(
    config: Config, table: Table, accelerator: Accelerator, section: str, batch_size: int, group_size: int = 1
) -> GroupSampler:
    """The batches of the training images.

    Args:
        section: the section of the settings, for the error.

    Raises:
        CianError: there are too few images for a batch.
    """
    return GroupSampler(
        table.tag_ids,
        table.tag_offsets,
        batch_size,
        group_size,
        config.seed,
        accelerator.process_index,
        accelerator.num_processes,
        f"{section}.batch_size",
    )


def enough_epochs(sampler: GroupSampler, epochs: int, min_steps: int) -> int:
    """`epochs`, or as many more as `min_steps` need."""
    return max(epochs, -(-min_steps // len(sampler.epoch(0))))
