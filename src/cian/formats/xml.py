"""XML files of annotation programs, and what a single XML file is, for messages."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from cian.data.problems import FileError, file_error, quoted, reason
from cian.formats.format import Format, Request, TagSource
from cian.formats.text import decode_xml

VOC_CURE = "Export it again as PASCAL VOC XML, or remove it"


def parse_xml(path: Path, cure: str = VOC_CURE) -> ElementTree.Element:
    """The root of an XML file.

    Raises:
        FileError: the file cannot be read, or it is not XML.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise file_error(path, f"cannot be read ({reason(error)})", "Give a readable file") from None
    return decode_xml(content, str(path), cure)


def tag_name(element: ElementTree.Element) -> str:
    """The name of an element without its namespace, in lower case."""
    return element.tag.rpartition("}")[2].casefold()


def _recognises(request: Request) -> bool:
    return not request.images_alone and request.path.suffix.lower() == ".xml" and not request.path.is_dir()


def _refuse(request: Request) -> TagSource:
    """
    Raises:
        FileError: always. It says what the file is.
    """
    path = request.path
    root = parse_xml(path, "Give a folder of PASCAL VOC XML, a CSV or a JSON file")
    if tag_name(root) == "annotation":
        value = "is PASCAL VOC XML, which describes one image"
        raise file_error(path, value, f"Give the folder of all these files: {path.parent}")
    raise other_xml(path, root)


def other_xml(path: Path, root: ElementTree.Element) -> FileError:
    """The error that an XML file is not PASCAL VOC's."""
    if tag_name(root) == "annotations" and root.find("image") is not None:
        return file_error(path, "is CVAT's own XML, in a folder of other files", "Give this file itself")
    value = f"is XML of a kind that is not read (its root is {quoted(root.tag)})"
    return file_error(path, value, "Export the annotations as PASCAL VOC XML or COCO JSON, or remove the file")


FORMAT = Format("", _recognises, _refuse)
