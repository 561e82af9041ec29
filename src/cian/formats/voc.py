"""PASCAL VOC XML: a file for each image, with the objects in it.

Written by the VOC devkit, labelImg, and the VOC exports of CVAT, Label Studio and Roboflow. Specification: section 10
of the development kit's documentation (VOC 2012). Read are the names of objects and `difficult`; boxes, parts and poses
are not. The name of the XML file says which image it is. Where no image has this name, `<filename>` does, which is what
the image was called when it was annotated.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from xml.etree.ElementTree import Element

from cian.data.problems import file_error, quoted
from cian.formats.file_index import AMBIGUOUS, MISSING, FileIndex, no_image
from cian.formats.format import Format, Request, TagRow, TagSource
from cian.formats.text import clean
from cian.formats.xml import VOC_CURE, other_xml, parse_xml, tag_name


def _recognises(request: Request) -> bool:
    return not request.images_alone and request.path.is_dir() and bool(request.xml_files)


def _read(request: Request) -> TagSource:
    request.refuse_split_column(request.path, "XML")
    files = request.xml_files
    return TagSource(request.path, "PASCAL VOC XML, a file for each image", _rows(request, files), files=files)


def _rows(request: Request, files: Sequence[Path]) -> Iterator[TagRow]:
    images, problems = request.images, request.problems
    owner: dict[int, Path] = {}  # the file of each image
    for number, name in enumerate(FileIndex(request.path, list(files)).ids):
        file = files[number]
        key = name if images.find(name) != MISSING else name.rpartition("/")[2]
        row = images.find(key)
        with problems.collecting():
            root = None
            if row == MISSING and request.listed is None:
                root = _root(file)
                key = clean(_text(root, "filename"))
                row = images.find(key)
            if request.listed is not None and (row < 0 or request.listed[row] is None):
                continue
            if row == AMBIGUOUS:
                problems.add(file, f"several images are called {quoted(name)}", "Move it beside its image")
            elif row == MISSING:
                problems.add(file, *no_image(name, images, "Add its image, or remove the file"))
            elif row in owner:
                problems.add(file, f"belongs to {images.paths[row]}, as {owner[row]} does", "Keep one of them")
            else:
                owner[row] = file
                if images.is_guess(key):
                    images.guesses[key] = row
                tags = _object_tags(file, _root(file) if root is None else root, request.config.difficult)
                yield TagRow(number, images.paths[row], tags)


def _root(path: Path) -> Element:
    """The element `annotation` of a file.

    Raises:
        FileError: the file cannot be read, or is no VOC XML.
    """
    root = parse_xml(path)
    if tag_name(root) != "annotation":
        raise other_xml(path, root)
    return root


def _object_tags(path: Path, root: Element, difficult: bool) -> tuple[str, ...]:
    """The classes of the objects of an image.

    Args:
        difficult: also count objects that are marked difficult. An image in which all objects are difficult keeps them
            in any case, because it would have no tag without them.

    Raises:
        FileError: an object has no name, or one that cannot be read.
    """
    objects = [
        (clean(_text(item, "name")), _is_set(_text(item, "difficult"))) for item in root if tag_name(item) == "object"
    ]
    if not all(name for name, _ in objects):
        raise file_error(path, "an object has no name", VOC_CURE)
    if broken := next((name for name, _ in objects if "\ufffd" in name), None):
        value = f"the name {quoted(broken)} is not in the encoding that the file declares"
        raise file_error(path, value, "Save the file as UTF-8")
    easy = [name for name, is_difficult in objects if difficult or not is_difficult]
    return tuple(dict.fromkeys(easy or [name for name, _ in objects]))


def _text(element: Element, name: str) -> str:
    """The text of a child, in upper or lower case; empty if there is none."""
    return next((child.text or "" for child in element if tag_name(child) == name), "")


def _is_set(text: str) -> bool:
    return text.strip().casefold() not in ("", "0", "false", "unspecified")


FORMAT = Format("a folder of PASCAL VOC XML", _recognises, _read)
