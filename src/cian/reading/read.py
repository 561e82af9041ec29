"""Reads a user's data set into a `Table`: brings together images, tags, classes, splits, masks and label maps.

All problems are collected, so that a user can cure them at once. Every step is a loop over rows with look-ups in
dictionaries, so the time is linear in the number of images.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cian.config import DataConfig
from cian.data.masks import read_mask
from cian.data.problems import ProblemList, few, printable, quoted
from cian.data.table import TRAIN, Table
from cian.errors import Problem
from cian.formats.annotations import Annotations
from cian.formats.class_names import check_name, class_names
from cian.formats.devkits import Layout, find_layout
from cian.formats.file_index import NO_IMAGE, FileIndex, index_images, note_guesses, report_missing, skipped
from cian.formats.format import TagSource
from cian.formats.label_sources import find_label_maps, open_label_sources
from cian.formats.list_files import read_lists
from cian.formats.registry import open_tags
from cian.formats.split_names import TEST, VAL, folder_splits
from cian.formats.text import text_encoding
from cian.memory import uncollected
from cian.reading.classes import ClassChanges, class_changes, resolve_classes, suggestion
from cian.reading.splits import draw_val

ADD_ROWS = "Add rows to use them"
# In the locale C, with Python's UTF-8 mode switched off, no name outside ASCII is text.
_RENAME = (
    "Rename it" if sys.getfilesystemencoding() == "utf-8" else "Set PYTHONUTF8=1: this system's locale is not UTF-8"
)


@uncollected()
def read_dataset(config: DataConfig, seed: int, training: bool = True) -> tuple[Table | None, list[Problem]]:
    """The table of a data set, and everything that is wrong with it. Image and mask files are found but not opened,
    except the label maps of images without a row: their classes are the tags of these images.

    Rows of tags name images by file name, by path under `config.images`, or by either without suffix. Names are
    compared in Unicode normal form C. Images without a row are left out, unless a list file of a split other than
    `train` names them: these are kept with `tagged=False`. If there are list files, images in none of them are left
    out. What the settings do not give comes from a devkit, if there is one (see `formats.devkits`).

    Args:
        seed: for the draw of `data.val_fraction`.
        training: whether each class needs `data.min_images` training images.

    Returns:
        The table (None if nothing usable is left) and the problems. A table that comes with a fatal problem can be
        looked at, but not trained on.
    """
    problems = ProblemList()
    table = _read(config, seed, training, problems)
    return table, problems.all()


@dataclass
class _Rows:
    """What the rows of tags say, by image."""

    tags: list[tuple[str, ...] | None]  # None: no row
    splits: list[str | None]  # None: not in the table


def _read(config: DataConfig, seed: int, training: bool, problems: ProblemList) -> Table | None:
    layout = None
    with problems.collecting():
        layout = find_layout(config, problems)
    if layout is None:
        return None
    config = layout.config
    _check_settings(layout, problems)
    images, given = None, None
    with problems.collecting():
        images = index_images(config.images, layout.folders, layout.masks + layout.labels) if config.images else None
    with problems.collecting():
        given = class_names(config.classes) if config.classes else None
    if images is None:
        _check_readable(layout, problems)
        return None
    if images.unread is not None:
        problems.add(str(config.images), *skipped(images.unread.files), fatal=False)

    source, rows = None, _Rows([None] * len(images), [None] * len(images))
    listed = read_lists(layout.lists, images, problems) if layout.lists else None
    with problems.collecting():
        opened = open_tags(config, images, listed, problems)
        _collect(opened, images, rows, problems)
        source = opened
    if listed is not None:
        rows.splits = listed
    note_guesses(images, problems)
    if source is None:
        return None
    if not (listed is not None or config.split_column is not None or source.splits):
        source.splits = _split_by_folders(source, images, rows, problems)
    held_out = listed is not None or config.split_column is not None or source.splits
    if source.splits and config.val_fraction:
        value = f"data.val_fraction is given, but {source.path} says which images are held out"
        cure = "Remove data.val_fraction" + ", or give one of the files as data.tags" * bool(source.files)
        problems.add("settings", value, cure)
    sources = open_label_sources(layout.labels + layout.masks, images, given, problems)
    drawn = sorted({name for found in sources.values() for image in found.images for name in image.classes()})
    changes, before = _change_classes(config, source, given, drawn, images, rows, problems)
    names = [*before, *(name for name in drawn if name not in before)]
    every = range(len(images))
    labels = find_label_maps(layout.labels, sources, names, images, every, problems, "label map")
    from_labels = _add_labelled(labels, names, changes, rows, listed is not None, problems)
    _check_rows(config, source, images, rows, from_labels, listed is not None, held_out, problems)
    _check_ids(images, rows, problems)

    kept = [i for i, split in enumerate(rows.splits) if split is not None]
    tags = [rows.tags[i] for i in kept]
    splits = [split for split in rows.splits if split is not None]
    if not kept:
        if not problems.stop(but=NO_IMAGE):  # otherwise a problem says why already
            problems.add(source.path, "names no image that exists", "Check data.images, data.tags and data.splits")
        return None
    classes = resolve_classes(config, source, given and changes.names(given), tags, problems)
    if not classes:
        return None
    _check_drawn(sources, classes, changes, problems)
    numbers = {name: i for i, name in enumerate(classes, start=1)}
    numbered = [None if row is None else [numbers[name] for name in row if name in numbers] for row in tags]
    if config.val_fraction and not held_out:
        draw_val(numbered, splits, config, seed, problems)
    if training:
        _check_counts(numbered, splits, classes, config, source, problems)
    ids = [images.ids[i] for i in kept]
    return Table.build(
        classes,
        ids,
        [images.files[i] for i in kept],
        numbered,
        splits,
        find_label_maps(layout.masks, sources, names, images, kept, problems),
        [labels[i] for i in kept],
        mask_classes=[changes.name(name) for name in names] if changes or len(names) > len(before) else None,
        source=f"{source.path} ({source.saw})",
    )


def _check_drawn(
    sources: Mapping[Path, Annotations], classes: Sequence[str], changes: ClassChanges, problems: ProblemList
) -> None:
    """Classes of label maps and masks that no tag has."""
    for path, found in sources.items():
        for name in sorted({name for image in found.images for name in image.classes()}):
            now = changes.name(name)
            if now is not None and now not in classes:
                cure = f"Correct its name, tag images with it, or leave it out (data.drop=[{name}])"
                problems.add(path, f"class {quoted(name)} is not among the tags{suggestion(now, classes)}", cure)


def _check_settings(layout: Layout, problems: ProblemList) -> None:
    """Settings that contradict each other, or lack another one."""
    config = layout.config
    if config.images is None:
        problems.add("settings", "data.images is not given", "Give a folder of images")
    ways = {
        "data.voc" if config.voc else "data.splits": bool(layout.lists),
        "data.split_column": config.split_column is not None,
        "data.val_fraction": config.val_fraction > 0,
    }
    used = [name for name, is_used in ways.items() if is_used]
    if len(used) > 1:
        value = " and ".join(used) + " are given"
        problems.add("settings", value, "Give one of them: each says which images are held out")
    if config.split_column is not None and config.tags is None:
        problems.add("settings", "data.split_column is given without data.tags", "Give the CSV that has this column")


def _check_readable(layout: Layout, problems: ProblemList) -> None:
    """Which other files cannot be read. Without images, rows cannot be matched, so this is all that can be said."""
    tags = layout.config.tags
    for path in (tags, *(file for lists in layout.lists.values() for file in lists.files)):
        if path is not None and not (path == tags and path.is_dir()):
            with problems.collecting():
                text_encoding(path)


def _collect(source: TagSource, images: FileIndex, rows: _Rows, problems: ProblemList) -> None:
    """Sorts the rows of tags by image into `rows`."""
    number = 0
    for number, row in enumerate(source.rows, start=1):  # noqa: B007
        for tag in row.tags:
            source.first.setdefault(tag, row.line)
        index = images.find(row.image)
        if index < 0:
            report_missing(row.image, index, images, source.at(row.line), problems)
            continue
        if images.is_guess(row.image):
            images.guesses[row.image] = index
        before = rows.tags[index]
        if before is None:
            rows.tags[index] = row.tags
            rows.splits[index] = row.split
            continue
        if source.merge:
            rows.tags[index] = before + tuple(tag for tag in row.tags if tag not in before)
        elif set(before) != set(row.tags):
            earlier, now = quoted(", ".join(before)), quoted(", ".join(row.tags))
            value = f"{quoted(row.image)} had other tags before ({earlier}, now {now})"
            cure = "Keep one row per image, or call the column `tag` if each row is one image and one tag"
            problems.add(source.at(row.line), value, cure)
        if rows.splits[index] != row.split:
            value = f"{quoted(row.image)} is also in split {quoted(rows.splits[index] or '')}"
            problems.add(source.at(row.line), value, "Keep it in one split")
    if not number and source.if_empty and not problems.stop(but=NO_IMAGE):  # otherwise a problem says why already
        problems.add(source.path, "holds no rows", source.if_empty)


def _split_by_folders(source: TagSource, images: FileIndex, rows: _Rows, problems: ProblemList) -> bool:
    """Holds images out where the tags say nothing of splits, but the images are in folders such as `train` and `valid`.
    Returns whether they are."""
    tagged = [i for i, split in enumerate(rows.splits) if split is not None]
    splits = folder_splits(images.paths[i] for i in tagged)
    if splits is None:
        return False
    for i, split in zip(tagged, splits, strict=True):
        rows.splits[i] = split
    counts = Counter(splits)
    value = "the folders of the images say which are held out: "
    value += ", ".join(f"{split} {counts[split]}" for split in sorted(counts, key=[TRAIN, VAL, TEST].index))
    problems.add(source.path, value, "Give list files with data.splits to split them otherwise", fatal=False)
    return True


def _change_classes(
    config: DataConfig,
    source: TagSource,
    given: Sequence[str] | None,
    drawn: Sequence[str],
    images: FileIndex,
    rows: _Rows,
    problems: ProblemList,
) -> tuple[ClassChanges, Sequence[str]]:
    """Drops and merges classes in the rows, as `data.drop` and `data.merge` say. Images that show nothing but dropped
    classes are left out: without tags they would pass as images that show no object.

    Args:
        drawn: the classes of label maps and masks that name them.

    Returns:
        The changes, and the class names before them, in the order of the ids that mask files hold.
    """
    changes = class_changes(config, [*(given or ()), *source.first, *drawn], problems)
    used = {tag for tags, split in zip(rows.tags, rows.splits, strict=True) if split is not None for tag in tags or ()}
    before = given or sorted(name for name in used if check_name(name, "", ProblemList()))
    if not changes:
        return changes, before
    left_out: list[str] = []
    for i, tags in enumerate(rows.tags):
        if tags:
            rows.tags[i] = changes.names(tags)
            if not rows.tags[i] and rows.splits[i] is not None:
                rows.splits[i] = None
                left_out.append(images.paths[i])
    for old, line in list(source.first.items()):
        if (new := changes.name(old)) is not None:
            source.first.setdefault(new, line)
    if left_out:
        value = f"data.drop leaves {few(left_out)} without a tag, which will not be used"
        problems.add("settings", value, "Add another tag to use them", fatal=False)
    return changes, before


def _add_labelled(
    labels: Sequence[Path | None],
    names: Sequence[str],
    changes: ClassChanges,
    rows: _Rows,
    listed: bool,
    problems: ProblemList,
) -> set[int]:
    """Adds the training images that have no row but a label map, with the classes in it as their tags.

    Args:
        labels: the label map of each image.
        names: the class of each id in the label maps, from id 1.
        listed: whether list files say the splits.

    Returns:
        The images.
    """
    added: set[int] = set()
    for i, (file, tags, split) in enumerate(zip(labels, rows.tags, rows.splits, strict=True)):
        if file is not None and tags is None and (split == TRAIN or (split is None and not listed)):
            with problems.collecting():
                held = np.unique(read_mask(file))
                rows.tags[i] = changes.names(names[value - 1] for value in held if 0 < value <= len(names))
                rows.splits[i] = TRAIN
                added.add(i)
    return added


def _check_rows(
    config: DataConfig,
    source: TagSource,
    images: FileIndex,
    rows: _Rows,
    from_labels: set[int],
    listed: bool,
    held_out: bool,
    problems: ProblemList,
) -> None:
    """Images without a row, and rows without a tag.

    Args:
        from_labels: the images whose tags come from their label maps; they may show none of the classes.
        listed: whether list files say the splits.
        held_out: whether the user says which images are held out. Those need no tags.
    """
    without_row: list[str] = []
    listed_without_row: list[str] = []
    untagged: list[str] = []
    for i, (tags, split) in enumerate(zip(rows.tags, rows.splits, strict=True)):
        if split is None and tags is None and not listed:
            without_row.append(images.paths[i])
        elif split == TRAIN and tags is None:
            listed_without_row.append(images.paths[i])
        elif split is not None and tags == () and config.untagged == "error" and i not in from_labels:
            if held_out and split != TRAIN:
                rows.tags[i] = None
            else:
                untagged.append(images.paths[i])
    if untagged and any(rows.tags):  # otherwise the tags were not understood, which is said elsewhere
        value = f"no tag for {few(untagged)}"
        them, they = ("it", "it shows") if len(untagged) == 1 else ("them", "they show")
        cure = f"Tag or remove {them}, or set data.untagged=negative if {they} none of the classes"
        problems.add(source.path, value, cure)
    if listed_without_row:
        value = f"no row for {few(listed_without_row)}, which the lists name for training"
        problems.add(source.path, value, "Add rows with their tags, or remove them from the list")
    if without_row and config.tags is None:
        value = f"{few(without_row)} in no class folder"
        problems.add(source.path, value, "Move them to the folder of their class, or give --tags FILE")
    elif without_row:
        value = f"no row for {few(without_row)}, which will not be used"
        problems.add(source.path, value, ADD_ROWS, fatal=False)


def _check_ids(images: FileIndex, rows: _Rows, problems: ProblemList) -> None:
    """Leaves out images whose name is not text, and the second of two images with one id: their masks would overwrite
    each other."""
    first: dict[str, int] = {}
    for i, name in enumerate(images.ids):
        if rows.splits[i] is None:
            continue
        if printable(name) != name:
            problems.add(images.files[i], "the file name is not valid text", _RENAME)
        elif (other := first.setdefault(name, i)) != i:
            value = f"differs from {images.paths[other]} only in its suffix, so both masks would have the same name"
            problems.add(images.files[i], value, "Rename or remove one of them")
        else:
            continue
        rows.splits[i] = None


def _check_counts(
    tags: Sequence[list[int] | None],
    splits: Sequence[str],
    classes: Sequence[str],
    config: DataConfig,
    source: TagSource,
    problems: ProblemList,
) -> None:
    """Classes with too few images to learn from."""
    if TRAIN not in splits:
        present = ", ".join(sorted(set(splits)))
        cure = f"Also give its list: --split {TRAIN}=FILE" if config.splits else f"Call one split {TRAIN}"
        problems.add(source.path, f"no image in split {TRAIN} (splits: {present})", cure)
        return
    counts = Counter(tag for row, split in zip(tags, splits, strict=True) if split == TRAIN for tag in row or ())
    for class_id, name in enumerate(classes, start=1):
        if (count := counts[class_id]) < config.min_images:
            value = f"class {quoted(name)} has {count} training image{'s' * (count != 1)}, fewer than "
            value += str(config.min_images)
            cure = f"Add images, leave the class out (data.drop=[{name}]), make it part of another class "
            cure += f"(data.merge={{{name}: OTHER}}), or lower data.min_images"
            problems.add(source.where(name), value, cure)
