"""Errors that a user can cause, each with what to do about it.

Every mistake of a user ends in a `CianError`. The command line prints its text and exits with 1. A traceback is a bug
in cian.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


class CianError(Exception):
    """A failure with one clear message: the file or setting, what is wrong, and what to do."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a user's data.

    A `fatal` problem stops the run. Others are shown as notes.
    """

    file: str
    value: str
    cure: str
    fatal: bool = True
    count: int = 1  # how many problems of its kind it stands for

    def __str__(self) -> str:
        more = f" (and {self.count - 1:,} more)" if self.count > 1 else ""
        return f"{self.file}: {self.value}{more}. {self.cure}"


class DataError(CianError):
    """All problems of a data set at once.

    Attributes:
        problems: all of them. The text shows the first `shown`, and those that are alike as one.
    """

    def __init__(self, problems: Sequence[Problem], shown: int = 20):
        self.problems = list(problems)
        count = sum(problem.count for problem in self.problems)
        lines = [f"{count} problem{'s' * (count != 1)} in the data:"]
        groups = _grouped(self.problems)
        for group in groups[:shown]:
            lines.append(f"  - {group[0]}")
            if len(group) > 1:
                alike = sum(problem.count for problem in group) - group[0].count
                lines.append(f"    … and {alike} more like it: {_names(group[1:])}")
        if more := sum(problem.count for group in groups[shown:] for problem in group):
            lines.append(f"  … and {more} more; `cian check` shows them too.")
        super().__init__("\n".join(lines))


def _grouped(problems: Sequence[Problem]) -> list[list[Problem]]:
    """The problems in their order. More than three that differ only in file and numbers form one group."""
    kinds: dict[tuple[str, str], list[Problem]] = {}
    for problem in problems:
        kinds.setdefault((re.sub(r"\d+", "#", problem.value), problem.cure), []).append(problem)
    groups: list[list[Problem]] = []
    for alike in kinds.values():
        groups += [alike] if len(alike) > 3 else [[problem] for problem in alike]
    return groups


def _names(problems: Sequence[Problem], most: int = 20) -> str:
    """The names of the first files, without their folders; of one file, the lines."""
    names = list(dict.fromkeys(Path(problem.file).name for problem in problems))
    starts = {name.rpartition(" ")[0] for name in names}
    if len(starts) == 1 and ", " in starts.pop():  # tags.csv, line 3
        names = [names[0], *(name.rpartition(" ")[2] for name in names[1:])]
        return ", ".join(names[:most]) + ", …" * (len(names) > most)
    return "; ".join(names[:most]) + "; …" * (len(names) > most)


class Interrupted(CianError):
    """A signal stopped the work. Finished work is kept, and the same command resumes.

    Attributes:
        number: of the signal.
    """

    def __init__(self, message: str, number: int = signal.SIGINT):
        super().__init__(message)
        self.number = number


class ReportedByMain(CianError):
    """The main process of a distributed run failed and prints the error. This process ends without a message."""


def is_silent() -> bool:
    """Whether another process of a distributed run, the first one, shows the progress and the errors."""
    return os.environ.get("RANK", "0") != "0"
