"""A folder for each class: CLASS/image.jpg, or SPLIT/CLASS/image.jpg with train, val and test as splits.

The layout of torchvision's `ImageFolder`, Keras' `image_dataset_from_directory` and most exports of classification
tools (Roboflow, Teachable Machine, Ultralytics). Folders below a class may be nested. Split folders are recognised by
`SPLIT_NAMES`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from cian.data.problems import ProblemList, file_error, quoted
from cian.data.table import TRAIN
from cian.formats.file_index import FileIndex
from cian.formats.format import Format, Request, TagRow, TagSource
from cian.formats.split_names import SPLIT_NAMES
from cian.formats.text import clean


def _recognises(request: Request) -> bool:
    return request.images_alone


def _read(request: Request) -> TagSource:
    folder, images, negatives = request.path, request.images, request.config.untagged == "negative"
    names = {path.partition("/")[0] if "/" in path else "" for path in images.paths}
    splits = {name: SPLIT_NAMES.get(clean(name).casefold(), "") for name in names}
    if not all(splits.values()):
        _refuse_mixture(folder, images, splits)
        _note_copies(folder, images, request.problems)
        return TagSource(folder, "a folder for each class", _folder_rows(images, negatives))
    loose = [path for path in images.paths if path.count("/") == 1]
    if loose and not negatives:
        value = f"{quoted(loose[0])} is in no class folder: {', '.join(sorted(names))} look like splits, not classes"
        cure = "Make a folder for each class in each split, e.g. train/CLASS/, or give --tags FILE"
        raise file_error(folder, value, cure)
    saw = "a folder for each split, with a folder for each class in it"
    return TagSource(folder, saw, _split_rows(images, splits), splits=set(splits.values()) != {TRAIN})


def _refuse_mixture(folder: Path, images: FileIndex, splits: Mapping[str, str]) -> None:
    """
    Raises:
        FileError: some folders are splits with class folders in them, and others are not.
    """
    flat = {path.partition("/")[0] for path in images.paths if path.count("/") < 2}
    halved = [name for name, split in splits.items() if split and name not in flat]
    if halved:
        others = ", ".join(quoted(name) if name else "an image" for name in sorted(splits) if not splits[name])
        value = f"{quoted(min(halved))} holds folders of classes and looks like a split, but beside it is {others}"
        cure = "Move what is no split elsewhere or into a class folder of a split, or give --tags FILE"
        raise file_error(folder, value, cure)


def _note_copies(folder: Path, images: FileIndex, problems: ProblemList) -> None:
    """Notes images that were copied into the folder of each of their classes: two images that contradict each other."""
    first: dict[tuple[str, int], str] = {}
    copies = []
    for path, file in zip(images.paths, images.files, strict=True):
        other = first.setdefault((file.name, file.stat().st_size), path)
        if other.rpartition("/")[0] != path.rpartition("/")[0]:
            copies.append(f"{other} and {path}")
    if copies:
        count = "1 image seems" if len(copies) == 1 else f"{len(copies)} images seem"
        value = f"{count} to be in the folders of two classes ({quoted(copies[0])})"
        cure = "Keep each image once and give --tags FILE, where an image can have several tags"
        problems.add(folder, value, cure, fatal=False)


def _folder_rows(images: FileIndex, negatives: bool) -> Iterator[TagRow]:
    """The first folder in an image's path is its tag.

    Args:
        negatives: images in no class folder show none of the classes; otherwise they have no row.
    """
    for path in images.paths:
        folder, slash, _ = path.partition("/")
        if slash or negatives:
            yield TagRow(0, path, (clean(folder),) if slash else ())


def _split_rows(images: FileIndex, splits: Mapping[str, str]) -> Iterator[TagRow]:
    """The first folder in an image's path is its split, the second its tag."""
    for path in images.paths:
        split, *folders, _ = path.split("/", 2)
        yield TagRow(0, path, tuple(clean(folder) for folder in folders), splits[split])


FORMAT = Format("no tags, and a folder of images with a sub-folder for each class", _recognises, _read)
