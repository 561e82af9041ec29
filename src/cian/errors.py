"""Errors that a user can cause, and what to do about each.

Everything that a user can get wrong ends in a `CianError`. The command line prints its text and exits with 1; a
traceback is a defect of ours.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


class CianError(Exception):
    """A failure with one clear message: what is wrong (file, value), and how to cure it."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a user's data.

    `fatal` problems stop a run; the others are shown and the run goes on.
    """

    file: str
    value: str
    cure: str
    fatal: bool = True

    def __str__(self) -> str:
        return f"{self.file}: {self.value}. {self.cure}"


class DataError(CianError):
    """All problems of a data set at once.

    Attributes:
        problems: all of them; the text shows the first `shown`, many that are alike as one.
    """

    def __init__(self, problems: Sequence[Problem], shown: int = 20):
        self.problems = list(problems)
        count = len(self.problems)
        lines = [f"{count} problem{'s' * (count != 1)} in the data:"]
        groups = _grouped(self.problems)
        for group in groups[:shown]:
            lines.append(f"  - {group[0]}")
            if len(group) > 1:
                lines.append(f"    … and {len(group) - 1} more like it: {_names(group[1:], max(20, shown))}")
        if more := sum(map(len, groups[shown:])):
            lines.append(f"  … and {more} more; `cian check` shows them too.")
        super().__init__("\n".join(lines))


def _grouped(problems: Sequence[Problem]) -> list[list[Problem]]:
    """The problems in their order, more than three that differ in file and numbers only together."""
    kinds: dict[tuple[str, str], list[Problem]] = {}
    for problem in problems:
        kinds.setdefault((re.sub(r"\d+", "#", problem.value), problem.cure), []).append(problem)
    groups: list[list[Problem]] = []
    for alike in kinds.values():
        groups += [alike] if len(alike) > 3 else [[problem] for problem in alike]
    return groups


def _names(problems: Sequence[Problem], most: int) -> str:
    """The names of the files, without folders."""
    names = list(dict.fromkeys(Path(problem.file).name for problem in problems))
    return "; ".join(names[:most]) + "; …" * (len(names) > most)


class Interrupted(CianError):
    """The user stopped a run; what was done is kept, and the same command goes on from there."""


class ReportedByMain(CianError):
    """The main process of a distributed run failed and prints the error. This process ends without a message."""
