"""Reading, checking and writing settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import ValidationError

from cian.config.describe import all_settings, annotation, nearest
from cian.config.earlier_names import from_earlier, refuse_former
from cian.config.settings import Config
from cian.errors import CianError

_MOST_VALUES = 100_000  # in a file of settings
_MOST_CHARACTERS = 1_000_000  # of it
_MOST_LINES = 20  # of an error
IMAGE_SOURCES = ("data.images", "data.voc", "data.coco")


def load_config(
    file: Path | None = None, overrides: Mapping[str, Any] | None = None, *, of_run: bool = False
) -> Config:
    """The defaults, changed by a YAML file, changed by dotted keys (`{"train.epochs": 4}`).

    Args:
        of_run: whether a run has written the file. Then it must be whole.

    Raises:
        CianError: the file cannot be read, a key is unknown, or a value is out of range. One error lists all of them.
    """
    tree: dict[str, Any] = {}
    if file is not None:
        again = ", or give --images and all other options again" if of_run else ""
        try:
            tree = _yaml(_text(Path(file))) or {}
        except OSError as error:
            raise CianError(f"{file}: {error.strerror}. Give a readable YAML file to --config.") from None
        except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: no UTF-8, or no such number or date
            why = _cut(" ".join(str(error).split()), 300)
            raise CianError(f"{file}: not a YAML file ({why}). Correct that line{again}.") from None
        if not isinstance(tree, dict):
            raise CianError(f"{file}: holds a {type(tree).__name__}, not settings. Write `key: value` lines{again}.")
        if of_run and not isinstance(tree.get("versions"), dict):  # they stand at the end
            raise CianError(f"{file}: is not whole, its last lines are missing. Restore it{again}.")
        tree = {key: value for key, value in tree.items() if value is not None}  # an empty section
        tree.pop("versions", None)  # a run writes them into its config.yaml
        tree, notes = from_earlier(tree, str(file))
        fatal = [f"{each}." for each in notes if each.fatal]
        if fatal:
            raise CianError("\n".join(fatal))
        if notes:
            from cian.terminal import note  # slow to import

            for each in notes:
                note(each)
    _assign(tree, overrides or {})
    return _validated(_merged(Config().model_dump(), tree), file, overrides or {})


def changed(config: Config, overrides: Mapping[str, Any]) -> Config:
    """`config` with other values for some settings, by dotted key.

    Raises:
        CianError: as `load_config`.
    """
    tree = config.model_dump()
    overrides = flatten(overrides)
    _assign(tree, overrides)
    return _validated(tree, None, overrides)


def _assign(tree: dict[str, Any], overrides: Mapping[str, Any]) -> None:
    """Sets dotted keys of a tree.

    Raises:
        CianError: a key no longer exists, or has a value where it should have a section.
    """
    refuse_former(overrides)
    for key, value in overrides.items():
        node = tree
        *parents, leaf = key.split(".")
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                raise CianError(f"setting {key}: {parent} is a setting, not a section. `cian settings` lists all.")
        node[leaf] = value


def _validated(tree: Mapping[str, Any], file: Path | None, overrides: Mapping[str, Any]) -> Config:
    """The configuration of a complete tree. Each error names the key and where its value comes from."""
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        known = [each.key for each in all_settings()]
        lines = []
        for item in error.errors()[:_MOST_LINES]:
            key = ".".join(str(part) for part in item["loc"])
            given = any(f"{name}.".startswith(f"{key}.") or key.startswith(f"{name}.") for name in overrides)
            source = "settings" if given or file is None else str(file)
            if item["type"] == "extra_forbidden":
                lines.append(f"{source}: {_cut(key)}: unknown setting.{_did_you_mean(key, known)}")
            else:
                value = "" if isinstance(item["input"], dict) else f" = {_cut(repr(item['input']))}"
                where = f"{key}{value}: " if key else ""
                lines.append(f"{source}: {where}{item['msg'].removeprefix('Value error, ')}.")
        if error.error_count() > _MOST_LINES:
            lines.append(f"… and {error.error_count() - _MOST_LINES} more.")
        raise CianError("\n".join(lines) + "\n`cian settings` lists and searches all settings.") from None


def _cut(text: str, most: int = 80) -> str:
    """A text for a message, cut if it is long."""
    return text if len(text) <= most else text[: most - 1] + "…"


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice: YAML would take the last one, without a word. Every error is a `YAMLError`."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (AttributeError, LookupError):  # PyYAML trusts tags such as !!int and !!timestamp
            raise yaml.constructor.ConstructorError(
                None, None, f"{node.value!r} is no {node.tag.rpartition(':')[2]}", node.start_mark
            ) from None

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} stands twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _yaml(text: str) -> Any:
    """
    Raises:
        yaml.YAMLError, ValueError, RecursionError: the text is no YAML, or more than settings can be.
    """
    tree = yaml.load(text, _Loader)
    if not _is_bounded(tree):
        raise ValueError(f"over {_MOST_VALUES:,} values, as its aliases unfold")
    return tree


def _text(file: Path) -> str:
    with file.open(encoding="utf-8") as opened:
        text = opened.read(_MOST_CHARACTERS + 1)
    if len(text) > _MOST_CHARACTERS:
        raise ValueError(f"over {_MOST_CHARACTERS:,} characters")
    return text


def _is_bounded(tree: Any) -> bool:
    """Whether a tree of YAML is small. A few lines with aliases can unfold to more than fits into any memory."""
    pending, count = [tree], 0
    while pending:
        part = pending.pop()
        pending += part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
        count += 1
        if count + len(pending) > _MOST_VALUES:
            return False
    return True


def _did_you_mean(key: str, known: Sequence[str]) -> str:
    found = nearest(key, known, 1)
    return f" Did you mean {found[0]}?" if found else ""


def load_run_config(file: Path | None, overrides: Mapping[str, Any], of_run: Path | None) -> Config:
    """As `load_config`. If neither a file nor images are given, the run's own settings are the start.

    Args:
        of_run: the run's config.yaml, if it exists.
    """
    if file is None and of_run is not None and of_run.is_file() and not any(key in overrides for key in IMAGE_SOURCES):
        return load_config(of_run, overrides, of_run=True)
    return load_config(file, overrides)


def require_images(config: Config) -> None:
    """
    Raises:
        CianError: no setting says where the images are.
    """
    if not config.data.has_images:
        raise CianError("No images. Give --images DIR (and --tags FILE, unless each sub-folder is a class).")


def parse_assignment(text: str) -> tuple[str, Any]:
    """`train.epochs=4` → ("train.epochs", 4). The value is YAML, but text needs no quotes where a text is expected.

    Raises:
        CianError: there is no `=`, or the value is not YAML.
    """
    key, sign, given = text.partition("=")
    key, value = key.strip(), given.strip()
    if not sign or not key:
        raise CianError(f"--set {text}: not of the form KEY=VALUE. Write e.g. --set train.epochs=4.")
    if key == "data.separator" and given and not value:  # a space or a tab
        return key, given
    if value not in ("", "null", "~") and value[0] not in "[\"'" and _is_text(annotation(key)):
        return key, value
    try:
        return key, _yaml(value)
    except (yaml.YAMLError, ValueError, RecursionError):
        raise CianError(f"--set {_cut(text)}: the value is not YAML. Quote it: --set '{key}=\"…\"'.") from None


def dump_config(config: Config) -> dict[str, Any]:
    """The configuration as plain YAML types."""
    return config.model_dump(mode="json")


# Settings outside `data` that name files or folders, and the words that are allowed instead.
FILES = {"seeds.folder": (), "seeds.background": ("cam",), "backbone.weights": ("imagenet", "random")}


def absolute(config: Config) -> Config:
    """The configuration with absolute paths, so that a run resumes from any working directory."""

    def whole(value: Any) -> Any:
        if isinstance(value, Path):
            return value.absolute()
        if isinstance(value, tuple):
            return tuple(whole(part) for part in value)
        if isinstance(value, dict):
            return {key: whole(part) for key, part in value.items()}
        return value

    changes = {"data": {name: whole(getattr(config.data, name)) for name in type(config.data).model_fields}}
    for key, words in FILES.items():
        section, name = key.split(".")
        value = getattr(getattr(config, section), name)
        if value is not None and value not in words:
            changes.setdefault(section, {})[name] = type(value)(Path(value).absolute())
    return config.model_copy(
        update={section: getattr(config, section).model_copy(update=values) for section, values in changes.items()}
    )


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A tree as dotted keys: {"train": {"epochs": 4}} → {"train.epochs": 4}."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping) and get_origin(annotation(prefix + key)) is not dict:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def _merged(defaults: Mapping[str, Any], tree: Mapping[str, Any]) -> dict[str, Any]:
    """`defaults`, changed by `tree`. Where a section is given in part, the rest keeps the defaults of its place in the
    tree (`classify.optimizer` is SGD), not those of the section's type."""
    merged = dict(defaults)
    for key, value in tree.items():
        default = defaults.get(key)
        merged[key] = _merged(default, value) if isinstance(default, dict) and isinstance(value, Mapping) else value
    return merged


def _is_text(kind: Any) -> bool:
    if get_origin(kind) in (Union, UnionType):
        return any(_is_text(part) for part in get_args(kind))
    return kind in (str, Path) or get_origin(kind) is Literal
