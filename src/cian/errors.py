"""Errors that a user can cause, and what to do about each.

Everything that a user can get wrong ends in a `CianError`. The command line prints its text and exits with 1; a
traceback is a defect of ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


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
    """All problems of a data set at once."""

    def __init__(self, problems: Sequence[Problem], shown: int = 20):
        self.problems = list(problems)
        lines = [f"{len(self.problems)} problem(s) in the data:"]
        lines += [f"  - {problem}" for problem in self.problems[:shown]]
        if len(self.problems) > shown:
            lines.append(f"  … and {len(self.problems) - shown} more; `cian check` lists all of them.")
        super().__init__("\n".join(lines))


class Interrupted(CianError):
    """The user stopped a run; what was done is kept, and the same command goes on from there."""
