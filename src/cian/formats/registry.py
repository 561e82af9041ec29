"""The entry point to all formats of tags: recognises the format of a file or a folder, and reads it.

To add a format, write one file (see `format.py`) and add one line to `FORMATS`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cian.config import DataConfig
from cian.data.problems import ProblemList, file_error
from cian.formats import (
    binary_masks,
    class_folders,
    coco,
    coco_labels,
    csv,
    cvat,
    imagefolder,
    json,
    label_maps,
    label_studio,
    labelme,
    parquet,
    tag_folders,
    via,
    voc,
    voc_devkit,
    vott,
    xml,
    yolo,
)
from cian.formats.annotations import Annotations, Given, LabelFormat
from cian.formats.file_index import FileIndex
from cian.formats.format import Format, Request, TagSource
from cian.formats.label_tags import tags_of, tags_of_archives
from cian.formats.tree import Tree

# Formats of shapes and label maps. The first that recognises a file, a folder or an archive reads it.
LABEL_FORMATS: tuple[LabelFormat, ...] = (
    coco_labels.FORMAT,
    label_studio.FORMAT,
    cvat.FORMAT,
    via.FORMAT,
    vott.FORMAT,
    labelme.FORMAT,
    yolo.FORMAT,
    imagefolder.FORMAT,
    parquet.FORMAT,
    binary_masks.FORMAT,
    label_maps.MASKS,
    label_maps.CVAT_MASKS,
    voc_devkit.FORMAT,
)

# The first that recognises a request reads it.
FORMATS: tuple[Format, ...] = (
    class_folders.FORMAT,
    tags_of_archives(LABEL_FORMATS),
    coco.FORMAT,
    tags_of(cvat.FORMAT),
    tags_of(labelme.FORMAT),
    tags_of(yolo.FORMAT),
    tags_of(imagefolder.FORMAT),
    tags_of(parquet.FORMAT),
    tags_of(via.FORMAT),
    tags_of(vott.FORMAT),
    voc.FORMAT,
    xml.FORMAT,
    tag_folders.FORMAT,
    json.FORMAT,
    csv.FORMAT,
)


def open_labels(path: Path, given: Given) -> Annotations | None:
    """What a file, a folder or an archive says of images; None if no format of labels recognises it.

    Raises:
        FileError: it cannot be read.
    """
    tree = Tree(path)
    form = next((form for form in LABEL_FORMATS if form.recognises(tree)), None)
    return None if form is None or form.read is None else form.read(tree, given)


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
