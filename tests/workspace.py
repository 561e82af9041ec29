"""A folder that holds every file which README and docs name, small enough that their commands run in seconds."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.io import savemat

from cian.data.masks import write_mask
from cian.data.table import IGNORE
from cian.formats.class_names import class_names
from cian.formats.devkits import COCO_CLASSES, VOC_CLASSES
from tests.helpers import write_onnx

ROOT = Path(__file__).parents[1]
SIZE = (40, 56)  # height, width
COLOURS = {"fox": (220, 60, 30), "rabbit": (60, 60, 220)}
IDS = tuple(f"IMG_{number:04}" for number in range(1, 13))


def tags_of(image_id: str) -> tuple[str, ...]:
    """IMG_0001 shows a fox, IMG_0002 a fox and a rabbit, IMG_0003 a rabbit, and so on."""
    return (("rabbit",), ("fox",), ("fox", "rabbit"))[int(image_id[-4:]) % 3]


def make_workspace(root: Path) -> None:
    """Writes the files. `configs` and `benchmarks` are those of the repository."""
    for name in ("configs", "benchmarks"):
        (root / name).symlink_to(ROOT / name, target_is_directory=True)
    for number, image_id in enumerate(IDS):
        image, mask = draw(tags_of(image_id), number)
        save(root / "photos" / f"{image_id}.jpg", image)
        write_mask(root / "masks" / f"{image_id}.png", mask)
        if number < 6:  # whole label maps, and strokes of 4 px
            stroke = np.where(np.arange(SIZE[0])[:, None] % 16 < 4, mask, IGNORE).astype(np.uint8)
            write_mask(root / "labels" / f"{image_id}.png", mask if number % 2 else stroke)
    for number, name in enumerate(("photo", "other")):
        image, mask = draw(("fox", "rabbit"), 100 + number)
        save(root / "new-photos" / f"{name}.jpg", image)
        write_mask(root / "new-true-masks" / f"{name}.png", mask)
    save(root / "photo.jpg", draw(("fox",), 200)[0])
    (root / "classes.txt").write_text("background\nfox\nrabbit\n", encoding="utf-8")
    _write_tags(root)
    write_onnx(root / "u2netp.onnx", "ReduceMean", axis=1)  # the grey value of an image, as if it were its saliency
    _write_voc(root / "VOCdevkit" / "VOC2012", root / "benchmark_RELEASE" / "dataset")
    _write_coco(root / "COCO")


def draw(tags: Sequence[str], number: int) -> tuple[np.ndarray, np.ndarray]:
    """(H, W, 3) uint8: a coloured square for each tag on grey noise; and its mask (H, W) uint8."""
    rng = np.random.default_rng(number)
    image = rng.integers(90, 160, (*SIZE, 3), dtype=np.uint8)
    mask = np.zeros(SIZE, np.uint8)
    for place, tag in enumerate(tags):
        y, x = rng.integers(0, SIZE[0] - 18), 28 * place + rng.integers(0, 8)
        mask[y : y + 18, x : x + 18] = 1 + list(COLOURS).index(tag)
        image[y : y + 18, x : x + 18] = COLOURS[tag]
    return image, mask


def save(file: Path, image: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(file)


def _write_tags(root: Path) -> None:
    rows = [(f"{image_id}.jpg", ";".join(tags_of(image_id))) for image_id in IDS]
    held_out = IDS[8:]
    _write_csv(root / "tags.csv", [("image", "tags"), *rows])
    _write_csv(root / "tags-with-empty.csv", [("image", "tags"), *rows[:-1], (rows[-1][0], "")])
    split = [(*row, "val" if Path(row[0]).stem in held_out else "train") for row in rows]
    _write_csv(root / "tags-with-split.csv", [("image", "tags", "split"), *split])
    (root / "train.txt").write_text("".join(f"{name}\n" for name in IDS if name not in held_out), encoding="utf-8")
    (root / "val.txt").write_text("".join(f"{name}\n" for name in held_out), encoding="utf-8")
    (root / "tags.json").write_text(json.dumps({f"{name}.jpg": tags_of(name) for name in IDS}), encoding="utf-8")
    annotations = [(f"{name}.jpg", tags_of(name)) for name in IDS]
    for name in ("coco.json", "corrected.json"):
        (root / name).write_text(json.dumps(coco(annotations, tuple(COLOURS))), encoding="utf-8")
    for name in IDS:
        write_xml(root / "annotations" / f"{name}.xml", tags_of(name))
        if len(tags_of(name)) == 1:
            target = root / "by-class" / tags_of(name)[0] / f"{name}.jpg"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((root / "photos" / f"{name}.jpg").read_bytes())


def _write_csv(file: Path, rows: Iterable[Sequence[str]]) -> None:
    with file.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows(rows)


def write_xml(file: Path, tags: Iterable[str]) -> None:
    """An annotation of PASCAL VOC."""
    file.parent.mkdir(parents=True, exist_ok=True)
    objects = "".join(f"<object><name>{tag}</name><difficult>0</difficult></object>" for tag in tags)
    file.write_text(f"<annotation>{objects}</annotation>", encoding="utf-8")


def coco(images: Sequence[tuple[str, Sequence[str]]], categories: Sequence[str]) -> dict[str, Any]:
    """COCO's JSON of images (file name, categories), with a square of 8 px for each category."""
    height, width = SIZE
    return {
        "images": [
            {"id": i, "file_name": name, "height": height, "width": width} for i, (name, _) in enumerate(images)
        ],
        "categories": [{"id": i, "name": name} for i, name in enumerate(categories)],
        "annotations": [
            {"image_id": i, "category_id": categories.index(tag), "segmentation": [[8, 8, 16, 8, 16, 16, 8, 16]]}
            for i, (_, tags) in enumerate(images)
            for tag in tags
        ],
    }


def _write_voc(voc: Path, sbd: Path) -> None:
    """A devkit whose images all show all classes: each class has enough of them."""
    names = class_names(VOC_CLASSES)
    mask = np.zeros(SIZE, np.uint8)
    mask[10:30, 8:48] = np.arange(1, 21).repeat(2)  # a stripe for each class
    lists = {"train": "abcd", "val": "ij", "test": "kl"}
    for name in "".join(lists.values()):
        save(voc / "JPEGImages" / f"{name}.jpg", draw((), ord(name))[0])
        if name not in lists["test"]:
            write_xml(voc / "Annotations" / f"{name}.xml", names)
            write_mask(voc / "SegmentationClass" / f"{name}.png", mask)
    (voc / "ImageSets" / "Segmentation").mkdir(parents=True)
    for split, members in lists.items():
        text = "".join(f"{name}\n" for name in members)
        (voc / "ImageSets" / "Segmentation" / f"{split}.txt").write_text(text, encoding="utf-8")
    (sbd / "cls").mkdir(parents=True)
    for name in "abcd":
        savemat(sbd / "cls" / f"{name}.mat", {"GTcls": {"Segmentation": mask, "Boundaries": np.zeros(3)}})
    (sbd / "train.txt").write_text("a\nb\nc\nd\n", encoding="utf-8")
    (sbd / "val.txt").write_text("", encoding="utf-8")


def _write_coco(folder: Path) -> None:
    """COCO 2014, all images with all categories."""
    names = class_names(COCO_CLASSES)
    (folder / "annotations").mkdir(parents=True)
    for split, members in (("train2014", "abcd"), ("val2014", "ij")):
        for name in members:
            save(folder / split / f"{name}.jpg", draw((), ord(name))[0])
        content = coco([(f"{name}.jpg", names) for name in members], names)
        (folder / "annotations" / f"instances_{split}.json").write_text(json.dumps(content), encoding="utf-8")
