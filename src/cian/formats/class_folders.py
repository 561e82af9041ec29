"""A folder for each class: CLASS/image.jpg, or SPLIT/CLASS/image.jpg with train, val and test as splits.

The layout of torchvision's `ImageFolder`, Keras' `image_dataset_from_directory` and most exports of classification
tools (Roboflow, Teachable Machine, Ultralytics). Folders below a class may be nested. Split folders are recognised by
`SPLIT_NAMES`. All of it may lie in one more folder, as archives are often unpacked.
"""

from __future__ import annotations

import filecmp
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from cian.data.problems import ProblemList, file_error, quoted
from cian.data.table import TRAIN
from cian.formats.file_index import FileIndex
from cian.formats.format import Format, Request, TagRow, TagSource
from cian.formats.split_names import SPLIT_NAMES
from cian.formats.text import clean

# Folders of data sets that are no classes, in lower case.
_IMAGES = frozenset({"image", "images", "img", "imgs", "jpegimages", "leftimg8bit"})
_MASKS = frozenset(
    {"masks", "annotations", "segmentationclass", "segmentationclassaug", "segmentationobject", "segmentations"}
    | {"groundtruth", "ground_truth", "ground-truth", "gtfine", "labels", "labelmaps", "label_maps", "png_masks"}
)
_MASK_FILE = re.compile(r"(.+)[_-](?:mask|masks|seg|segmentation|gt|label|labels)(?:[_-]?\d+)?", re.IGNORECASE)


def _recognises(request: Request) -> bool:
    return request.images_alone


def _read(request: Request) -> TagSource:
    folder, images, negatives = request.path, request.images, request.config.untagged == "negative"
    outer = _outer_folder(images.paths)
    inner = [path[len(outer) :] for path in images.paths]
    names = {path.partition("/")[0] if "/" in path else "" for path in inner}
    splits = {name: SPLIT_NAMES.get(clean(name).casefold(), "") for name in names}
    in_splits = all(splits.values())
    if not in_splits:
        _refuse_mixture(folder, inner, splits)
    _refuse_parts(folder, outer, inner, in_splits)
    _refuse_masks(folder, images)
    if outer:
        _note_outer(folder, outer, names, request.problems)
    below = f", in {outer[:-1]}" if outer else ""
    if not in_splits:
        _note_copies(folder, images, request.problems)
        return TagSource(folder, f"a folder for each class{below}", _folder_rows(images, outer, negatives))
    loose = [path for path in inner if path.count("/") == 1]
    if loose and not negatives:
        value = f"{quoted(loose[0])} is in no class folder: {', '.join(sorted(names))} look like splits, not classes"
        cure = "Make a folder for each class in each split, e.g. train/CLASS/, or give --tags FILE"
        raise file_error(folder, value, cure)
    saw = f"a folder for each split{below}, with a folder for each class in it"
    return TagSource(folder, saw, _split_rows(images, outer, splits), splits=set(splits.values()) != {TRAIN})


def _outer_folder(paths: Sequence[str]) -> str:
    """The folder, with its slash, that holds the folders of all classes or splits; empty if it is the root.

    It is the root unless every image is in one folder, and this folder holds nothing but folders, at least two or one
    called like a split.
    """
    parts = [path.split("/") for path in paths]
    for depth in range(min(map(len, parts)) - 1):
        names = {path[depth] for path in parts}
        if len(names) > 1 or all(clean(name).casefold() in SPLIT_NAMES for name in names):
            return "".join(f"{name}/" for name in parts[0][:depth])
    return ""


def _note_outer(folder: Path, outer: str, names: set[str], problems: ProblemList) -> None:
    if not any(clean(name).casefold() in SPLIT_NAMES for name in names):
        shown = ", ".join(sorted(names)[:3]) + ", …" * (len(names) > 3)
        value = f"all images are in {quoted(outer[:-1])}, so the folders in it are taken as the classes ({shown})"
        problems.add(folder, value, "Give --tags FILE if they are not", fatal=False)


def _refuse_mixture(folder: Path, paths: Sequence[str], splits: Mapping[str, str]) -> None:
    """
    Raises:
        FileError: some folders are splits with class folders in them, and others are not.
    """
    flat = {path.partition("/")[0] for path in paths if path.count("/") < 2}
    halved = [name for name, split in splits.items() if split and name not in flat]
    if halved:
        others = ", ".join(quoted(name) if name else "an image" for name in sorted(splits) if not splits[name])
        value = f"{quoted(min(halved))} holds folders of classes and looks like a split, but beside it is {others}"
        cure = "Move the folders that are not splits elsewhere, or into a class folder of a split. Or give --tags FILE"
        raise file_error(folder, value, cure)


def _refuse_parts(folder: Path, outer: str, paths: Sequence[str], in_splits: bool) -> None:
    """
    Raises:
        FileError: a folder in the place of a class is called as data sets call their images or masks.
    """
    depth = 1 if in_splits else 0
    names = {parts[depth] for path in paths if len(parts := path.split("/")) > depth + 1}
    images = sorted(name for name in names if clean(name).casefold() in _IMAGES)
    masks = sorted(name for name in names if clean(name).casefold() in _MASKS)
    if not images and not masks:
        return
    if images and masks and not in_splits:
        value = f"holds {quoted(images[0])} and {quoted(masks[0])}, which are not classes"
        at = folder / outer
        raise file_error(folder, value, f"Give --images {at / images[0]}, and --masks {at / masks[0]} to score with")
    name = quoted((images or masks)[0])
    value = f"the folder {name} lies where a class folder should be, but its name is not that of a class"
    what = "Give --images the folder whose sub-folders are the classes, or --tags FILE"
    raise file_error(folder, value, what if images else "Move it out of the folder of the images, or rename it")


def _refuse_masks(folder: Path, images: FileIndex) -> None:
    """
    Raises:
        FileError: masks lie beside their images, as ID_mask.png beside ID.jpg.
    """
    ids = set(images.ids)
    masks = [
        (path, match[1])
        for path, name in zip(images.paths, images.ids, strict=True)
        if path.lower().endswith(".png") and (match := _MASK_FILE.fullmatch(name)) and match[1] in ids
    ]
    if masks:
        path, image = masks[0]
        value = f"{len(masks)} file{'s look' if len(masks) > 1 else ' looks'} like masks of the images beside them"
        value += f" ({quoted(path)} of {quoted(image)})"
        raise file_error(folder, value, "Move masks to a folder of their own, and give it as --masks to score with")


def _note_copies(folder: Path, images: FileIndex, problems: ProblemList) -> None:
    """Notes images that were copied into the folder of each of their classes: two images that contradict each other.

    Files of the same name and size are compared; this reads the whole of copies only.
    """
    first: dict[tuple[str, int], int] = {}
    copies = []
    for row, (path, file) in enumerate(zip(images.paths, images.files, strict=True)):
        other = first.setdefault((file.name, file.stat().st_size), row)
        elsewhere = images.paths[other].rpartition("/")[0] != path.rpartition("/")[0]
        if elsewhere and _are_equal(images.files[other], file):
            copies.append(f"{images.paths[other]} and {path}")
    if copies:
        count = "1 image seems" if len(copies) == 1 else f"{len(copies)} images seem"
        value = f"{count} to be in the folders of two classes ({quoted(copies[0])})"
        cure = "Keep each image once and give --tags FILE, where an image can have several tags"
        problems.add(folder, value, cure, fatal=False)


def _are_equal(first: Path, second: Path) -> bool:
    try:
        return filecmp.cmp(first, second, shallow=False)
    except OSError:  # reported where images are opened
        return False


def _folder_rows(images: FileIndex, outer: str, negatives: bool) -> Iterator[TagRow]:
    """The first folder in an image's path below `outer` is its tag.

    Args:
        negatives: images in no class folder show none of the classes; otherwise they have no row.
    """
    for path in images.paths:
        folder, slash, _ = path[len(outer) :].partition("/")
        if slash or negatives:
            yield TagRow(0, path, (clean(folder),) if slash else ())


def _split_rows(images: FileIndex, outer: str, splits: Mapping[str, str]) -> Iterator[TagRow]:
    """The first folder in an image's path below `outer` is its split, the second its tag."""
    for path in images.paths:
        split, *folders, _ = path[len(outer) :].split("/", 2)
        yield TagRow(0, path, tuple(clean(folder) for folder in folders), splits[split])


FORMAT = Format("no tags, and a folder of images with a sub-folder for each class", _recognises, _read)
