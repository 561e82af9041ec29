"""Label maps to learn from and masks to score with, from any format.

Folders of PNG files are used as they are. From other formats label maps are drawn, once, into a folder of the user's
cache (`$XDG_CACHE_HOME/cian`, or `~/.cache/cian`). It may be deleted: what is needed is drawn again.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

from cian.data.images import image_size
from cian.data.masks import write_mask
from cian.data.problems import FileError, ProblemList, counted, few, file_error, quoted
from cian.data.table import BACKGROUND, IGNORE
from cian.formats import binary_masks, label_maps
from cian.formats.annotations import Annotated, Annotations, Given, LabelFormat, Size, draw, size_in
from cian.formats.file_index import FileIndex
from cian.formats.mask_folders import find_masks
from cian.formats.registry import LABEL_FORMATS
from cian.formats.tree import Tree
from cian.terminal import Ticker

_DRAWING = 1  # raised when shapes are drawn differently: label maps that were drawn before are then not used
_ANNOTATIONS = (".json", ".jsonl", ".xml", ".yaml", ".yml", ".csv", ".txt", ".names", ".parquet")
_FOLDERS = (label_maps.MASKS, binary_masks.FORMAT)


def open_label_sources(
    paths: Iterable[Path], images: FileIndex, classes: Sequence[str] | None, problems: ProblemList
) -> dict[Path, Annotations]:
    """What is said of images by those of some files, folders and archives that are no folders of label maps.

    Args:
        classes: the names of the classes without background, if the user gave them.
    """

    names = None if classes is None else [BACKGROUND, *classes]
    opened = {}
    for path in dict.fromkeys(paths):
        if not path.exists():
            continue  # `find_masks` says so
        with problems.collecting():
            tree = Tree(path)
            form = _format(tree)
            if form is not None and form.read is not None:
                opened[path] = form.read(tree, Given(problems, names, partial(size_in, images)))
    return opened


def _format(tree: Tree) -> LabelFormat | None:
    """The format of labels; None for folders of label maps."""
    form = None
    if tree.ending(*_ANNOTATIONS) or not tree.path.is_dir():  # others need not be looked at: they may be a million
        form = next((form for form in LABEL_FORMATS if form not in _FOLDERS and form.recognises(tree)), None)
    if form is None and (not tree.path.is_dir() or label_maps.colour_map(tree)):
        form = next((form for form in _FOLDERS if form.recognises(tree)), None)
    if form is None and not tree.path.is_dir():
        known = "; ".join(form.description for form in LABEL_FORMATS if form.read is not None)
        raise file_error(tree.path, "holds no labels in a format that cian reads", f"Give one of these: {known}")
    return form


def find_label_maps(
    paths: Sequence[Path],
    opened: Mapping[Path, Annotations],
    names: Sequence[str],
    images: FileIndex,
    rows: Sequence[int],
    problems: ProblemList,
    what: str = "mask",
) -> list[Path | None]:
    """The label map of each image.

    Args:
        paths: what the user gave.
        opened: those of them that are no folders, as `open_label_sources` returns them.
        names: the names of the classes, from id 1.
        rows: the images that are used.
        what: what messages call a label map.
    """
    folders = [path for path in paths if path not in opened]
    ids = [images.ids[row] for row in rows]
    found = find_masks(folders, ids, problems, what, known=images.ids)
    for path in paths:
        if path in opened:
            drawn = _drawn(opened[path], names, images, rows, problems, what)
            found = [first or drawn.get(row) for first, row in zip(found, rows, strict=True)]
    return found


def _drawn(
    annotations: Annotations,
    names: Sequence[str],
    images: FileIndex,
    rows: Sequence[int],
    problems: ProblemList,
    what: str,
) -> dict[int, Path]:
    """The label maps of images, by row. Those that are not in the cache are drawn."""
    found = _by_row(annotations, images, problems)
    used = {row: found[row] for row in rows if row in found}
    value = f"{annotations.saw}; {counted(len(used), what)} read from it"
    if unlabelled := sum(not image.shapes for image in annotations.images):
        value += f"; {counted(unlabelled, 'image')} without any object, so not labelled"
    problems.add(annotations.path, value, "Give another file if this is wrong", fatal=False)
    folder = _cache(annotations, names)
    targets = {row: folder / f"{images.ids[row]}.png" for row in used}
    class_ids = {name: i for i, name in enumerate(names, start=1)}
    todo: dict[int, Size] = {}
    for row, image in used.items():
        with problems.collecting():
            size = image.size or image_size(images.files[row])
            if not _is_drawn(targets[row], image, size):
                todo[row] = size
    if todo:
        title = f"drawing the {what}s of {annotations.path.name}"
        with Ticker(title, len(targets), len(targets) - len(todo)) as ticker:
            for row, size in todo.items():
                with problems.collecting():
                    pixels = draw(used[row], size, annotations.smallest_on_top)
                    write_mask(targets[row], pixels.label_map(class_ids))
                ticker.advance()
    return {row: target for row, target in targets.items() if target.exists()}


def _by_row(annotations: Annotations, images: FileIndex, problems: ProblemList) -> dict[int, Annotated]:
    """The labelled images, by row. Of an image that occurs several times, the last entry counts."""
    found: dict[int, Annotated] = {}
    missing, twice, guessed = [], [], []
    for image in annotations.images:
        if not image.shapes:
            continue
        row = images.find(image.image)
        if row < 0:
            missing.append(image.image)
            continue
        if row in found:
            twice.append(image.image)
        if images.is_guess(image.image):
            guessed.append(f"{quoted(image.image)} is {quoted(images.paths[row])}")
        found[row] = image
    path = annotations.path
    if missing:
        value = f"{few(missing)} are not among the images, or several are called so"
        problems.add(path, value, "Correct the names, or add these images", fatal=False)
    if twice:
        problems.add(path, f"{few(twice)} occur several times", "The last entry counts", fatal=False)
    if guessed:
        value = f"names differ from those of the files: {few(guessed)}"
        problems.add(path, value, "Correct the names if this is wrong", fatal=False)
    return found


def _is_drawn(target: Path, image: Annotated, size: Size) -> bool:
    """Whether the cache holds a label map, of the size that the image has now where the file does not say it."""
    if not target.exists():
        return False
    try:
        return image.size is not None or image_size(target) == size
    except FileError:
        return False


def _cache(annotations: Annotations, names: Sequence[str]) -> Path:
    """The folder for the label maps of these files as they are now, with these class ids."""
    path = annotations.path
    tree = Tree(path)
    files = [path] if path.is_file() else [path / name for name in tree.names]
    stats = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    key = json.dumps([_DRAWING, IGNORE, list(names), str(path.absolute()), stats])
    return _root() / hashlib.blake2b(key.encode(), digest_size=12).hexdigest()


def _root() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        cache = Path(base) if base else Path.home() / ".cache"
    except RuntimeError:  # a user without a home
        cache = Path(tempfile.gettempdir())
    return cache / "cian" / "label-maps"


def are_drawn(masks: Iterable[Path | None]) -> bool:
    """Whether all masks were drawn from shapes that name their classes."""
    root = str(_root())
    return all(mask is None or str(mask).startswith(root) for mask in masks)
