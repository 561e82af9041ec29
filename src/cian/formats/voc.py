"""PASCAL VOC's annotations, as annotation tools (labelImg) write them too: an XML file with the objects of an image."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from cian.data.problems import file_error, quoted, reason
from cian.formats.text import clean


def object_tags(path: Path, difficult: bool) -> tuple[str, ...]:
    """The classes of the objects of an image.

    Args:
        difficult: count objects that are marked difficult, too. An image with no others keeps them in any case: without
            them it would have no tag.

    Raises:
        CianError: the file cannot be read, or is of another kind.
    """
    cure = "Export it again as PASCAL VOC XML, or remove it"
    try:
        root = ElementTree.parse(path).getroot()
    except OSError as error:
        raise file_error(path, f"cannot be read ({reason(error)})", "Give a readable file") from None
    except (ElementTree.ParseError, ValueError, LookupError) as error:  # the latter: unknown encodings
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
