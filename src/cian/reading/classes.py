"""The classes of a data set: from a file or from the tags, and what `data.drop` and `data.merge` make of them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from cian.config import DataConfig
from cian.data.problems import ProblemList, quoted
from cian.data.table import MAX_CLASSES
from cian.formats.class_names import check_name
from cian.formats.format import TagSource
from cian.formats.text import clean

_SEPARATORS = (",", ";", "|", "，", "；", "、")  # hardly ever in the name of a class
_NO_TAGS = frozenset({"unlabelled", "unlabeled", "untagged", "unknown", "unsorted", "todo"})
_SIGNS = (*_SEPARATORS, "/", "+", "&", " and ", " ", "_", "-")
_SUGGESTIONS = 100  # unknown names for which the nearest class is looked up: each is compared with all classes


@dataclass(frozen=True)
class ClassChanges:
    """`data.drop` and `data.merge`: classes that are left out, and classes that become one with another."""

    drop: frozenset[str] = frozenset()
    merge: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, config: DataConfig) -> ClassChanges:
        """Those of some settings, which are not checked."""
        return cls(frozenset(map(clean, config.drop)), {clean(old): clean(new) for old, new in config.merge.items()})

    def __bool__(self) -> bool:
        return bool(self.drop or self.merge)

    def name(self, old: str) -> str | None:
        """What a class is called now; None if it is dropped."""
        return None if old in self.drop else self.merge.get(old, old)

    def names(self, old: Iterable[str]) -> tuple[str, ...]:
        """What classes are called now, each once, in their order, without the dropped ones."""
        return tuple(dict.fromkeys(name for name in map(self.name, old) if name is not None))


def class_changes(config: DataConfig, known: Iterable[str], problems: ProblemList) -> ClassChanges:
    """The changes that the settings ask for; those that cannot be made become problems and are left out.

    Args:
        known: the names of all classes, in tags and in the file of classes.
    """
    changes = ClassChanges.of(config)
    drop, merge = changes.drop, changes.merge
    names = list(dict.fromkeys(known))
    for key, given in (("data.drop", drop), ("data.merge", set(merge))):
        for name in sorted(given - set(names)):
            value = f"{key} names {quoted(name)}, which is no class of the data{suggestion(name, names)}"
            problems.add("settings", value, "Correct the name or remove it")
    for name in sorted(drop & (merge.keys() | set(merge.values()))):
        problems.add("settings", f"class {quoted(name)} is in data.drop and in data.merge", "Name it in one of them")
    for old, new in merge.items():
        if new in merge:
            value = f"data.merge merges {quoted(old)} into {quoted(new)}, which is itself merged into another class"
            problems.add("settings", value, f"Merge {quoted(old)} into the last class directly")
        elif check_name(new, "settings, data.merge", problems) and new not in names and suggestion(new, names):
            value = f"data.merge makes a new class {quoted(new)}{suggestion(new, names)}"
            problems.add("settings", value, "Correct the name if this is a typing error", fatal=False)
    return changes


def resolve_classes(
    config: DataConfig,
    source: TagSource,
    given: Sequence[str] | None,
    tags: Iterable[tuple[str, ...] | None],
    problems: ProblemList,
) -> list[str]:
    """Class names in the order of their ids; empty if there are none or too many.

    Args:
        given: the names in the file of classes, if there is one.
        tags: the tags of each image. Both are as `data.drop` and `data.merge` leave them.
    """
    used = dict.fromkeys(name for row in tags for name in row or ())
    sound = [name for name in used if check_name(name, source.where(name), problems)]
    for name in (name for name in sound if name.casefold() in _NO_TAGS):
        value = f"the class {quoted(name)} sounds like images without tags"
        problems.add(source.where(name), value, f"If it is none, leave it out (data.drop=[{name}])", fatal=False)
    if given is None:
        classes = sorted(sound)
        _note_lookalikes(classes, config.separator, source, problems)
    else:
        classes = list(given)
        known = set(given)
        unknown = [name for name in sound if name not in known]
        for number, name in enumerate(unknown):
            value = f"tag {quoted(name)} is not in {config.classes}"
            if number < _SUGGESTIONS:
                value += suggestion(name, given)
            problems.add(source.where(name), value, "Correct the tag, or add it to the classes")
    if not used:
        problems.add(source.path, "gives no tag to any image", "Tag the images: cian learns from tags")
    if len(classes) > MAX_CLASSES:
        problems.add(
            config.classes or source.path,
            f"{len(classes)} classes, but masks hold at most {MAX_CLASSES}",
            "Merge classes (data.merge) or leave some out (data.drop); if these are no classes, check data.separator",
        )
        return []
    return classes


def _note_lookalikes(classes: Sequence[str], separator: str, source: TagSource, problems: ProblemList) -> None:
    """Notes classes that differ in case only, and tags that look like several tags."""
    seen: dict[str, str] = {}
    for name in classes:
        other = seen.setdefault(name.casefold(), name)
        if other != name:
            value = f"classes {quoted(other)} and {quoted(name)} differ only in case"
            cure = f"If they are one class, write them alike or set data.merge={{{other}: {name}}}"
            problems.add(source.where(name), value, cure, fatal=False)
    if not source.unit:  # only files have cells in which tags can be separated
        return
    for sign in _SIGNS:
        joined = None if sign == separator else _joined(sign, classes)
        if joined is not None:
            value = f"the tag {quoted(joined)} holds {quoted(sign)}"
            cure = f"If these are several tags, set data.separator='{sign}'"
            problems.add(source.where(joined), value, cure, fatal=False)


def _joined(sign: str, classes: Sequence[str]) -> str | None:
    """The first class whose name looks like several tags joined by a sign.

    Commas and the like need no other evidence, nor do numbers with spaces. Other signs are common in names. So the
    parts of the name are classes as well, or there is another class with the same parts and others.
    """
    holders = [name for name in classes if sign in name]
    if sign in _SEPARATORS or len(holders) > MAX_CLASSES:  # more is an error already
        return holders[0] if sign in _SEPARATORS and holders else None
    known = set(classes)
    parts = {name: {clean(part) for part in name.split(sign)} for name in holders}
    for name, words in parts.items():
        if sign == " " and all(map(str.isdecimal, words)) and len(words) > 1:
            return name
        if len(words) > 1 and (words <= known or any(words <= more and other != name for other, more in parts.items())):
            return name
    return None


def suggestion(name: str, names: Sequence[str]) -> str:
    """The name that may have been meant, for messages; empty if none is like it."""
    match = difflib.get_close_matches(name, names, n=1) or [other for other in names if other.lower() == name.lower()]
    return f" (did you mean {quoted(match[0])}?)" if match else ""
