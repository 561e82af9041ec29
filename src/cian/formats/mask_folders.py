"""Folders of masks: finds the mask of each image by its name.

Masks to score with and label maps to learn from are found in the same way. `cian.data.masks` reads them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from pathlib import Path

from cian.data.images import KNOWN_SUFFIXES, find_files
from cian.data.problems import ProblemList, quoted
from cian.formats.file_index import AMBIGUOUS, MISSING, FileIndex, path_ends

# What programs add to the name of an image, also Cityscapes'.
_MARK = re.compile(
    r"^(?:mask|seg|gt|label)[_-](?=.)"
    r"|(?<=.)[_.-](?:masks?|seg|segmentation|gt|labels?|labelmap|annotation|leftimg8bit|gtfine_labeltrainids)$"
)
_FEW = 0.1  # share of masks that may fit no image without a note: people keep masks of images that they removed


def find_masks(
    folders: Sequence[Path],
    ids: Sequence[str],
    problems: ProblemList,
    what: str = "mask",
    known: Collection[str] = (),
) -> list[Path | None]:
    """The mask of each image, from the first folder that has one.

    A folder holds PNG files, or SBD's .mat files, in any sub-folders.

    Args:
        what: what messages call a mask.
        known: the ids of all images, also of those that are not used; `ids` if empty.
    """
    masks: list[Path | None] = [None] * len(ids)
    listed: list[str] = []
    for folder in folders:
        with problems.collecting():
            _add_masks(folder, ids, masks, problems, what)
            listed.append(str(folder))
    cure = f"Store {what}s as ID.png, e.g. {ids[0]}.png" if ids else ""
    if listed and ids and not any(masks):
        others = {file.suffix for folder in folders for file in _others(folder)}
        if others:
            value = f"holds no PNG file, but {', '.join(sorted(others))}"
            problems.add(" and ".join(listed), value, f"{cure}. JPEG changes the ids")
        else:
            problems.add(" and ".join(listed), f"no {what} fits any image", cure)
    elif any(masks):
        _note_unused(folders, known or ids, masks, problems, what, cure)
    return masks


def _note_unused(
    folders: Sequence[Path],
    ids: Collection[str],
    masks: Sequence[Path | None],
    problems: ProblemList,
    what: str,
    cure: str,
) -> None:
    """Notes masks that fit no image, if they are more than a few: they are often named in another way."""
    used = {mask for mask in masks if mask is not None}
    names = {*ids, *map(without_mark, ids)}
    names |= {name.rpartition("/")[2] for name in names}
    total, unused = 0, []
    for folder in folders:
        with ProblemList().collecting():  # a folder that cannot be read is a problem already
            files = FileIndex(folder, _mask_files(folder))
            total += len(files)
            for path, name, file in zip(files.paths, files.ids, files.files, strict=True):
                if file not in used and names.isdisjoint((*path_ends(name), *path_ends(without_mark(name)))):
                    unused.append(path)
    if len(unused) > total * _FEW:
        value = f"{len(unused)} of {total} {what}s fit no image ({', '.join(unused[:3])}{', …' * (len(unused) > 3)})"
        problems.add(" and ".join(map(str, folders)), value, cure, fatal=False)


def _mask_files(folder: Path) -> list[Path]:
    return find_files(folder, (".png",)) or find_files(folder, (".mat",))


def _others(folder: Path) -> list[Path]:
    """The images of a folder without masks, which may be masks in another format."""
    with ProblemList().collecting():
        return [] if _mask_files(folder) else find_files(folder, KNOWN_SUFFIXES)
    return []


def _add_masks(folder: Path, ids: Sequence[str], masks: list[Path | None], problems: ProblemList, what: str) -> None:
    """Adds masks of a folder for images that have none: those called like the image, then those called after it."""
    index = FileIndex(folder, _mask_files(folder))
    owner: dict[int, str] = {}
    _assign(folder, index, index.ids, ids, owner, masks, problems, what)
    if not all(masks) and len(owner) < len(index):
        plain, names = [without_mark(mask_id) for mask_id in index.ids], [without_mark(name) for name in ids]
        _assign(folder, index, plain, names, owner, masks, problems, what)


def without_mark(name: str) -> str:
    """The id of an image from the name of its mask: a_mask, mask_a, a.jpg; in lower case."""
    folder, slash, last = name.casefold().rpartition("/")
    for _ in range(2):
        stem, dot, suffix = last.rpartition(".")
        last = _MARK.sub("", stem if f"{dot}{suffix}" in KNOWN_SUFFIXES else last)
    return f"{folder}{slash}{last}"


def _assign(
    folder: Path,
    index: FileIndex,
    keys: Sequence[str],
    ids: Sequence[str],
    owner: dict[int, str],
    masks: list[Path | None],
    problems: ProblemList,
    what: str,
) -> None:
    """Gives masks of a folder to images that have none.

    The mask of an image has its id. Otherwise it is a mask that belongs to no other image, and whose path ends in the
    image's id, or the other way round.

    Args:
        keys: what each file is called.
        ids: what each image is called.
        owner: the image of each file, added to.
    """
    rows = [row for row in range(len(keys)) if row not in owner]
    whole: dict[str, int] = {}
    for row in rows:
        whole[keys[row]] = AMBIGUOUS if keys[row] in whole else row
    for i, name in enumerate(ids):
        row = whole.get(name, MISSING)
        if row >= 0 and row not in owner:
            owner[row] = name
            masks[i] = masks[i] or index.files[row]
    if all(masks) or len(owner) == len(index):
        return
    left = {key: row for key, row in whole.items() if row not in owner}
    ends: dict[str, int] = {}
    for row in rows:
        if row not in owner:
            for end in path_ends(keys[row]):
                ends[end] = AMBIGUOUS if end in ends else row
    for i, name in enumerate(ids):
        if masks[i] is not None:
            continue
        row = ends.get(name, MISSING)
        if row == MISSING:
            row = next((left[end] for end in path_ends(name) if end in left), MISSING)
        if row == AMBIGUOUS:
            problems.add(folder, f"several {what}s fit image {quoted(name)}", "Keep the one at ID.png")
        elif row >= 0 and row in owner:
            problems.add(index.files[row], f"fits the images {owner[row]} and {name}", f"Store {what}s as ID.png")
        elif row >= 0:
            owner[row] = name
            masks[i] = index.files[row]
