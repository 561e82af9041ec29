"""Class names: from a file, or from the tags in use."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path

from cian.config import DataConfig
from cian.data.problems import ProblemList, printable, quoted
from cian.data.table import BACKGROUND, MAX_CLASSES
from cian.errors import DataError
from cian.formats.format import TagSource
from cian.formats.text import clean, read_lines


def class_names(path: Path) -> list[str]:
    """Reads a file with one class name a line, in order of the class ids; a first line `background` (also in
    underscores, as LabelMe and torchvision write it) is left out.

    Raises:
        CianError: the file cannot be read, or a name is empty, doubled or reserved; all of them at once.
    """
    problems = ProblemList()
    names: dict[str, None] = {}
    lines = [clean(line) for line in read_lines(path)]
    while lines and not lines[-1]:
        lines.pop()
    for number, name in enumerate(lines, start=1):
        where = f"{path}, line {number}"
        if number == 1 and _reserved(name):
            continue
        if not name:
            problems.add(where, "an empty line, but each line is a class id", "Remove the line or write a name")
        elif name in names:
            problems.add(where, f"class {quoted(name)} occurs twice", "Remove one of them")
        elif not check_name(name, where, problems):
            continue
        names[name] = None
    if not names:
        problems.add(path, "holds no class name", "Write one class name a line")
    if problems.all():
        raise DataError(problems.all())
    return list(names)


def _reserved(name: str) -> bool:
    return name.strip("_").casefold() == BACKGROUND


def check_name(name: str, where: str, problems: ProblemList) -> bool:
    if _reserved(name):
        problems.add(where, f"the name {quoted(name)} is reserved for class id 0", "Remove or rename this tag")
    elif printable(name) != name:
        problems.add(where, f"{quoted(name)} is not a class name", "Use letters, digits, spaces and signs")
    else:
        return True
    return False


def resolve_classes(
    config: DataConfig,
    source: TagSource,
    given: list[str] | None,
    tags: Iterable[tuple[str, ...] | None],
    problems: ProblemList,
) -> list[str]:
    """Class names in the order of their ids; empty if there are none or too many."""
    used = dict.fromkeys(name for row in tags for name in row or ())
    sound = [name for name in used if check_name(name, source.where(name), problems)]
    if given is None:
        classes = sorted(sound)
        _warn_of_lookalikes(classes, config.separator, source, problems)
    else:
        classes = given
        known = set(given)
        unknown = [name for name in sound if name not in known]
        for number, name in enumerate(unknown):
            value = f"tag {quoted(name)} is not in {config.classes}"
            if number < 100:  # each suggestion compares the tag with all classes
                value += _suggestion(name, given)
            problems.add(source.where(name), value, "Correct the tag, or add it to the classes")
    if not used:
        problems.add(source.path, "gives no tag to any image", "Tag the images: cian learns from tags")
    if len(classes) > MAX_CLASSES:
        problems.add(
            config.classes or source.path,
            f"{len(classes)} classes, but masks hold at most {MAX_CLASSES}",
            "Merge or drop classes; check data.separator if these are not your classes",
        )
        return []
    return classes


def _warn_of_lookalikes(classes: Sequence[str], separator: str, source: TagSource, problems: ProblemList) -> None:
    seen: dict[str, str] = {}
    for name in classes:
        other = seen.setdefault(name.casefold(), name)
        if other != name:
            value = f"classes {quoted(other)} and {quoted(name)} differ in case only"
            problems.add(source.where(name), value, "Write them alike if they are one class", fatal=False)
    for sign in ",;|":
        holders = [name for name in classes if sign in name]
        if holders and sign != separator:
            value = f"the tag {quoted(holders[0])} holds {quoted(sign)}"
            cure = f"If these are several tags, set data.separator='{sign}'"
            problems.add(source.where(holders[0]), value, cure, fatal=False)


def _suggestion(name: str, names: Sequence[str]) -> str:
    match = difflib.get_close_matches(name, names, n=1) or [other for other in names if other.lower() == name.lower()]
    return f" (did you mean {quoted(match[0])}?)" if match else ""
