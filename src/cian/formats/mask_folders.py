"""Folders of masks: finds the mask of each image by its name.

Masks to score with and label maps to learn from are found in the same way. `cian.data.masks` reads them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from cian.data.images import find_files
from cian.data.problems import ProblemList, quoted
from cian.formats.file_index import AMBIGUOUS, MISSING, FileIndex, path_ends

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
    names = {*ids, *(name.rpartition("/")[2] for name in ids)}
    total, unused = 0, []
    for folder in folders:
        with ProblemList().collecting():  # a folder that cannot be read is a problem already
            files = FileIndex(folder, _mask_files(folder))
            total += len(files)
            for path, name, file in zip(files.paths, files.ids, files.files, strict=True):
                if file not in used and names.isdisjoint(path_ends(name)):
                    unused.append(path)
    if len(unused) > total * _FEW:
        value = f"{len(unused)} of {total} {what}s fit no image ({', '.join(unused[:3])}{', …' * (len(unused) > 3)})"
        problems.add(" and ".join(map(str, folders)), value, cure, fatal=False)


def _mask_files(folder: Path) -> list[Path]:
    return find_files(folder, (".png",)) or find_files(folder, (".mat",))


def _add_masks(folder: Path, ids: Sequence[str], masks: list[Path | None], problems: ProblemList, what: str) -> None:
    """Adds masks of a folder for images that have none.

    The mask of an image is FOLDER/ID.png. Otherwise it is a mask that belongs to no other image, and whose path ends in
    the image's id, or the other way round.
    """
    index = FileIndex(folder, _mask_files(folder))
    whole: dict[str, int] = {}
    for row, mask_id in enumerate(index.ids):
        whole[mask_id] = AMBIGUOUS if mask_id in whole else row
    owner: dict[int, str] = {}
    for i, name in enumerate(ids):
        row = whole.get(name, MISSING)
        if row >= 0:
            owner[row] = name
            masks[i] = masks[i] or index.files[row]
    if all(masks) or len(owner) == len(index):
        return
    left = {mask_id: row for mask_id, row in whole.items() if row not in owner}
    ends: dict[str, int] = {}
    for row, mask_id in enumerate(index.ids):
        if row not in owner:
            for end in path_ends(mask_id):
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
