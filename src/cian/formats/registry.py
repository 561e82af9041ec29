"""The entry point to all formats of tags: recognises the format of a file or a folder, and reads it.

To add a format, write one file (see `format.py`) and add one line to `FORMATS`.
"""

from __future__ import annotations

from collections.abc import Sequence

from cian.config import DataConfig
from cian.data.problems import ProblemList, file_error
from cian.formats import class_folders, coco, csv, json, voc, xml
from cian.formats.file_index import FileIndex
from cian.formats.format import Format, Request, TagSource

# The first that recognises a request reads it.
FORMATS: tuple[Format, ...] = (
    class_folders.FORMAT,
    coco.FORMAT,
    voc.FORMAT,
    xml.FORMAT,
    json.FORMAT,
    csv.FORMAT,
)


def open_tags(
    config: DataConfig, images: FileIndex, listed: Sequence[str | None] | None, problems: ProblemList
) -> TagSource:
    """The rows of tags that `data.tags` or, without it, the folders of `data.images` hold.

    Args:
        images: all images of `config.images`.
        listed: the split of each image, if list files say it.

    Raises:
        FileError: no format recognises what is given, or it cannot be read.
    """
    path = config.tags or config.images
    assert path is not None  # `images` has been read from it
    if not path.exists():
        raise file_error(path, "no such file or folder", "Give one that exists")
    request = Request(path, config.tags is None, images, listed, config, problems)
    for form in FORMATS:
        if form.recognises(request):
            return form.read(request)
    known = "; ".join(form.description for form in reversed(FORMATS) if form.description)
    raise file_error(path, "holds no tags in a format that cian reads", f"Give one of these: {known}")
