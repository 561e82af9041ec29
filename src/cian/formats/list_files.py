"""List files: one image on each line. A data set has one for each split, say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from cian.data.problems import ProblemList, quoted
from cian.formats.devkits import Lists
from cian.formats.file_index import MISSING, FileIndex, find_image
from cian.formats.text import read_lines


def read_lists(lists: Mapping[str, Lists], images: FileIndex, problems: ProblemList) -> list[str | None]:
    """The split of each image by list files; None for images in no list."""
    splits: list[str | None] = [None] * len(images)
    for split, files in lists.items():
        left_out = {row for file in files.without for _, _, row in _listed(file, images, ProblemList())}
        for file in files.files:
            for where, name, row in _listed(file, images, problems):
                other = splits[row]
                if row in left_out:
                    continue
                if other not in (None, split):
                    problems.add(where, f"{quoted(name)} is also in split {other}", "Keep it in one split")
                else:
                    splits[row] = split
    return splits


def _listed(path: Path, images: FileIndex, problems: ProblemList) -> Iterator[tuple[str, str, int]]:
    """(where, the line, row of the image) of each line of a list file.

    The whole line names an image, or its first column does, which may start with a slash. The lists of PASCAL VOC's
    users have two columns: `/JPEGImages/ID.jpg /SegmentationClassAug/ID.png`.
    """
    with problems.collecting():
        for number, line in enumerate(read_lines(path), start=1):
            name = line.strip()
            if not name:
                continue
            where = f"{path}, line {number}"
            first = name.split()[0]
            keys = (name, first, first.lstrip("/"))
            found = [key for key in keys if images.find(key) != MISSING]
            key = min(found, key=images.is_guess, default=name)
            row = find_image(key, images, where, problems)
            if row is not None:
                yield where, name, row
