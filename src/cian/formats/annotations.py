"""The common form of what annotation programs write: for each image its tags and shapes, which become a label map.

These rules hold for all formats:

* An object called `background` is background, and one called `unlabelled` is 255.
* Pixels without an object are background. But if the image has an object called `background`, they are unlabelled:
  somebody drew strokes.
* An image without any object is not labelled: nobody has drawn in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple

import numpy as np
from PIL import Image
from scipy import ndimage

from cian.data.images import image_size, refuse_large
from cian.data.problems import FileError, ProblemList, file_error
from cian.data.table import BACKGROUND, IGNORE, TRAIN
from cian.formats.file_index import FileIndex
from cian.formats.text import clean
from cian.formats.tree import Tree

UNLABELLED = "unlabelled"
Size = tuple[int, int]  # height, width


@dataclass(frozen=True)
class Shape:
    """An object in an image, or all pixels of a class.

    Attributes:
        label: the name of its class.
        draw: (height, width) -> (H, W) bool. Raises ValueError, which says what is wrong with the shape.
        where: its place in the file, for messages.
        crowd: whether it covers several objects, of which only those drawn apart count: the rest is 255.
    """

    label: str
    draw: Callable[[int, int], np.ndarray]
    where: str
    crowd: bool = False


@dataclass(frozen=True)
class Annotated:
    """What a file says of one image.

    Attributes:
        image: the name that the file uses for the image.
        size: (height, width); None if the file does not say it.
        shapes: later ones lie over earlier ones, except where `Annotations.smallest_on_top`.
        tags: classes that the image shows, besides those of the shapes.
        split: `train` where the file says none.
        where: its place in the file, for messages.
    """

    image: str
    size: Size | None = None
    shapes: Sequence[Shape] = ()
    tags: Sequence[str] = ()
    split: str = TRAIN
    where: str = ""

    def classes(self) -> tuple[str, ...]:
        """The classes that the image shows, each once."""
        names = (*self.tags, *(shape.label for shape in self.shapes))
        return tuple(name for name in dict.fromkeys(map(clean, names)) if name and not is_no_class(name))


@dataclass(frozen=True)
class Annotations:
    """What a file or a folder says of all its images.

    Attributes:
        saw: what was recognised, for the user.
        classes: in the order of the file's ids, also those that do not occur; empty if the file does not list them.
        smallest_on_top: whether smaller shapes lie over larger ones, in whichever order they come.
        splits: whether the file says which images are held out.
    """

    path: Path
    saw: str
    images: Sequence[Annotated]
    classes: tuple[str, ...] = ()
    smallest_on_top: bool = False
    splits: bool = False

    def names(self) -> tuple[str, ...]:
        """All classes: those that the file lists, or else those that occur, in the order of the alphabet."""
        occurring = sorted({name for image in self.images for name in image.classes()})
        return tuple(name for name in self.classes or occurring if not is_no_class(name))


class Region(NamedTuple):
    """The pixels of an object that no other object covers. `mask` (h, w) bool is its bounding box, at (left, top)."""

    label: str
    left: int
    top: int
    mask: np.ndarray

    def whole(self, size: Size) -> np.ndarray:
        """(H, W) bool."""
        result = np.zeros(size, bool)
        height, width = self.mask.shape
        result[self.top : self.top + height, self.left : self.left + width] = self.mask
        return result


@dataclass(frozen=True)
class Drawn:
    """The shapes of one image as pixels.

    Attributes:
        owner: (H, W) int32: 0 where there is no object, otherwise 1 + the index of the label.
        labels: what each object is called.
    """

    owner: np.ndarray
    labels: tuple[str, ...]

    def label_map(self, class_ids: Mapping[str, int]) -> np.ndarray:
        """(H, W) uint8 class ids, 255 = unlabelled.

        Args:
            class_ids: by class; objects of other classes become 255.
        """
        ids = [IGNORE if BACKGROUND in self.labels else 0]
        ids += [0 if label == BACKGROUND else class_ids.get(label, IGNORE) for label in self.labels]
        return np.array(ids, np.uint8)[self.owner]

    def reduced(self, size: Size) -> Drawn:
        """The same, of the size (height, width) of a reduced image, by the nearest pixel."""
        if self.owner.shape == size:
            return self
        image = Image.fromarray(self.owner, "I").resize(size[::-1], Image.Resampling.NEAREST)
        return Drawn(np.array(image), self.labels)

    @cached_property
    def unlabelled(self) -> np.ndarray:
        """(H, W) bool: the pixels of which nothing is known."""
        return self.label_map({label: 1 for label in self.labels if label != UNLABELLED}) == IGNORE

    def regions(self) -> list[Region]:
        """The objects of classes of which something can be seen, in their order. If some pixels are unlabelled, the
        background comes first, as another object: what no object covers is then unlabelled."""
        found = []
        for i, (label, box) in enumerate(zip(self.labels, ndimage.find_objects(self.owner), strict=False), start=1):
            if box is not None and not is_no_class(label):
                found.append(Region(label, box[1].start, box[0].start, self.owner[box] == i))
        if self.unlabelled.any():
            background = self.label_map({label: 1 for label in self.labels if label != UNLABELLED}) == 0
            found[:0] = [
                Region(BACKGROUND, columns.start, rows.start, background[rows, columns])
                for rows, columns in ndimage.find_objects(background.astype(np.int8))
            ]
        return found


def draw(image: Annotated, size: Size, smallest_on_top: bool = False) -> Drawn:
    """Draws the shapes of an image.

    Args:
        size: (height, width).

    Raises:
        FileError: a shape cannot be drawn.
    """
    check_size(size, image.where)
    owner, labels = np.zeros(size, np.int32), []
    area = np.full(size, np.iinfo(np.uint32).max, np.uint32)  # of the smallest shape so far
    crowd = np.zeros(size, bool)
    for shape in image.shapes:
        try:
            pixels = shape.draw(*size)
        except ValueError as error:
            raise file_error(shape.where, str(error), "Correct or remove this object") from None
        if shape.crowd:
            crowd |= pixels
            continue
        if smallest_on_top:
            own = int(pixels.sum())
            pixels = pixels & (own <= area)
            area[pixels] = own
        labels.append(special_name(shape.label))
        owner[pixels] = len(labels)
    crowd &= owner == 0
    if crowd.any():
        labels.append(UNLABELLED)
        owner[crowd] = len(labels)
    return Drawn(owner, tuple(labels))


def label_map_shapes(
    read: Callable[[], np.ndarray], names: Mapping[int, str], where: str
) -> tuple[Size, tuple[Shape, ...]]:
    """The size of a label map, and its classes as shapes.

    Args:
        read: (H, W) ids, 0 = background and 255 = unlabelled unless they have other names; called now and each time
            that a shape is drawn.
        names: the class of each id.

    Raises:
        FileError: the label map holds ids that are no class.
    """
    ids = read()
    size = (ids.shape[0], ids.shape[1])
    names = {0: BACKGROUND, IGNORE: UNLABELLED, **names}
    held = np.unique(ids).tolist()
    if unknown := [value for value in held if value not in names]:
        shown = ", ".join(map(str, unknown[:5])) + ", …" * (len(unknown) > 5)
        raise file_error(where, f"holds the values {shown}, which are no class", "Give the names of all classes")

    def pixels(value: int, height: int, width: int) -> np.ndarray:
        if (height, width) != size:
            raise ValueError(f"has {size[1]} x {size[0]} pixels, its image {width} x {height}")
        return read() == value

    shown_names = {value: names[value] for value in held}
    # Background is said only where it would not be guessed: beside unlabelled pixels, or if there is nothing else.
    if UNLABELLED not in shown_names.values() and len(held) > 1:
        shown_names = {value: name for value, name in shown_names.items() if name != BACKGROUND}
    return size, tuple(Shape(name, partial(pixels, value), where) for value, name in shown_names.items())


recently = lru_cache(maxsize=2)  # for what the shapes of one image share; it is large


def special_name(label: str) -> str:
    """A label as rules know it: `background` and `unlabelled` in any case, other names as they are."""
    name = clean(label)
    return name.casefold() if is_no_class(name) else name


def is_no_class(name: str) -> bool:
    return name.casefold() in (BACKGROUND, UNLABELLED)


def check_size(size: Size, where: str) -> None:
    """
    Raises:
        FileError: the size is none, or too large.
    """
    height, width = size
    if height <= 0 or width <= 0:
        raise file_error(where, f"gives the image {width} x {height} pixels", "Correct its width and height")
    refuse_large(where, height, width)


def size_of(height: object, width: object) -> Size | None:
    """(height, width) as a file says them; None if they are no whole numbers."""
    if isinstance(height, str) and height.isdecimal():
        height = int(height)
    if isinstance(width, str) and width.isdecimal():
        width = int(width)
    return (height, width) if isinstance(height, int) and isinstance(width, int) else None


def numbers(values: Sequence[Any], count: int) -> list[float]:
    """Coordinates that a file holds.

    Raises:
        ValueError: they are no numbers, or not as many.
    """
    if len(values) != count or not all(isinstance(each, int | float) and abs(each) < 1e9 for each in values):
        raise ValueError("holds no numbers where coordinates are expected")
    return [float(each) for each in values]


def safe_path(name: str) -> PurePosixPath:
    """A name from a file as a path that stays below its folder: one that leads elsewhere is cut to its last part."""
    path = PurePosixPath(name.strip().replace("\\", "/"))
    leads_away = path.is_absolute() or ".." in path.parts or (path.parts and path.parts[0].endswith(":"))
    path = PurePosixPath(path.name) if leads_away else path
    return path if path.name else PurePosixPath("image")


@dataclass(frozen=True)
class Given:
    """What the reader of a format knows besides the files.

    Attributes:
        problems: collects what is wrong but does not stop the reading.
        classes: the names that the user gave for class ids, background first; None if there are none.
        image_size: (height, width) of the image with a name; None if there is no such image, or no images are given.
    """

    problems: ProblemList
    classes: Sequence[str] | None = None
    image_size: Callable[[str], Size | None] = lambda name: None


def size_in(images: FileIndex | None, name: str) -> Size | None:
    """(height, width) of the image with a name; None if there is none that can be read, which is said elsewhere."""
    row = -1 if images is None else images.find(name)
    if images is None or row < 0:
        return None
    try:
        return image_size(images.files[row])
    except FileError:
        return None


class Item(NamedTuple):
    """An image as writers get it.

    Attributes:
        name: its path, "/"-separated, with its suffix.
        file: the image file; None if it is not given.
        drawn: None if the image is not labelled.
    """

    name: str
    file: Path | None
    size: Size | None
    split: str
    tags: tuple[str, ...]
    drawn: Drawn | None

    def classes(self) -> set[str]:
        """The classes of its objects, and its tags."""
        labels = () if self.drawn is None else self.drawn.labels
        return {name for name in (*labels, *self.tags) if not is_no_class(name)}


@dataclass(frozen=True)
class Target:
    """Where and how a writer writes.

    Attributes:
        path: the file or the folder.
        classes: the names of the classes, in the order of their ids, without background.
        polygons: whether to write polygons where both they and pixels are possible.
        prefix: what stands before the names of images.
    """

    path: Path
    classes: tuple[str, ...]
    polygons: bool = False
    prefix: str = ""

    @property
    def class_ids(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.classes, start=1)}


@dataclass(frozen=True)
class LabelFormat:
    """A format of shapes and label maps.

    Attributes:
        name: as `cian convert --to` takes it.
        description: what a user can give, for help and errors.
        recognises: whether a file, a folder or an archive is of this format.
        read: raises FileError where nothing can be read; None if the format is only written.
        write: writes images, and returns what the format cannot say, in words; None if the format is only read.
        suffix: of the file that is written; empty for a folder.
        beside: the suffix of a second file that is written.
        needs: what the writer needs of the images: their `names` with suffixes, their `files`, or nothing.
    """

    name: str
    description: str
    recognises: Callable[[Tree], bool]
    read: Callable[[Tree, Given], Annotations] | None
    write: Callable[[Iterable[Item], Target], list[str]] | None = None
    suffix: str = ""
    needs: Literal["", "names", "files"] = ""
    beside: str = ""
