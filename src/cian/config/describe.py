"""What the settings are: their defaults, choices and descriptions. Help is made from it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Literal, get_args, get_origin

from cian.config.tree import Config, Section


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


def settings(section: type[Section] = Config, prefix: str = "") -> Iterator[tuple[str, tuple[Any, str]]]:
    """Every setting: (dotted key, (default, description)). `--help` is made from it."""
    for name, field in section.model_fields.items():
        default = field.get_default(call_default_factory=True)
        if isinstance(default, Section):
            for key, (_, text) in settings(type(default), f"{prefix}{name}."):
                leaf = default
                for part in key.removeprefix(f"{prefix}{name}.").split("."):
                    leaf = getattr(leaf, part)
                yield key, (leaf, text)
        else:
            yield prefix + name, (default, field.description or "")


def nearest(key: str, known: Iterable[str]) -> str:
    import difflib

    match = difflib.get_close_matches(key, known, n=1)
    return f" Did you mean {match[0]}?" if match else ""
