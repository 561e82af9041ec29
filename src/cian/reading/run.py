"""A run that exists: its settings and its images."""

from __future__ import annotations

from pathlib import Path

from cian.config import Config, load_run_config
from cian.data.images import limit_pixels
from cian.data.table import Table
from cian.errors import CianError, DataError
from cian.reading.read import read_dataset
from cian.runs.directory import Run


def is_run(path: Path) -> bool:
    """Whether a run has begun in a folder: then it has a record of its stages."""
    return (path / "stages.json").is_file()


def open_run(path: str | Path | Run) -> Run:
    """
    Raises:
        CianError: there is no run.
    """
    if isinstance(path, Run):
        return path
    if not is_run(Path(path)):
        raise CianError(f"{path}: no run here. Give the folder that was given to `cian run --out`.")
    return Run(Path(path))


def read_run(run: Run) -> tuple[Config, Table]:
    """The settings of a run, and all of its images. From here on, larger images than its settings allow are refused.

    Raises:
        CianError: its settings cannot be read.
        DataError: its data cannot be read any more.
    """
    config = load_run_config(None, {}, run.config_file)
    limit_pixels(config.data.max_megapixels)
    table, problems = read_dataset(config.data, config.seed)
    if table is None:
        raise DataError([problem for problem in problems if problem.fatal])
    return config, table
