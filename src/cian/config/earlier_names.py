"""Settings of earlier versions: what each is now. One table for settings files, `--set` and trained models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cian.errors import CianError, Problem


@dataclass(frozen=True)
class Former:
    """
    Attributes:
        says: what replaces it; whole sentences, for a message.
        now: the key with the same meaning and values; empty if there is none.
    """

    says: str
    now: str = ""


FORMER = {
    "affinity.start": Former("Use affinity.tied_start."),
    "seeds.confirmed": Former("Use seeds.margin and seeds.crf, which decide which labels are kept."),
    "seeds.objectness": Former("Seeds always use objectness now."),
    "seeds.raised_over": Former("Use seeds.foreground, which multiplies the image's own threshold."),
    "seeds.saliency_below": Former("It is called seeds.salient_below now.", now="seeds.salient_below"),
    "seeds.uncertain": Former("Use seeds.background_below and seeds.margin."),
    "train.labels": Former("Give the label maps to learn from as data.labels (--labels DIR)."),
}
_VALUES: Mapping[tuple[str, Any], Any] = {("train.balanced", True): "all", ("train.balanced", False): "none"}


def from_earlier(tree: Mapping[str, Any], source: str) -> tuple[dict[str, Any], list[Problem]]:
    """The settings that an earlier version wrote, under today's keys. Those that no longer exist are left out.

    Returns:
        The tree, and a note for each setting that was changed. A fatal one says that a setting cannot be understood.
    """
    tree = _copied(tree)
    notes = _labels(tree, source)
    for (key, value), now in _VALUES.items():
        if _get(tree, key) is value:
            _put(tree, key, now)
    for key, former in FORMER.items():
        if _get(tree, key, former) is former:
            continue
        given = _pop(tree, key)
        if former.now and _get(tree, former.now) is None:
            _put(tree, former.now, given)
        value = f"{key} is {'renamed' if former.now else 'ignored'}"
        notes.append(Problem(source, value, former.says, fatal=False))
    return tree, notes


def _labels(tree: dict[str, Any], source: str) -> list[Problem]:
    """Removes `train.labels` from a tree, and sets `data.labels` in its place."""
    if _get(tree, "train.labels") is None:
        return []
    given, masks = _pop(tree, "train.labels"), _get(tree, "data.masks")
    if given == "seeds" or _get(tree, "data.labels") is not None:
        return []
    cure = "Use data.labels for the label maps to learn from"
    if masks is None:
        return [Problem(source, f"train.labels = {given} no longer exists, and data.masks is not set", cure)]
    _put(tree, "data.labels", masks)
    return [Problem(source, "train.labels = masks is now data.labels = data.masks", cure, fatal=False)]


def refuse_former(keys: Mapping[str, Any]) -> None:
    """
    Args:
        keys: dotted keys.

    Raises:
        CianError: a setting no longer exists; the message says what replaces it.
    """
    for key in keys:
        if key in FORMER:
            raise CianError(f"setting {key}: no longer exists. {FORMER[key].says}")


def _copied(tree: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _copied(value) if isinstance(value, Mapping) else value for key, value in tree.items()}


def _get(tree: Mapping[str, Any], key: str, default: Any = None) -> Any:
    node: Any = tree
    for part in key.split("."):
        if not isinstance(node, Mapping) or part not in node:
            return default
        node = node[part]
    return node


def _put(tree: dict[str, Any], key: str, value: Any) -> None:
    *parents, leaf = key.split(".")
    for part in parents:
        tree = tree.setdefault(part, {})
    tree[leaf] = value


def _pop(tree: dict[str, Any], key: str) -> Any:
    *parents, leaf = key.split(".")
    for part in parents:
        tree = tree[part]
    return tree.pop(leaf)
