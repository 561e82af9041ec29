"""Label maps as PNG files: folders, as `cian` writes them; CVAT's "Segmentation mask 1.1"; devkits of PASCAL VOC.

Read are indexed and grey PNG files, whose values are class ids (also of 16 bits), and RGB files, by a colour map: that
of `labelmap.txt` (NAME:R,G,B:PARTS:ACTIONS, as CVAT and datumaro write it), or the colours of cian and PASCAL VOC.
Class names come from `labelmap.txt`, from `classes.txt`, from the run that made the masks, or from the user.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from cian.data.images import raw_mode, strips
from cian.data.masks import grey_ids, indexed
from cian.data.palette import COLOURS, VOC_COLOURS
from cian.data.problems import counted, file_error
from cian.data.table import BACKGROUND, IGNORE
from cian.files import atomic, write_text
from cian.formats.annotations import (
    UNLABELLED,
    Annotated,
    Annotations,
    Given,
    Item,
    LabelFormat,
    Target,
    label_map_shapes,
    recently,
    safe_path,
)
from cian.formats.class_names import class_names
from cian.formats.devkits import VOC_CLASSES
from cian.formats.text import clean, entries, fields
from cian.formats.tree import Tree

_CLASS_FOLDERS = ("SegmentationClass", "SegmentationClassAug")
_OTHER_FOLDERS = ("SegmentationObject", "JPEGImages", "images", "overlays")
_COLOUR = re.compile(r"([^:#][^:]*):(\d{1,3}),(\d{1,3}),(\d{1,3})(:.*)?")
Colours = tuple[tuple[int, int, int], ...]

_GREY_STEPS = {"L;2": 85, "L;4": 17}  # Pillow spreads grey of 2 and 4 bits over 0 … 255


def _label_files(tree: Tree) -> list[str]:
    """The PNG files that hold label maps, without those of objects and of images."""
    names = [name for name in tree.ending(".png") if not set(PurePosixPath(name).parts[:-1]) & {*_OTHER_FOLDERS}]
    inner = [name for name in names if set(PurePosixPath(name).parts) & {*_CLASS_FOLDERS}]
    return inner or names


def image_id(name: str) -> str:
    """The name of a label map's image, without its suffix: what follows the folder of class masks."""
    path = PurePosixPath(name).with_suffix("")
    places = [i for i, part in enumerate(path.parts) if part in _CLASS_FOLDERS]
    return str(PurePosixPath(*path.parts[places[-1] + 1 :])) if places else str(path)


def colour_map(tree: Tree) -> dict[str, tuple[int, int, int]]:
    """The colour of each class in labelmap.txt, in its order; empty if there is none."""
    names = tree.called("labelmap.txt")
    if names:
        text = tree.text(names[0])
    elif tree.path.name in _CLASS_FOLDERS and (beside := tree.path.parent / "labelmap.txt").is_file():
        text = Tree(beside).text(beside.name)
    else:
        return {}
    matches = (_COLOUR.fullmatch(line.strip()) for line in text.splitlines())
    return {clean(match[1]): (int(match[2]), int(match[3]), int(match[4])) for match in matches if match}


@recently
def read_ids(tree: Tree, name: str, colours: Colours) -> np.ndarray:
    """(H, W) ids. Colours are replaced by their places in `colours`."""
    with tree.png(name) as image:
        return decode_ids(image, colours, tree.where(name))


def decode_ids(image: Image.Image, colours: Colours, where: str) -> np.ndarray:
    """(H, W) ids of an opened PNG file.

    Raises:
        FileError: it holds a colour that is not among these.
    """
    step = _GREY_STEPS.get(raw_mode(image), 1)
    if image.mode in ("1", "L", "I") or image.mode.startswith("I;16"):
        values = np.array(image)
        return values.astype(np.uint8) if image.mode == "1" else values // step if step > 1 else values
    if image.mode == "P" and (not colours or not _same_colours(image, colours)):
        return np.array(image)
    if not colours and (grey := grey_ids(image)) is not None:
        return grey
    known = (np.array(colours) if colours else np.concatenate((COLOURS, VOC_COLOURS))) @ _WEIGHTS
    order = np.argsort(known, kind="stable")
    ids = np.empty((image.height, image.width), np.uint16)
    for rows in strips(ids):
        pixels = np.array(image.crop((0, rows.start, image.width, rows.stop)).convert("RGBA"))  # (h, W, 4)
        codes = pixels[..., :3].astype(np.int64) @ _WEIGHTS  # (h, W)
        ids[rows] = order[np.searchsorted(known[order], codes).clip(max=len(order) - 1)]
        wrong = np.argwhere((known[ids[rows]] != codes) | (pixels[..., 3] < 255))
        if len(wrong):
            y, x = wrong[0]
            colour = tuple(pixels[y, x, :3].tolist())
            what = "no colour of labelmap.txt" if colours else "not one of cian's or PASCAL VOC's colours"
            cure = "Give the colours in a file labelmap.txt beside the masks, with lines such as `cat:128,0,0::`"
            raise file_error(where, f"colour {colour} at x={x}, y={rows.start + y} is {what}", cure)
    return ids if colours else ids % 256


_WEIGHTS = np.array([1 << 16, 1 << 8, 1])


def _same_colours(image: Image.Image, colours: Iterable[tuple[int, int, int]]) -> bool:
    """Whether all colours of an indexed image that occur are among these."""
    table = np.array(image.getpalette() or [], np.int64).reshape(-1, 3)
    used = np.unique(np.array(image)).tolist()
    return all(value < len(table) and tuple(table[value].tolist()) in set(colours) for value in used)


def class_names_of(tree: Tree, given: Given) -> list[str]:
    """Class names by id, background first."""
    if given.classes is not None:
        return list(given.classes)
    for name in (*tree.called("classes.txt"), *tree.called("_classes.csv")):
        return [BACKGROUND, *class_names(Path(tree.where(name)), text=tree.text(name))]
    if any("ImageSets/Segmentation/" in name for name in tree.names):
        value, cure = "does not name its classes, so they are those of PASCAL VOC", "Give others with --classes"
        given.problems.add(tree.path, value, cure, fatal=False)
        return [BACKGROUND, *class_names(VOC_CLASSES)]
    model = tree.path.parent / "model" / "config.json"  # of a run whose predictions these are
    if tree.path.is_dir() and model.is_file():
        names = fields(Tree(model).json(model.name)).get("classes")
        if (found := entries(names)) and all(isinstance(name, str) for name in found):
            return found
    raise file_error(tree.path, "does not say what its classes are called", "Give a file of class names to --classes")


def _recognises(tree: Tree) -> bool:
    return bool(_label_files(tree))


def _read(tree: Tree, given: Given) -> Annotations:
    coloured = colour_map(tree)
    ids: Mapping[int, str]
    if coloured:
        ids, colours = dict(enumerate(coloured)), tuple(coloured.values())
    else:
        ids, colours = dict(enumerate(class_names_of(tree, given))), ()
    splits = _splits(tree)
    images = []
    for name in _label_files(tree):
        size, shapes = label_map_shapes(partial(read_ids, tree, name, colours), ids, tree.where(name))
        key = image_id(name)
        images.append(Annotated(key, size, shapes, split=splits.get(key, "train"), where=tree.where(name)))
    saw = "CVAT's segmentation masks" if coloured else "label maps"
    return Annotations(
        tree.path,
        f"{saw}, {counted(len(images), 'image')}",
        images,
        tuple(ids.values()),
        splits="val" in splits.values(),
    )


def _splits(tree: Tree) -> dict[str, str]:
    """The split of each image by the lists of a devkit."""
    found: dict[str, str] = {}
    for split in ("val", "test"):
        for name in tree.names:
            if name.endswith(f"ImageSets/Segmentation/{split}.txt"):
                found |= dict.fromkeys((line.strip() for line in tree.text(name).splitlines()), split)
    return found


def _write_masks(items: Iterable[Item], target: Target) -> list[str]:
    """A folder of indexed PNG files and classes.txt."""
    write_text(target.path / "classes.txt", "\n".join([BACKGROUND, *target.classes]) + "\n")
    tagged = 0
    for item in items:
        if item.drawn is None:
            tagged += bool(item.tags)
            continue
        save_indexed(target.path / safe_path(item.name).with_suffix(".png"), item.drawn.label_map(target.class_ids))
    return [f"the tags of {tagged} images without a mask"] if tagged else []


def save_indexed(path: Path, label_map: np.ndarray, colours: np.ndarray = COLOURS) -> None:
    """Writes a (H, W) uint8 label map as indexed PNG. The file is whole or not there."""
    with atomic(path) as temporary:
        indexed(label_map, colours).save(temporary, format="PNG")


def _write_cvat(items: Iterable[Item], target: Target) -> list[str]:
    """The archive "Segmentation mask 1.1"."""
    colours = VOC_COLOURS
    partly = tagged = 0
    names = []
    with atomic(target.path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for item in items:
            if item.drawn is None:
                tagged += bool(item.tags)
                continue
            label_map = item.drawn.label_map(target.class_ids)
            partly += bool((label_map == IGNORE).any())
            stream = io.BytesIO()
            Image.fromarray(colours[label_map]).save(stream, format="PNG")
            path = safe_path(item.name).with_suffix("")
            names.append(str(path))
            archive.writestr(f"SegmentationClass/{path}.png", stream.getvalue())
        archive.writestr("labelmap.txt", label_map_text(target.classes, unlabelled=bool(partly)))
        archive.writestr("ImageSets/Segmentation/default.txt", "\n".join(names) + "\n")
    lost = ["objects of one class in an image are one mask"]
    if partly:
        lost.append(
            f"{partly} images are unlabelled in part: CVAT cannot say this, so these pixels are the label "
            f"`{UNLABELLED}`, which your task in CVAT needs"
        )
    if tagged:
        lost.append(f"the tags of {tagged} images without a mask")
    return lost


def label_map_text(classes: Iterable[str], unlabelled: bool = False) -> str:
    """The content of labelmap.txt: the colour of each class, background first."""
    colours = VOC_COLOURS
    lines = ["# label:color_rgb:parts:actions"]
    lines += [_line(name, colours[i]) for i, name in enumerate([BACKGROUND, *classes])]
    if unlabelled:
        lines.append(_line(UNLABELLED, colours[IGNORE]))
    return "\n".join(lines) + "\n"


def _line(name: str, colour: np.ndarray) -> str:
    return f"{name}:{','.join(map(str, colour.tolist()))}::"


MASKS = LabelFormat("masks", "a folder of label maps as PNG", _recognises, _read, _write_masks)
CVAT_MASKS = LabelFormat("cvat-masks", 'CVAT\'s "Segmentation mask 1.1"', lambda tree: False, None, _write_cvat, ".zip")
