"""What the settings are: defaults, choices, descriptions, and a search over them."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, get_args, get_origin

from cian.config.settings import Config, Section


@dataclass(frozen=True)
class Setting:
    """
    Attributes:
        key: its dotted key, e.g. `train.epochs`.
        default: its value if nobody sets it.
        choices: the words that it may be; empty if it takes other values.
        group: one of `GROUPS`.
        text: what it is, its unit, and when to change it.
        when: for the main settings, a value to try, and when.
    """

    key: str
    default: Any
    choices: tuple[str, ...]
    group: str
    text: str
    when: str

    @property
    def value(self) -> str:
        """The default, as one types it after `--set KEY=`; empty if it is not set."""
        if self.default is None or self.default == {}:
            return ""
        if isinstance(self.default, tuple):
            return ",".join(map(str, self.default))
        return str(self.default).lower() if isinstance(self.default, bool) else str(self.default)


@cache
def all_settings() -> tuple[Setting, ...]:
    """Every setting, in the order of the tree."""
    return tuple(_settings(Config(), ""))


def _settings(section: Section, prefix: str, main: dict[str, str] | None = None) -> Iterator[Setting]:
    """
    Args:
        section: holds the defaults of this place of the tree, which may differ from those of the section's type.
        main: see `cian.config.settings.section`.
    """
    for name, field in type(section).model_fields.items():
        extra: dict[str, Any] = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
        key, default = prefix + name, getattr(section, name)
        if isinstance(default, Section):
            yield from _settings(default, f"{key}.", extra.get("main"))
            continue
        group, when = ("main", main[name]) if main and name in main else (extra["group"], extra.get("when", ""))
        yield Setting(key, default, choices(key), group, field.description or "", when)


@cache
def sections() -> dict[str, str]:
    """What each section of the tree is for, by dotted name; "" is the top."""
    return {"": "For the whole run.", **dict(_sections(Config(), ""))}


def _sections(section: Section, prefix: str) -> Iterator[tuple[str, str]]:
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, Section):
            yield prefix + name, inspect.getdoc(value) or ""
            yield from _sections(value, f"{prefix}{name}.")


def of_section(name: str) -> list[Setting]:
    """The settings of a section and of the sections in it. For "": the settings outside of all sections."""
    return [each for each in all_settings() if (each.key.startswith(f"{name}.") if name else "." not in each.key)]


def search(text: str) -> list[Setting]:
    """The settings whose key or description holds every word of a text."""
    words = text.casefold().split()
    return [
        each
        for each in all_settings()
        if all(word in f"{each.key} {each.text} {each.when}".casefold() for word in words)
    ]


def nearest(key: str, known: Iterable[str], count: int = 3) -> list[str]:
    """The known names that look most like a mistyped one, also by their last part alone."""
    known = list(known)
    found = difflib.get_close_matches(key, known, n=count)
    last = difflib.get_close_matches(key.rpartition(".")[2], {name.rpartition(".")[2] for name in known}, n=count)
    found += [name for name in known if name.rpartition(".")[2] in last]
    return list(dict.fromkeys(found))[:count]


def choices(key: str) -> tuple[str, ...]:
    """The words that a setting may be; none where it may be something else."""
    kind = annotation(key)
    return get_args(kind) if get_origin(kind) is Literal else ()


def annotation(key: str) -> Any:
    """The type of a setting; None if there is no such setting."""
    kind: Any = Config
    for part in key.split("."):
        if get_origin(kind) is dict:
            kind = get_args(kind)[1]
        elif isinstance(kind, type) and issubclass(kind, Section) and part in kind.model_fields:
            kind = kind.model_fields[part].annotation
        else:
            return None
    return kind
