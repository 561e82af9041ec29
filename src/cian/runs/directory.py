"""The run directory: the names of its files, and the record of its stages."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import yaml

from cian.data.table import Table
from cian.errors import CianError
from cian.files import TEMPORARY, lock, read_json, remove, write_csv, write_json, write_text


@dataclass
class Record:
    """What a stage was made from, and what it has made.

    Attributes:
        inputs: what it was run with.
        done: whether it is done.
        seconds: how long it took.
        made: fingerprints of the files that it has made, by their paths in the run directory; of a folder of masks, the
            fingerprint of the list in `fingerprints/`. None: not known, as in runs of earlier versions.
    """

    inputs: dict[str, Any]
    done: bool = False
    seconds: float = 0.0
    made: dict[str, str] | None = None


class Run:
    """A run directory.

    Args:
        path: the folder. It is made when the run begins, see `locked`.

    Raises:
        CianError: `path` is a file, or a folder with other files.
    """

    def __init__(self, path: Path):
        self.path = Path(path)
        if self.path.exists() and not self.path.is_dir():
            raise CianError(f"{self.path}: is a file. Give a folder to --out.")
        own = (TEMPORARY, ".lock")  # all that a run has written if it was killed in its first moments
        if (
            self.path.is_dir()
            and not self.stages_file.exists()
            and any(not file.name.startswith(own) for file in self.path.iterdir())
        ):
            raise CianError(f"{self.path}: holds files, but is not a run. Give an empty or a new folder to --out.")

    # Names of the files.

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
    def statistics_file(self) -> Path:
        """For each class, what the network learns it from."""
        return self.path / "statistics.csv"

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

    def fingerprints_file(self, folder: str) -> Path:
        """The fingerprints of the masks in a folder."""
        return self.path / "fingerprints" / f"{folder}.csv"

    @property
    def seen_file(self) -> Path:
        """How files and folders looked when last compared with their fingerprints, see `cian.runs.outputs`."""
        return self.path / "fingerprints" / "last.json"

    # The start of a run, and the record of its stages.

    @property
    def begun(self) -> bool:
        """Whether the run has begun: then it has a record of its stages."""
        return self.stages_file.exists()

    def check_writable(self) -> None:
        """Tests whether the run can be written. Leaves nothing behind.

        Raises:
            OSError: as writing the run would.
        """
        place = next(folder for folder in (self.path, *self.path.absolute().parents) if folder.exists())
        try:
            with tempfile.TemporaryFile(prefix=TEMPORARY, dir=place):
                pass
        except OSError as error:
            error.filename = str(self.path)
            raise

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Makes the run if it is new, and locks it. The lock ends with the process, however that ends.

        Removes what a killed process left half-written. In the folder of a stage, the stage does that.

        Raises:
            CianError: another process works on this run, or the folder cannot be written.
        """
        with lock(self.path, "works on this run"):
            left = [*self.path.glob(f"{TEMPORARY}*"), *self.path.glob(f"fingerprints/**/{TEMPORARY}*")]
            self.clear(path.relative_to(self.path).as_posix() for path in left)
            if not self.begun:
                self.forget()
            yield

    def records(self) -> dict[str, Record]:
        if not self.begun:
            return {}
        cure = "Restore it, or start over with --overwrite, or remove the whole run"
        records: dict[str, Record] = read_json(self.stages_file, dict[str, Record], cure)
        return records

    def forget(self) -> None:
        """Removes the records of all stages."""
        write_json(self.stages_file, {})

    def record(self, name: str, record: Record | None) -> None:
        """Writes the record of a stage. None removes it."""
        records = self.records()
        records.pop(name, None)
        if record is not None:
            records[name] = record
        write_json(self.stages_file, {key: value.__dict__ for key, value in records.items()})

    def take_over(self, source: Run, stages: Mapping[str, tuple[str, ...]]) -> None:
        """Copies finished stages of another run, with their records. Stages that are done here already are kept.

        Args:
            stages: by name, the folders and files that a stage writes.

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
                    self._copy(source, self.fingerprints_file(output).relative_to(self.path).as_posix())
                self.record(name, record)

    def _copy(self, other: Run, name: str) -> None:
        """Replaces a folder or a file by a copy of the same one of another run."""
        source, target = other.folder(name), self.folder(name)
        temporary = target.with_name(f"{TEMPORARY}{target.name}")
        shutil.rmtree(temporary, ignore_errors=True)
        self.clear((name,))
        if not source.exists():  # as without seeds of held-out images
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            if source.is_dir():
                shutil.copytree(source, temporary)
            else:
                shutil.copy2(source, temporary)
        except shutil.Error as error:  # lists all files, each with its reason
            _, _, why = error.args[0][0]
            cure = "Correct that, and run the same command again: it resumes"
            raise CianError(f"{target}: cannot be copied from {source} ({why}). {cure}.") from None
        temporary.rename(target)

    def clear(self, names: Iterable[str]) -> None:
        """Removes files and folders of the run. A folder that is a link, as to another disk, is emptied."""
        for name in names:
            remove(self.path / name)

    def refuse_links(self, names: Iterable[str]) -> None:
        """
        Raises:
            CianError: one of these folders is a link to a folder with files, which a new run has not written.
        """
        for path in map(self.folder, names):
            if path.is_symlink() and path.is_dir() and any(path.iterdir()):
                raise CianError(
                    f"{path}: is a link to a folder that holds files. Empty that folder, or remove the link."
                )

    def write_config(self, tree: dict[str, Any], versions: dict[str, str]) -> None:
        write_text(
            self.config_file,
            yaml.safe_dump({**tree, "versions": versions}, sort_keys=False, allow_unicode=True),
        )

    def write_table(self, table: Table) -> None:
        """data.csv: id, image, tags, split, mask, labels."""
        class_names = table.class_names
        names = [class_names[tag] for tag in table.tag_ids.tolist()]
        tags = (";".join(names[start:stop]) for start, stop in pairwise(table.tag_offsets.tolist()))
        rows = zip(table.ids, table.images, tags, table.splits, table.masks, table.labels, strict=True)
        write_csv(self.path / "data.csv", chain([("id", "image", "tags", "split", "mask", "labels")], rows))
