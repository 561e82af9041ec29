"""What is wrong with a user's data: how messages are written and collected."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from cian.errors import CianError, DataError, Problem


class FileError(CianError):
    """A file or folder cannot be used. `problem` says which one, what is wrong, and what to do."""

    def __init__(self, problem: Problem | str):  # a str when unpickled in another process
        super().__init__(str(problem))
        self.problem = problem if isinstance(problem, Problem) else Problem("", problem, "")


def file_error(file: Path | str, value: str, cure: str) -> FileError:
    """The error "file: value. cure"."""
    return FileError(Problem(printable(str(file)), printable(value), cure))


def printable(text: str) -> str:
    """The text with escapes for characters that a terminal cannot show on one line."""
    return text if text.isprintable() else "".join(c if _shows(c) else repr(c)[1:-1] for c in text)


def _shows(character: str) -> bool:
    """Whether a character is neither a control character, nor a line break, nor half of one."""
    return unicodedata.category(character) not in ("Cc", "Cs", "Zl", "Zp")


def reason(error: Exception) -> str:
    """What an exception says, on one line."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(text.split())


def quoted(text: str, most: int = 80) -> str:
    """The text in quotes for a message, cut if it is long."""
    return f"'{printable(text if len(text) <= most else text[: most - 1] + '…')}'"


def counted(number: int, noun: str) -> str:
    """ "1 image", "2 images"."""
    return f"{number} {noun}{'s' * (number != 1)}"


def few(names: Sequence[str], most: int = 3) -> str:
    """How many images, and the names of the first few: "97 images (a.jpg, b.jpg, c.jpg, …)"."""
    return f"{counted(len(names), 'image')} ({', '.join(names[:most])}{', …' * (len(names) > most)})"


def first(texts: Sequence[str], most: int = 10) -> str:
    """The first texts, and how many there are if these are not all."""
    return ", ".join(texts[:most]) + f", … ({len(texts)} in all)" * (len(texts) > most)


class ProblemList:
    """Collects problems. Of each kind (those with the same cure) it keeps the first thousand, and counts the others."""

    MOST = 1000

    def __init__(self) -> None:
        self._kinds: dict[tuple[str, bool], list[Problem]] = {}
        self._counts: Counter[tuple[str, bool]] = Counter()

    def add(self, file: Path | str, value: str, cure: str, fatal: bool = True) -> None:
        self.append(Problem(str(file), value, cure, fatal))

    def append(self, problem: Problem) -> None:
        kind = (problem.cure, problem.fatal)
        self._counts[kind] += 1
        if self._counts[kind] <= self.MOST:
            self._kinds.setdefault(kind, []).append(
                Problem(printable(problem.file), printable(problem.value), problem.cure, problem.fatal)
            )

    def stop(self, but: str) -> bool:
        """Whether there is a fatal problem with another cure than `but`."""
        return any(fatal and cure != but for cure, fatal in self._kinds)

    def all(self) -> list[Problem]:
        """The problems, kind by kind, fatal ones first."""
        result: list[Problem] = []
        for kind, problems in sorted(self._kinds.items(), key=lambda item: not item[0][1]):
            more = self._counts[kind] - len(problems)
            result += [*problems[:-1], replace(problems[-1], count=1 + more)]
        return result

    @contextmanager
    def collecting(self) -> Iterator[None]:
        """Ends the block at the first file that cannot be used at all, and adds the problem."""
        try:
            yield
        except FileError as error:
            self.append(error.problem)
        except DataError as error:
            for problem in error.problems:
                self.append(problem)
