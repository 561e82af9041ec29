"""Small devkits of COCO and PASCAL VOC, as these come, and the annotations in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.io import savemat

from cian.config import DataConfig
from cian.data.masks import write_mask
from cian.data.palette import VOC_COLOURS
from cian.data.table import IGNORE
from cian.formats.class_names import class_names
from cian.formats.devkits import COCO_CLASSES, VOC_CLASSES
from tests.formats.helpers import write

NAMES = class_names(VOC_CLASSES)
VOC_SIZE = (40, 48)
VOC_TRAIN, SBD_TRAIN, SBD_VAL, VOC_VAL, TEST = "ab", "acde", "fgh", "hij", "kl"  # one letter per image
CATEGORIES = [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}, {"id": 9, "name": "yak"}]


SIZE = (6, 8)  # height, width


def square(x: float, y: float, side: float) -> list[list[float]]:
    return [[x, y, x + side, y, x + side, y + side, x, y + side]]


def instance(image: Any, category: Any, segmentation: Any = None, **more: Any) -> dict[str, Any]:
    shape = {} if segmentation is None else {"segmentation": segmentation}
    return {"image_id": image, "category_id": category, **shape, **more}


def coco(
    names: dict[Any, str], instances: list[Any], categories: list[Any] | None = None, size: tuple[int, int] = SIZE
) -> dict[str, Any]:
    height, width = size
    return {
        "info": {},
        "images": [{"id": key, "file_name": name, "height": height, "width": width} for key, name in names.items()],
        "annotations": instances,
        "categories": CATEGORIES if categories is None else categories,
    }


def coco_devkit(root: Path, year: str = "2014", size: tuple[int, int] = SIZE) -> DataConfig:
    """COCO's folder: three training images (one without an instance) and two of val. Category ids have gaps."""
    names = class_names(COCO_CLASSES)
    ids = [i for i in range(1, 91) if i not in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)]
    categories = [{"id": key, "name": name} for key, name in zip(ids, names, strict=True)]
    for split, count in (("train", 3), ("val", 2)):
        files = {i: f"COCO_{split}{year}_{i:012}.jpg" for i in range(count)}
        for name in files.values():
            path = root / f"{split}{year}" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", size[::-1]).save(path)
        # in train, the images 0 and 1 show all classes
        used = [instance(i % 2, key, square(1, 1, 3)) for key in ids for i in range(2)]
        rows = used if split == "train" else [instance(0, 90, square(1, 1, 3)), instance(1, 1, square(0, 0, 2))]
        write(root / "annotations" / f"instances_{split}{year}.json", coco(files, rows, categories[::-1], size))
    write(root / "annotations" / f"captions_train{year}.json", {"images": [], "annotations": []})
    return DataConfig(coco=root, untagged="negative")


def shown(name: str) -> list[int]:
    """The five class ids in an image. The training images together show each class twice."""
    return [("abcdefghijkl".index(name) * 5 + k) % 20 + 1 for k in range(5)]


def xml(tags: list[str], difficult: list[str] | tuple[str, ...] = (), filename: str = "wrong.jpg") -> str:
    rows = [(tag, tag in difficult) for tag in tags]
    return f"<annotation><filename>{filename}</filename>" + "".join(
        f"<object><name>{tag}</name><difficult>{int(flag)}</difficult><part><name>head</name></part></object>"
        for tag, flag in rows
    ) + "</annotation>"  # fmt: skip


def truth(name: str) -> np.ndarray:
    """Five stripes, one for each class, each with a void line, on background."""
    mask = np.zeros(VOC_SIZE, np.uint8)
    for k, class_id in enumerate(shown(name)):
        mask[4 + 6 * k : 10 + 6 * k, 6:42] = class_id
        mask[4 + 6 * k, 6:42] = IGNORE
    return mask


def voc_devkit(root: Path) -> DataConfig:
    """VOCdevkit/VOC2012 with ten tagged images and two of test, and SBD's `dataset`."""
    voc, sbd = root / "VOCdevkit" / "VOC2012", root / "benchmark_RELEASE" / "dataset"
    (voc / "JPEGImages").mkdir(parents=True)
    (sbd / "cls").mkdir(parents=True)
    lists = voc / "ImageSets" / "Segmentation"
    for name in "abcdefghijkl":
        colours = VOC_COLOURS[np.where(truth(name) == IGNORE, 0, truth(name))]
        Image.fromarray(colours).save(voc / "JPEGImages" / f"{name}.jpg")
        if name not in TEST:
            write(voc / "Annotations" / f"{name}.xml", xml([NAMES[i - 1] for i in shown(name)]))
        if name in VOC_TRAIN + VOC_VAL:
            write_mask(voc / "SegmentationClass" / f"{name}.png", truth(name))
        if name in SBD_TRAIN + SBD_VAL:
            whole = np.where(truth(name) == IGNORE, 0, truth(name)).astype(np.uint8)
            savemat(sbd / "cls" / f"{name}.mat", {"GTcls": {"Segmentation": whole, "Boundaries": np.zeros(3)}})
    for file, names in ((lists / "train", VOC_TRAIN), (lists / "val", VOC_VAL), (lists / "test", TEST)):
        write(file.with_suffix(".txt"), "".join(f"{name}\n" for name in names))
    write(sbd / "train.txt", "\n".join(SBD_TRAIN))
    write(sbd / "val.txt", "\n".join(SBD_VAL) + "\n")
    return DataConfig(voc=voc, sbd=sbd, min_images=1)
