"""PASCAL VOC XML: a file for each image, with the objects in it.

Written by the VOC devkit, labelImg, and the VOC exports of CVAT, Label Studio and Roboflow. Specification: section 10
of the development kit's documentation (VOC 2012). Read are the names of objects and `difficult`; boxes, parts and poses
are not. `<filename>` is not read, because it says what an image was called when it was annotated; the name of the XML
file says which image it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from xml.etree import ElementTree

from cian.data.problems import file_error, quoted, reason
from cian.formats.file_index import AMBIGUOUS, MISSING, FileIndex, no_image
from cian.formats.format import Format, Request, TagRow, TagSource
from cian.formats.text import clean


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
        row = images.find(name)
        if row == MISSING:
            row = images.find(name.rpartition("/")[2])
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
            with problems.collecting():
                yield TagRow(number, images.paths[row], _object_tags(file, request.config.difficult))


def _object_tags(path: Path, difficult: bool) -> tuple[str, ...]:
    """The classes of the objects of an image.

    Args:
        difficult: also count objects that are marked difficult. An image in which all objects are difficult keeps them
            in any case, because it would have no tag without them.

    Raises:
        FileError: the file cannot be read, or is no VOC XML.
    """
    cure = "Export it again as PASCAL VOC XML, or remove it"
    try:
        root = ElementTree.parse(path).getroot()
    except OSError as error:
        raise file_error(path, f"cannot be read ({reason(error)})", "Give a readable file") from None
    except (ElementTree.ParseError, ValueError, LookupError) as error:  # LookupError: an unknown encoding
        raise file_error(path, f"is not XML ({reason(error)})", cure) from None
    if root.tag != "annotation":
        raise file_error(path, f"its root is {quoted(root.tag)}, not 'annotation'", cure)
    objects = [
        (clean(item.findtext("name") or ""), _is_set(item.findtext("difficult"))) for item in root.findall("object")
    ]
    if not all(name for name, _ in objects):
        raise file_error(path, "an object has no name", cure)
    easy = [name for name, is_difficult in objects if difficult or not is_difficult]
    return tuple(dict.fromkeys(easy or [name for name, _ in objects]))


def _is_set(text: str | None) -> bool:
    return (text or "").strip() not in ("", "0")


FORMAT = Format("a folder of PASCAL VOC XML", _recognises, _read)
