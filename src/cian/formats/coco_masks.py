"""`cian coco-masks`: draws COCO's instances into masks that predictions can be scored on. Imports no torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from cian.data.images import IMAGE_SUFFIXES, find_files, refuse_large
from cian.data.known_files import fingerprint
from cian.data.masks import write_mask
from cian.data.problems import ProblemList, file_error, quoted
from cian.data.table import BACKGROUND, IGNORE, MAX_CLASSES
from cian.errors import CianError, DataError
from cian.files import read_json, remove_temporaries, write_json, write_text
from cian.formats import shapes
from cian.formats.class_names import check_name, class_names
from cian.formats.coco import CURE, Annotations, Instance, instance_files, read_annotations
from cian.formats.devkits import COCO_CLASSES
from cian.formats.text import JsonObject, parse_json
from cian.terminal import Ticker, note

_RECORD = "coco-masks.json"  # beside the masks: what they were drawn from
_SHAPE_CURE = "Export polygons or run lengths, not boxes, or remove the annotation"


def write_coco_masks(source: Path, out: Path, classes: Path | None = None) -> list[str]:
    """Writes a mask ID.png for each image of a file of annotations, and OUT/classes.txt. Existing masks are kept if
    they were drawn from the same annotations, and drawn again otherwise.

    Args:
        source: an instances JSON, whose masks go to OUT; or a folder of instances_NAME.json, where the masks of each
            file go to OUT/NAME. `data.coco` finds them there.
        classes: class names in the order of their ids. Default: COCO's own order for its 80 categories; otherwise the
            categories that occur, alphabetically, which is the order that tags have.

    Returns:
        The class names, background first.

    Raises:
        CianError: the annotations cannot be used, or OUT holds masks of other classes, or masks that this function did
            not write.
    """
    files = instance_files(source) if source.is_dir() else [source]
    if not files:
        raise CianError(f"{source}: holds no instances_*.json. Give a COCO JSON file, or a folder of them.")
    problems = ProblemList()
    survey = _Survey()
    for file in files:  # one at a time: they are large
        survey.add(_load(file, problems), problems)
    names = _class_order(survey, source, classes, problems)
    found = problems.all()
    if fatal := [problem for problem in found if problem.fatal]:
        raise DataError(fatal, shown=len(fatal))
    drawn = survey.objects(source, problems)
    for problem in problems.all():
        note(problem)
    listed, text = out / "classes.txt", "\n".join(names) + "\n"
    if listed.exists() and [BACKGROUND, *class_names(listed)] != names:
        raise CianError(f"{listed}: holds other classes than {source}. Give another --out, or --classes {listed}.")
    write_text(listed, text)
    class_ids = {name: i for i, name in enumerate(names)}
    for file in files:
        folder = out / file.stem.removeprefix("instances_") if source.is_dir() else out
        _write_masks(_load(file, problems), folder, class_ids, drawn)
    return names


def _load(file: Path, problems: ProblemList) -> Annotations:
    return read_annotations(file, parse_json(file, CURE), problems)


@dataclass
class _Survey:
    """What all files hold, before any mask is written.

    Attributes:
        total: the number of annotations by category.
        crowds: how many of them are crowds.
        rests: annotations with parts of one or two points beside polygons.
        categories: of each file, in the order of their ids.
    """

    total: Counter[str] = field(default_factory=Counter)
    crowds: Counter[str] = field(default_factory=Counter)
    rests: int = 0
    categories: list[tuple[str, ...]] = field(default_factory=list)

    @property
    def is_coco(self) -> bool:
        """Whether these are COCO's own categories."""
        coco = tuple(class_names(COCO_CLASSES))
        return all(names == coco for names in self.categories)

    def add(self, labels: Annotations, problems: ProblemList) -> None:
        """Adds a file. What cannot be drawn becomes problems, all at once."""
        self.categories.append(labels.categories)
        sizes = {}
        for key in labels.images:
            with problems.collecting():
                sizes[key] = _size(labels, key)
        for instance in labels.instances:
            self.total[instance.category] += 1
            self.crowds[instance.category] += bool(instance.content.get("iscrowd"))
            if instance.image not in sizes:
                continue
            try:
                self.rests += _rests(instance.content.get("segmentation"), *sizes[instance.image])
            except ValueError as error:
                problems.add(f"{labels.path}, annotation {instance.number}", str(error), _SHAPE_CURE)

    def objects(self, source: Path, problems: ProblemList) -> frozenset[str]:
        """The categories whose crowds are drawn as objects, because programs mark each mask of a brush as a crowd: all
        their annotations are crowds. What is ignored, or drawn in spite of its mark, is noted."""
        drawn = frozenset(name for name, n in self.crowds.items() if n == self.total[name] and not self.is_coco)
        if drawn:
            value = f"every annotation of {_first(sorted(drawn))} is a crowd (iscrowd), so these are drawn as objects"
            problems.add(source, value, "Remove those that are groups of objects", fatal=False)
        ignored = [f"{n} of {self.total[name]} of {name}" for name, n in self.crowds.items() if n and name not in drawn]
        if ignored:
            value = f"crowds (iscrowd) are ignored, their pixels become 255: {_first(ignored)}"
            problems.add(source, value, "Set iscrowd to 0 where an annotation is one object", fatal=False)
        if self.rests:
            value = (
                f"{self.rests} annotation{'s' * (self.rests > 1)} with parts of one or two points, which are left out"
            )
            problems.add(source, value, "Nothing is to be done, because they have no area", fatal=False)
        return drawn


def _first(texts: Sequence[str], most: int = 10) -> str:
    return ", ".join(texts[:most]) + ", …" * (len(texts) > most)


def _class_order(survey: _Survey, source: Path, classes: Path | None, problems: ProblemList) -> list[str]:
    """Class names by id, background first."""
    used = survey.total
    if classes is not None:
        names = class_names(classes)
        for name in used:
            if name not in names:
                problems.add(source, f"category {quoted(name)} is not in {classes}", "Add it to the classes")
    elif survey.is_coco:
        names = class_names(COCO_CLASSES)
    else:
        names = sorted(name for name in used if check_name(name, str(source), problems))
    if not used:
        problems.add(source, "holds no annotation of a category", CURE)
    if len(names) > MAX_CLASSES:
        problems.add(source, f"{len(names)} classes, but masks hold at most {MAX_CLASSES}", "Merge or drop classes")
    return [BACKGROUND, *names]


def _write_masks(labels: Annotations, folder: Path, class_ids: dict[str, int], drawn: frozenset[str]) -> None:
    by_image: dict[Any, list[Instance]] = {key: [] for key in labels.images}
    for instance in labels.instances:
        by_image[instance.image].append(instance)
    targets = {key: folder / _mask_name(image["file_name"]) for key, image in labels.images.items()}
    owner: dict[Path, Any] = {}
    for key, target in targets.items():
        if owner.setdefault(target, key) != key:
            value = f"several images would share the mask {target}"
            raise file_error(labels.path, value, "Rename one of the images, also in this file")
    record, drawn_from = folder / _RECORD, {"annotations": fingerprint(labels.path), "classes": list(class_ids)}
    if drawn:
        drawn_from["crowds drawn"] = sorted(drawn)
    if images := find_files(folder, IMAGE_SUFFIXES - {".png"}) if folder.exists() else []:
        raise file_error(folder, f"holds other images ({images[0].name})", "Give a new or an empty folder to --out")
    if not record.exists() and (strange := next((path for path in targets.values() if path.exists()), None)):
        raise file_error(strange, "was not drawn by `cian coco-masks`", "Give a new or an empty folder to --out")
    if not record.exists() or read_json(record) != drawn_from:
        for target in targets.values():  # an interrupted call must leave none for the next one to keep
            target.unlink(missing_ok=True)
        write_json(record, drawn_from)
    remove_temporaries(folder)
    missing = [key for key, target in targets.items() if not target.exists()]
    with Ticker(f"masks of {labels.path.name}", len(targets), len(targets) - len(missing)) as ticker:
        for key in missing:
            size = _size(labels, key)
            write_mask(targets[key], draw(by_image[key], size, class_ids, drawn))
            ticker.advance()


def draw(
    instances: Sequence[Instance],
    size: tuple[int, int],
    class_ids: dict[str, int],
    drawn: Container[str] = (),
) -> np.ndarray:
    """Draws the instances of one image, smaller ones over larger ones. Crowds become 255 (ignore) where no other
    instance is.

    Args:
        size: (height, width) of the image.
        class_ids: by category.
        drawn: categories whose crowds are drawn as objects.

    Returns:
        (H, W) uint8 class ids, 0 = background, 255 = ignore.

    Raises:
        ValueError: a shape cannot be drawn, or is not of the image's size.
    """
    mask, crowd = np.zeros(size, np.uint8), np.zeros(size, bool)
    pixels = np.full(size, np.iinfo(np.uint32).max, np.uint32)  # of the smallest instance so far
    for instance in instances:
        shape = shape_pixels(instance.content.get("segmentation"), *size)  # (H, W)
        if instance.content.get("iscrowd") and instance.category not in drawn:
            crowd |= shape
        else:
            area = int(shape.sum())
            shape &= area <= pixels
            mask[shape], pixels[shape] = class_ids[instance.category], area
    mask[crowd & (mask == 0)] = IGNORE
    return mask


def shape_pixels(segmentation: Any, height: int, width: int) -> np.ndarray:
    """(H, W) bool of a list of polygons, or of run lengths (plain or compressed).

    Raises:
        ValueError: it cannot be drawn.
    """
    if isinstance(segmentation, JsonObject):
        values = dict(segmentation)
        return shapes.run_lengths(values.get("counts"), values.get("size"), height, width)
    return shapes.polygons(segmentation, height, width)


def _rests(segmentation: Any, height: int, width: int) -> bool:
    """Whether a shape has parts without an area.

    Raises:
        ValueError: it cannot be drawn.
    """
    if isinstance(segmentation, JsonObject):
        values = dict(segmentation)
        shapes.checked_counts(values.get("counts"), values.get("size"), height, width)
        return False
    return len(shapes.polygon_points(segmentation)) < len(segmentation) and isinstance(segmentation[0], list)


def _mask_name(file_name: str) -> PurePosixPath:
    """The path of an image's mask below the folder of masks. A path that leads elsewhere is cut to its last part."""
    path = PurePosixPath(file_name.strip().replace("\\", "/"))
    return (PurePosixPath(path.name) if path.is_absolute() or ".." in path.parts else path).with_suffix(".png")


def _size(labels: Annotations, key: Any) -> tuple[int, int]:
    """(height, width) of an image, as the annotations say."""
    image = labels.images[key]
    height, width = image.get("height"), image.get("width")
    if not (isinstance(height, int) and isinstance(width, int) and height > 0 and width > 0):
        value = f"image {quoted(image['file_name'])} has no usable height and width"
        raise file_error(labels.path, value, CURE)
    refuse_large(f"{labels.path}, image {quoted(image['file_name'])}", height, width)
    return height, width
