"""Class names: what a file of them says, and which names a class can have."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from cian.data.palette import VOC_COLOURS
from cian.data.problems import ProblemList, printable, quoted
from cian.data.table import BACKGROUND
from cian.errors import DataError
from cian.formats.columns import TAG_COLUMNS, TAGS_COLUMNS, is_missing
from cian.formats.text import clean, read_lines

_HEADERS = frozenset({*TAG_COLUMNS, *TAGS_COLUMNS, "name", "names", "class name", "classname", "categories"})
_NUMBERED = (
    re.compile(r"(?P<id>[0-9]{1,3})(?: ?[:,;=.)] ?| )(?P<name>.*[^\W\d_].*)"),
    re.compile(r"(?P<name>.*[^\W\d_].*?) ?[:,;=] ?(?P<id>[0-9]{1,3})"),
)
_COLOUR = re.compile(r"([^:#][^:]*):(\d+,\d+,\d+):[^:]*:[^:]*")  # CVAT's labelmap.txt
_LONGEST = 200  # letters of a class name


def class_names(path: Path, background: bool = True, text: str | None = None) -> list[str]:
    """Reads a file of class names, in the order of the class ids.

    Each line is a name, or a number and a name (`1 cat`, `1: cat`, `cat,1`; also with a header, as Roboflow's
    `_classes.csv`). Without numbers, the first line is id 1; `background` (also in underscores, as LabelMe and
    torchvision write it) may stand before it. Numbers are ids, so 0 has to be background. CVAT's `labelmap.txt` names a
    class and its colour in each line.

    Args:
        background: whether id 0 is background. Otherwise the first class has id 0.
        text: the content, if the file lies in an archive.

    Raises:
        CianError: the file cannot be read, or a name is empty, doubled or reserved; all problems at once.
    """
    problems = ProblemList()
    names: dict[str, None] = {}
    lines = [clean(line) for line in (read_lines(path) if text is None else text.split("\n"))]
    while lines and not lines[-1]:
        lines.pop()
    for number, name in _listed_names(path, lines, background, problems):
        where = f"{path}, line {number}"
        if not name:
            problems.add(where, "an empty line, but each line is a class id", "Remove the line or write a name")
        elif name in names:
            problems.add(where, f"class {quoted(name)} occurs twice", "Remove one of them")
        elif not check_name(name, where, problems):
            continue
        names[name] = None
    if not names and not problems.all():
        problems.add(path, "holds no class name", "Write one class name per line")
    if problems.all():
        raise DataError(problems.all())
    return list(names)


def _listed_names(path: Path, lines: Sequence[str], background: bool, problems: ProblemList) -> list[tuple[int, str]]:
    """(line, name) of the classes, without background."""
    listed = list(enumerate(lines, start=1))
    for line, text in listed:
        if len(text) > 2 * _LONGEST:  # the patterns below would take a time that grows with its square
            problems.add(f"{path}, line {line}", f"has {len(text):,} letters", "Write one class name per line")
            return []
    if listed and (listed[0][1][:1] in ("{", "[") or listed[0][1].casefold() in ("names:", "---")):
        problems.add(path, "is not a list of class names", "Write one class name per line")
        return []
    numbered = _numbered(listed) or (_numbered(listed[1:]) if re.search("[,;:]", lines[0] if lines else "") else None)
    if numbered is not None:
        ids = [class_id for class_id, _, _ in numbered]
        if background and not _is_background(numbered[0][2]) and ids[0] == 0:
            value = f"class {quoted(numbered[0][2])} has the id 0, which is that of background"
            cure = (
                "Number classes from 1, here and in masks (to score masks as they are, give evaluate --no-background)"
            )
            problems.add(f"{path}, line {numbered[0][1]}", value, cure)
        return [(line, name) for class_id, line, name in numbered if class_id > 0 or not background]
    for line, text in listed:
        matches = (pattern.fullmatch(text) for pattern in _NUMBERED)
        if any(match and _is_background(match["name"]) for match in matches):
            value = f"{quoted(text)} names background and numbers, but the numbers are not 0, 1, 2, …"
            problems.add(f"{path}, line {line}", value, "Number the classes without gaps, here and in masks")
            return []
    colours = [(line, match[1]) for line, text in listed if (match := _COLOUR.fullmatch(text))]
    if colours and len(colours) == sum(bool(text) and not text.startswith("#") for _, text in listed):
        listed = colours
        _check_colours(path, lines, problems)
    if len(listed) > 1 and listed[0][1].casefold() == "__ignore__":  # LabelMe's id -1
        listed = listed[1:]
    if listed and _is_background(listed[0][1]):
        listed = listed[1:]
    for line, name in listed:
        if name.startswith("# ") or (line == 1 and name.casefold() in _HEADERS):
            what = "a comment" if name.startswith("#") else "a header"
            value = f"{quoted(name)} looks like {what}, but each line is a class id"
            problems.add(f"{path}, line {line}", value, "Remove the line")
    return listed


def _check_colours(path: Path, lines: Sequence[str], problems: ProblemList) -> None:
    """Refuses colours that `read_mask` would take for other classes: it reads colour masks by the colours of VOC."""
    found = [match for match in map(_COLOUR.fullmatch, lines) if match and not _is_background(match[1])]
    ids = {tuple(colour): class_id for class_id, colour in enumerate(VOC_COLOURS[: len(found) + 1].tolist())}
    for class_id, match in enumerate(found, start=1):
        other = ids.get(tuple(map(int, match[2].split(","))), class_id)
        if other != class_id:
            value = f"gives {quoted(match[1])} the colour of id {other} in PASCAL VOC's masks, but it is id {class_id}"
            cure = "Save the masks as indexed PNG whose values are class ids, and give one class name per line"
            problems.add(path, value, cure)
            return


def _numbered(listed: Sequence[tuple[int, str]]) -> list[tuple[int, int, str]] | None:
    """(id, line, name) in the order of ids, if each line has a number, and they run from 0 or 1 without a gap."""
    for pattern in _NUMBERED:
        matches = [(line, pattern.fullmatch(text)) for line, text in listed if text]
        found = sorted((int(match["id"]), line, match["name"]) for line, match in matches if match)
        if not found or len(found) < len(matches):
            continue
        ids = [class_id for class_id, _, _ in found]
        has_background = any(_is_background(name) for _, _, name in found)
        whole = ids == list(range(ids[0], ids[0] + len(ids))) and ids[0] in (0, 1)
        if whole and len({name for _, _, name in found}) == len(found) and (len(found) > 1 or has_background):
            return found  # otherwise names that begin with a number: 1 euro, 2 euro
    return None


def _is_background(name: str) -> bool:
    return name.strip("_").casefold() == BACKGROUND


def check_name(name: str, where: str, problems: ProblemList) -> bool:
    """Whether a name can be that of a class; adds a problem if not."""
    if _is_background(name):
        problems.add(where, f"the name {quoted(name)} is reserved for class id 0", "Remove or rename this tag")
    elif is_missing(name):
        value = f"the name {quoted(name)} is that of a missing value"
        cure = "Leave the tag empty if the image shows no class (data.untagged=negative), or rename the class"
        problems.add(where, value, cure)
    elif len(name) > _LONGEST:
        value = f"{quoted(name)} has {len(name):,} letters, and the name of a class has at most {_LONGEST}"
        problems.add(where, value, "Shorten it. If it is several names, check data.separator")
    elif name[:1] in ("[", "{"):
        value = f"{quoted(name)} looks like part of a list, not like a class name"
        problems.add(where, value, 'Write several tags as `cat;dog` or as a list `["cat", "dog"]`')
    elif printable(name) != name:
        problems.add(where, f"{quoted(name)} is not a class name", "Use letters, digits, spaces and signs")
    else:
        return True
    return False
