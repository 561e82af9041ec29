"""The run directory: the names of its artefacts, and the record of what ran."""

from __future__ import annotations

import contextlib
import csv
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from cian.data.table import Table
from cian.errors import CianError
from cian.files import TEMPORARY, atomic, files_in, lock, read_json, write_json, write_text


@dataclass
class Record:
    """What a stage was made with, and whether it is complete."""

    inputs: dict[str, Any]
    done: bool = False
    seconds: float = 0.0


class Run:
    """A run directory.

    Args:
        path: made if it does not exist.

    Raises:
        CianError: `path` is a file, or a folder that holds something else.
    """

    def __init__(self, path: Path):
        self.path = Path(path)
        if self.path.exists() and not self.path.is_dir():
            raise CianError(f"{self.path}: is a file. Give a folder to --out.")
        own = (TEMPORARY, ".lock")  # all that there is when the first moments of a run were its last
        if (
            self.path.is_dir()
            and not self.stages_file.exists()
            and any(not file.name.startswith(own) for file in self.path.iterdir())
        ):
            raise CianError(f"{self.path}: holds files, but is no run of cian. Give an empty or a new folder to --out.")

    # Names of the artefacts.

    @property
    def config_file(self) -> Path:
        return self.path / "config.yaml"

    @property
    def stages_file(self) -> Path:
        return self.path / "stages.json"

    @property
    def metrics_file(self) -> Path:
        return self.path / "metrics.json"

    @property
    def report_file(self) -> Path:
        return self.path / "report.html"

    @property
    def files_record(self) -> Path:
        """What is known of the files of the data set, see `KnownFiles`."""
        return self.path / "files.csv"

    @property
    def model(self) -> Path:
        return self.path / "model"

    def folder(self, name: str) -> Path:
        """`seeds`, `relabel`, `predictions`, `train`, …"""
        return self.path / name

    def mask(self, folder: str, image_id: str) -> Path:
        """FOLDER/ID.png"""
        return self.path / folder / f"{image_id}.png"

    def has_masks(self, folder: str, ids: Sequence[str]) -> bool:
        """Whether there is a FOLDER/ID.png for each id. Lists the folder, which is faster than a look at each file."""
        if not len(ids):
            return True
        names = set(files_in(self.path / folder)) if (self.path / folder).is_dir() else set()
        return names.issuperset(f"{image_id}.png" for image_id in ids)

    # Start, and the record of what ran.

    @property
    def begun(self) -> bool:
        """Whether the run was started before: it has a record of its stages."""
        return self.stages_file.exists()

    def check_writable(self) -> None:
        """Raises the OSError that writing the run would raise; leaves nothing behind."""
        place = next(folder for folder in (self.path, *self.path.absolute().parents) if folder.exists())
        try:
            with tempfile.TemporaryFile(prefix=TEMPORARY, dir=place):
                pass
        except OSError as error:
            error.filename = str(self.path)
            raise

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the run for this process; the lock goes with the process, however it ends.

        Raises:
            CianError: another process works on this run, or the folder cannot be written.
        """
        with lock(self.path, "works on this run"):
            if not self.begun:
                write_json(self.stages_file, {})
            yield

    def records(self) -> dict[str, Record]:
        if not self.begun:
            return {}
        return {
            name: Record(record["inputs"], record["done"], record["seconds"])
            for name, record in read_json(self.stages_file).items()
        }

    def record(self, name: str, record: Record | None) -> None:
        """Writes (None: removes) what is known of a stage."""
        records = self.records()
        records.pop(name, None)
        if record is not None:
            records[name] = record
        write_json(self.stages_file, {key: value.__dict__ for key, value in records.items()})

    def take_over(self, source: Run, stages: Mapping[str, tuple[str, ...]]) -> None:
        """Copies finished stages of another run, with their records; what is here already stays as it is.

        Args:
            stages: by name, the folders and files that are a stage's own.

        Raises:
            CianError: another process works on this run, or its files cannot be copied.
        """
        with self.locked():
            for name, record in source.records().items():
                here = self.records().get(name)
                if name not in stages or not record.done or (here and here.done and here.inputs == record.inputs):
                    continue
                for output in stages[name]:
                    self._copy(source, output)
                self.record(name, record)

    def _copy(self, other: Run, name: str) -> None:
        """A folder or a file of another run, in place of its own."""
        source, target = other.folder(name), self.folder(name)
        temporary = target.with_name(f"{TEMPORARY}{target.name}")
        shutil.rmtree(temporary, ignore_errors=True)
        self.clear((name,))
        if not source.exists():  # there is none where no held-out image has seeds
            return
        try:
            if source.is_dir():
                shutil.copytree(source, temporary)
            else:
                shutil.copy2(source, temporary)
        except shutil.Error as error:  # of all files, each with its reason
            _, _, why = error.args[0][0]
            cure = "The same command goes on from here when that is cured"
            raise CianError(f"{target}: cannot be copied from {source} ({why}). {cure}.") from None
        temporary.rename(target)

    def clear(self, names: tuple[str, ...]) -> None:
        """Removes artefacts, files and folders."""
        for name in names:
            path = self.path / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def write_config(self, tree: dict[str, Any], versions: dict[str, str]) -> None:
        write_text(
            self.config_file,
            yaml.safe_dump({**tree, "versions": versions}, sort_keys=False, allow_unicode=True),
        )

    def write_table(self, table: Table) -> None:
        """data.csv: id, image, tags, split, mask, labels."""
        with (
            atomic(self.path / "data.csv") as temporary,
            temporary.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
        ):
            writer = csv.writer(file)
            class_names = table.class_names
            writer.writerow(["id", "image", "tags", "split", "mask", "labels"])
            for i, image_id in enumerate(table.ids):
                names = ";".join(class_names[tag] for tag in table.tags(i).tolist())
                files = [table.masks[i] or "", table.labels[i] or ""]
                writer.writerow([image_id, table.images[i], names, table.splits[i], *files])
