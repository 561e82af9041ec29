"""Settings as text: for `cian settings`, for the help of commands, and as a page of the documentation."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from cian.config.describe import Setting, all_settings, nearest, of_section, search, sections
from cian.config.earlier_names import FORMER
from cian.config.settings import GROUPS
from cian.errors import CianError

Lines = Iterator[tuple[str, str]]  # a line and its style: "bold", "dim" or ""

HOW = "Give a setting as --set KEY=VALUE (a list as 0.75,1.5), or several in a YAML file with --config FILE."
TOP = "Top level"


def main_settings(width: int) -> Lines:
    """The settings that people change, for the end of a command's help."""
    yield "Settings that people change, their defaults, and what to try", "bold"
    for each in all_settings():
        if each.group == "main":
            head = f"  {each.key}={each.value}  "
            yield from _hanging(head.ljust(29), each.when, width, 29)


def listing(words: str, width: int) -> Lines:
    """What `cian settings [SECTION|GROUP|WORD]` shows: an overview, a section, a group, or what a search finds.

    Raises:
        CianError: no setting matches.
    """
    if not words:
        return _overview(width)
    if words in sections():
        return _section(words, width)
    if words in GROUPS:
        return _grouped([each for each in all_settings() if each.group == words], width)
    if words in FORMER:
        raise CianError(f"setting {words}: {FORMER[words].says}")
    keys = {each.key: each for each in all_settings()}
    named = [keys[word] for word in words.split() if word in keys]
    found = named if len(named) == len(words.split()) else search(words)
    if found:
        return _grouped(found, width)
    like = nearest(words, keys, 5)
    if not like:
        raise CianError(f"settings {words}: no setting has that in its key or description. `cian settings` lists all.")
    return _nearest(words, [keys[key] for key in like], width)


def _overview(width: int) -> Lines:
    yield from _wrapped(f"{len(all_settings())} settings. {HOW}", width)
    yield "", ""
    yield "Sections, for cian settings SECTION", "bold"
    for name, text in sections().items():
        if "." not in name:
            count = len(of_section(name))
            yield from _hanging(f"  {name or '(top)':<11}{count:>3}  ", _first(text), width, 18)
    yield "", ""
    yield "Other lists", "bold"
    for group, title in GROUPS.items():
        yield f"  cian settings {group:<12}  {title}", ""
    yield "  cian settings WORD          Settings that mention the word", ""
    yield "", ""
    yield from main_settings(width)


def _section(name: str, width: int) -> Lines:
    yield from ((line, "") for text in sections()[name].split("\n\n") for line in textwrap.wrap(text, width))
    yield "", ""
    yield from _grouped(of_section(name), width)


def _nearest(words: str, found: Sequence[Setting], width: int) -> Lines:
    yield f"No setting has “{words}” in its key or description. The nearest keys:", ""
    yield "", ""
    for each in found:
        yield from _entry(each, width)


def _grouped(found: Sequence[Setting], width: int) -> Lines:
    first = True
    for group, title in GROUPS.items():
        of_group = [each for each in found if each.group == group]
        if not of_group:
            continue
        if not first:
            yield "", ""
        first = False
        yield title, "dim"
        for each in of_group:
            yield from _entry(each, width)


def _entry(setting: Setting, width: int) -> Lines:
    words = f"   ({' | '.join(setting.choices)})" if setting.choices else ""
    yield f"{setting.key} = {setting.value or '(not set)'}{words}", "bold"
    yield from _wrapped(setting.text, width, "    ")
    if setting.when:
        yield from _wrapped(f"Try {setting.when}.", width, "    ")


def _wrapped(text: str, width: int, indent: str = "") -> Lines:
    for line in textwrap.wrap(text, width, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False):
        yield line, ""


def _hanging(head: str, text: str, width: int, indent: int) -> Lines:
    """`head`, then `text` beside it; the lines that follow are indented."""
    if len(head) > indent:
        yield head.rstrip(), ""
        head = " " * indent
    for line in textwrap.wrap(text, width - indent, break_on_hyphens=False):
        yield head + line, ""
        head = " " * indent


def _first(text: str) -> str:
    """The first line of a section's description."""
    return text.partition("\n\n")[0].replace("\n", " ")


def markdown() -> str:
    """All settings as a page of the documentation."""
    lines = [
        "# Settings",
        "",
        f"All {len(all_settings())} settings, with their defaults. {HOW} `cian settings WORD` searches this list.",
        "",
        "Groups:",
        "",
        *(f"* **{group}**: {title}." for group, title in GROUPS.items()),
        "",
        "## Settings that people change",
        "",
        "| setting | default | what to try |",
        "|---|---|---|",
    ]
    lines += [
        f"| [`{each.key}`](#{_anchor(each.key)}) | {_code(each.value)} | {_cell(each.when)} |"
        for each in all_settings()
        if each.group == "main"
    ]
    for name, text in sections().items():
        if "." in name:
            continue
        lines += ["", f"## {name or TOP}", "", *text.split("\n"), ""]
        lines += ["| setting | default | what it is, and when to change it | group |", "|---|---|---|---|"]
        lines += [_row(each) for group in GROUPS for each in of_section(name) if each.group == group]
    return "\n".join(lines) + "\n"


def _anchor(key: str) -> str:
    """The anchor of the heading under which a setting is listed."""
    section, dot, _ = key.partition(".")
    return section if dot else TOP.lower().replace(" ", "-")


def _row(setting: Setting) -> str:
    words = f" One of {', '.join(map(_code, setting.choices))}." if setting.choices else ""
    when = f" Try {setting.when}." if setting.when else ""
    return f"| `{setting.key}` | {_code(setting.value)} | {_cell(setting.text + words + when)} | {setting.group} |"


def _code(value: str) -> str:
    return f"`{_cell(value)}`" if value else "not set"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
