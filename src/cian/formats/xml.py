"""XML files of annotation programs, in the encoding that they declare; and what a single XML file is, for messages.

Python's parser knows no encodings of several bytes, such as those of Chinese and Japanese Windows, so the text is
decoded here. Programs also declare UTF-8 and write paths in another encoding: what cannot be decoded becomes U+FFFD,
which no class name may hold.
"""

from __future__ import annotations

import codecs
import re
from pathlib import Path
from xml.etree import ElementTree

from cian.data.problems import FileError, file_error, quoted, reason
from cian.formats.format import Format, Request, TagSource

VOC_CURE = "Export it again as PASCAL VOC XML, or remove it"
_DECLARED = re.compile(rb"""<\?xml[^>]*?\bencoding\s*=\s*["']([A-Za-z0-9._:-]+)["']""")
_DECLARATION = re.compile(r"\s*<\?xml[^>]*\?>")
_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))


def parse_xml(path: Path, cure: str = VOC_CURE) -> ElementTree.Element:
    """The root of an XML file.

    Raises:
        FileError: the file cannot be read, or it is not XML.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise file_error(path, f"cannot be read ({reason(error)})", "Give a readable file") from None
    try:
        return ElementTree.fromstring(_DECLARATION.sub("", _decoded(content), count=1).strip())
    except (ElementTree.ParseError, ValueError, LookupError) as error:  # LookupError: an unknown encoding
        raise file_error(path, f"is not XML ({reason(error)})", cure) from None


def _decoded(content: bytes) -> str:
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            return content[len(mark) :].decode(encoding, "replace")
    declared = _DECLARED.match(content.lstrip())
    return content.decode(declared[1].decode() if declared else "utf-8", "replace")


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
        return file_error(path, "is CVAT's own XML", "Export the task again as PASCAL VOC 1.1 or COCO 1.0")
    value = f"is XML of a kind that is not read (its root is {quoted(root.tag)})"
    return file_error(path, value, "Export the annotations as PASCAL VOC XML or COCO JSON, or remove the file")


FORMAT = Format("", _recognises, _refuse)
