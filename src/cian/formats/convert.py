"""`cian convert`: reads labels in one format and writes them in another. Says what the new format cannot hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from cian.config import DataConfig
from cian.data.images import KNOWN_SUFFIXES, image_size
from cian.data.masks import fits
from cian.data.problems import FileError, ProblemList, few, quoted
from cian.data.table import BACKGROUND, MAX_CLASSES
from cian.errors import CianError, DataError, Problem
from cian.files import refuse_within
from cian.formats.annotations import Annotated, Annotations, Given, Item, LabelFormat, Target, draw, safe_path, size_in
from cian.formats.class_names import check_name, class_names
from cian.formats.devkits import Lists
from cian.formats.file_index import MISSING, FileIndex, index_images, note_guesses, spellings
from cian.formats.list_files import read_lists
from cian.formats.mask_folders import without_mark
from cian.formats.registry import LABEL_FORMATS, open_labels, open_tags
from cian.terminal import Ticker


class Converted(NamedTuple):
    """What `convert` did.

    Attributes:
        saw: what the source was recognised as.
        images: how many were written.
        labelled: how many of them have objects or a label map.
        lost: what the new format cannot hold, in words.
        problems: images and objects that were left out (fatal), and notes.
    """

    saw: str
    images: int
    labelled: int
    classes: tuple[str, ...]
    lost: list[str]
    problems: list[Problem]


def convert(
    source: Path,
    to: str,
    out: Path,
    images: Path | None = None,
    classes: Path | None = None,
    polygons: bool = False,
    prefix: str = "",
    splits: Mapping[str, Path] | None = None,
) -> Converted:
    """Writes what a file, a folder or an archive says of images in another format.

    Only what can be seen is written: where objects overlap, each pixel belongs to the object on top.

    Args:
        to: the name of the format.
        out: a file or a folder that does not exist.
        images: the folder of the images.
        classes: a file of class names, in the order of the class ids.
        polygons: write polygons where the format holds both them and pixels.
        prefix: what stands before the names of images, in formats that hold addresses.
        splits: a list file for each split. Images in no list are left out.

    Raises:
        CianError: the source cannot be used, the format needs something that is not given, or `out` exists.
    """
    form = writer(to)
    check_target(form, out)
    problems = ProblemList()
    index = None
    if images is not None:
        refuse_within(out, images)
        index = index_images(images)
    given = None if classes is None else [BACKGROUND, *class_names(classes)]
    annotations = _read(source, index, images, Given(problems, given, partial(size_in, index)))
    names = tuple(given[1:]) if given else annotations.names()
    _check_classes(source, names, annotations, problems)
    if found := [problem for problem in problems.all() if problem.fatal]:
        raise DataError(found, shown=len(found))
    rows = _rows(source, annotations, index, problems)
    if splits:
        rows = _in_lists(rows, splits, index, problems)
    if form.needs == "files" and index is None:
        raise CianError(f"--images: {form.name} needs the image files. Give their folder.")
    if form.needs == "names" and any(PurePosixPath(row.image).suffix.lower() not in KNOWN_SUFFIXES for row in rows):
        raise CianError(f"--images: {form.name} needs the names of the image files. Give their folder.")
    counts = {"images": 0, "labelled": 0, "reduced": 0}
    target = Target(out, names, polygons, prefix)
    assert form.write is not None
    with Ticker(f"writing {out.name}", len(rows)) as ticker:
        lost = form.write(_items(rows, annotations, index, problems, counts, ticker), target)
    if counts["reduced"]:
        lost.append(f"pixels of {counts['reduced']} label maps that are larger than their images")
    return Converted(annotations.saw, counts["images"], counts["labelled"], names, lost, problems.all())


def writer(name: str) -> LabelFormat:
    """
    Raises:
        CianError: there is no such format, or it is only read.
    """
    written = {form.name: form for form in LABEL_FORMATS if form.write is not None}
    if name not in written:
        raise CianError(f"format {name}: no such format. Give one of these: {', '.join(sorted(written))}.")
    return written[name]


def check_target(form: LabelFormat, out: Path) -> None:
    """
    Raises:
        CianError: `out` exists, or it does not have the suffix of the format.
    """
    for path in (out, *([out.with_suffix(form.beside)] if form.beside else [])):
        if path.exists() and not (path.is_dir() and not any(path.iterdir())):
            raise CianError(f"--out {out}: {path} exists. Give a new file or folder.")
    if form.suffix and out.suffix.lower() != form.suffix:
        raise CianError(f"--out {out}: is a file that ends in {form.suffix}. Give e.g. {out}{form.suffix}.")


def _read(source: Path, index: FileIndex | None, images: Path | None, given: Given) -> Annotations:
    if (source / "predictions").is_dir() and (source / "model").is_dir():  # a run
        source = source / "predictions"
    annotations = open_labels(source, given)
    if annotations is not None:
        return annotations
    if index is None:
        raise CianError(f"{source}: holds no labels in a format that cian reads. If it holds tags, give --images too.")
    tags = open_tags(DataConfig(images=images, tags=source), index, None, given.problems)
    found: dict[str, Annotated] = {}
    for row in tags.rows:
        before = found.get(row.image)
        held = (*(before.tags if before else ()), *row.tags)
        found[row.image] = Annotated(
            row.image, tags=tuple(dict.fromkeys(held)), split=row.split, where=tags.at(row.line)
        )
    return Annotations(source, tags.saw, list(found.values()), splits=tags.splits)


def _check_classes(source: Path, names: Sequence[str], annotations: Annotations, problems: ProblemList) -> None:
    if len(names) > MAX_CLASSES:
        problems.add(source, f"{len(names)} classes, but masks hold at most {MAX_CLASSES}", "Merge or drop classes")
    for name in names:
        check_name(name, str(source), problems)
    for name in sorted({name for image in annotations.images for name in image.classes()} - {*names}):
        problems.add(source, f"class {quoted(name)} is not in --classes", "Add it to the file of classes")


def _rows(source: Path, annotations: Annotations, index: FileIndex | None, problems: ProblemList) -> list[Annotated]:
    """What is said of each image, once, by its path in the folder of images, or by the name in the file."""
    rows: dict[str, Annotated] = {}
    missing, twice = [], []
    for image in annotations.images:
        if index is None:
            name = str(safe_path(_plain(image.image)))
        elif (row := _find(index, image.image)) >= 0:
            name = index.paths[row]
            if index.is_guess(image.image):
                index.guesses[image.image] = row
        else:
            missing.append(image.image)
            continue
        if name in rows:
            twice.append(name)
        rows[name] = replace(image, image=name)
    if index is not None:
        note_guesses(index, problems)
    if missing:
        value = f"{few(missing)} are not in the folder of images, or several are called so"
        problems.add(source, value, "They are left out", fatal=False)
    if twice:
        problems.add(source, f"{few(twice)} occur several times", "The last entry counts", fatal=False)
    return list(rows.values())


def _find(index: FileIndex, name: str) -> int:
    """The row of an image by its name, or by that of its mask: a_mask, which may itself lie among the images."""
    row, of_mask = index.find(name), index.find(without_mark(name))
    is_mask = row >= 0 and index.paths[row].endswith(".png") and of_mask >= 0
    return of_mask if row == MISSING or is_mask else row


def _in_lists(
    rows: Sequence[Annotated], splits: Mapping[str, Path], index: FileIndex | None, problems: ProblemList
) -> list[Annotated]:
    """The images in list files, with their splits."""
    if index is None:
        raise CianError("--split: lists name images. Give their folder: --images DIR.")
    lists = {name: Lists((file,)) for name, file in splits.items()}
    split_of = dict(zip(index.paths, read_lists(lists, index, problems), strict=True))
    return [replace(row, split=split) for row in rows if (split := split_of[row.image]) is not None]


def _plain(name: str) -> str:
    """The name of a file, without what addresses of the web and of Label Studio put around it."""
    found = [text for text in spellings(name) if PurePosixPath(text).suffix.lower() in KNOWN_SUFFIXES]
    return found[-1] if found else name


def _items(
    rows: Sequence[Annotated],
    annotations: Annotations,
    index: FileIndex | None,
    problems: ProblemList,
    counts: dict[str, int],
    ticker: Ticker,
) -> Iterator[Item]:
    for row in rows:
        with problems.collecting():
            item = _item(row, annotations, index)
            counts["images"] += 1
            counts["labelled"] += item.drawn is not None
            counts["reduced"] += item.drawn is not None and row.size not in (None, item.size)
            yield item
        ticker.advance()


def _item(row: Annotated, annotations: Annotations, index: FileIndex | None) -> Item:
    """
    Raises:
        FileError: a shape cannot be drawn, or it is not of the image's size.
    """
    file = None if index is None else index.files[index.find(row.image)]
    real = None if file is None else image_size(file)
    size = row.size or real
    if not row.shapes:
        return Item(row.image, file, real or size, row.split, tuple(row.tags), None)
    if size is None:
        raise FileError(Problem(row.where, "the size of the image is not known", "Give the folder of images: --images"))
    if real is not None and not fits(size, real):
        value = f"is for {size[1]} x {size[0]} pixels, but {file} has {real[1]} x {real[0]}"
        raise FileError(Problem(row.where, value, "Give the images that were annotated"))
    drawn = draw(row, size, annotations.smallest_on_top).reduced(real or size)
    return Item(row.image, file, real or size, row.split, tuple(row.tags), drawn)
