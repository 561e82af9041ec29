"""Files that `cian convert` writes, read by the owners' own programs: every pixel has to be the same.

Usage: python benchmarks/oracles.py FOLDER

FOLDER keeps an environment for each program, made at the first call (some GB): pycocotools (COCO, and the polygons of
YOLO and LabelMe), datumaro (CVAT's files), label-studio-sdk, datasets (Hugging Face, also Parquet). None of them is a
dependency of cian. The first line that differs is printed, and the exit code is 1.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from cian.data.masks import read_mask, write_mask
from cian.data.table import IGNORE
from cian.formats.convert import convert

CLASSES = ["cat", "dog", "night owl"]
SIZE = (60, 81)  # height, width

# Each program gets `root`, and `truth(name)`: (H, W) uint8. `same(mask, name, label)` compares a mask with it.
COMMON = """
import sys
from pathlib import Path
import numpy as np
from PIL import Image

root = Path(sys.argv[1])
NAMES = ["background", "cat", "dog", "night owl"]
compared = 0


def truth(name):
    return np.array(Image.open(root / "masks" / f"{name}.png"))


def same(mask, name, label):
    global compared
    compared += 1
    value = 255 if label == "unlabelled" else NAMES.index(label)
    assert np.array_equal(np.asarray(mask).astype(bool), truth(name) == value), (name, label)
"""
PROGRAMS = {
    "pycocotools": (
        ["pycocotools", "pillow"],
        """
import json
from pycocotools import mask as masks
from pycocotools.coco import COCO

for file in ("lengths.json", "polygons.json"):
    coco = COCO(str(root / file))
    for each in coco.loadAnns(coco.getAnnIds()):
        name = coco.imgs[each["image_id"]]["file_name"].removesuffix(".jpg")
        same(coco.annToMask(each), name, coco.cats[each["category_id"]]["name"])
        lengths = coco.annToRLE(each)
        assert masks.area(lengths) == each["area"] and masks.toBbox(lengths).tolist() == each["bbox"], each["id"]


def all_same(polygons, name, height, width):  # polygons of YOLO and LabelMe, drawn by pycocotools
    for label in set(label for label, _ in polygons):
        parts = [points for other, points in polygons if other == label]
        same(masks.decode(masks.merge(masks.frPyObjects(parts, height, width))), name, label)


for file in (root / "labelme").rglob("*.json"):
    content = json.loads(file.read_text())
    found = [(each["label"], np.ravel(each["points"]).tolist()) for each in content["shapes"]]
    name = file.relative_to(root / "labelme").with_suffix("").as_posix()
    all_same(found, name, content["imageHeight"], content["imageWidth"])
labels = root / "yolo" / "labels" / "train"
for file in labels.rglob("*.txt"):
    name = file.relative_to(labels).with_suffix("").as_posix()
    height, width = truth(name).shape
    rows = [line.split() for line in file.read_text().splitlines()]
    names = [*NAMES[1:], "background"]
    found = [(names[int(row[0])], (np.array(row[1:], float).reshape(-1, 2) * (width, height)).ravel()) for row in rows]
    all_same([(label, points.tolist()) for label, points in found], name, height, width)
""",
    ),
    "datumaro": (
        ["datumaro"],
        """
from datumaro import AnnotationType, Dataset

for folder, kind in (("cvat", "cvat"), ("cvat-masks", "voc_segmentation")):
    data = Dataset.import_from(str(root / folder), kind)
    labels = data.categories()[AnnotationType.label]
    for item in data:
        for each in item.annotations:
            label = labels[each.label].name
            if each.type == AnnotationType.mask and label in (*NAMES, "unlabelled"):
                same(each.image, item.id, label)
""",
    ),
    "label_studio": (
        ["label-studio-sdk", "pillow"],
        """
import base64, io, json
from urllib.parse import unquote
from label_studio_sdk.converter import brush
from label_studio_sdk.label_interface import LabelInterface

interface = LabelInterface((root / "tasks.xml").read_text())
interface.validate()
for task in json.loads((root / "tasks.json").read_text()):
    name = unquote(task["data"]["image"]).removesuffix(".jpg")
    for prediction in task["predictions"]:
        assert not interface.validate_prediction(prediction, return_errors=True)
        for each in prediction["result"]:
            content = base64.b64decode(each["value"]["imageDataURL"].partition(",")[2])
            alpha = np.array(Image.open(io.BytesIO(content)).convert("RGBA"))[..., 3]
            same(alpha, name, each["value"]["bitmasklabels"][0])
            packed = brush.mask2rle(alpha)
            (root / "brushes").mkdir(exist_ok=True)
            np.savez(root / "brushes" / f"{compared}.npz", packed=packed, mask=alpha > 0)
""",
    ),
    "datasets": (
        ["datasets", "pillow"],
        """
from datasets import load_dataset
from datasets.table import embed_table_storage

data = load_dataset("imagefolder", data_dir=str(root / "imagefolder"), cache_dir=str(root / "cache"))["train"]
for row in data:
    values = np.array(row["mask"])
    files = list((root / "masks").rglob("*.png"))
    matches = [path for path in files if np.array_equal(np.array(Image.open(path)), values)]
    assert matches, "a mask that is not one of the label maps"
    assert row["image"].size == row["mask"].size
    compared += 1
assert compared == len(list((root / "masks").rglob("*.png")))
embedded = data.with_format("arrow").map(embed_table_storage, batched=True).with_format(None)
embedded.to_parquet(str(root / "masks.parquet"))
""",
    ),
}


def label_maps() -> dict[str, np.ndarray]:
    """What formats find hard: rings, lines of one pixel, objects in holes, strokes, noise."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    away = np.hypot(y - 29, x - 38)
    ring = np.where(away < 8, 2, np.where((away < 22) & (away > 14), 1, 0))
    lines = np.where(y % 7 == 2, 3, np.where(x == SIZE[1] - 1, 1, 0))
    strokes = np.full(SIZE, IGNORE)
    strokes[3:6, 4:60], strokes[40:44, 20:22], strokes[18, :] = 0, 2, 1
    noise = np.random.default_rng(0).integers(0, 4, SIZE)
    maps = {"ring": ring, "sub/lines": lines, "strokes": strokes, "noise": noise, "all": np.full(SIZE, 3)}
    return {name: values.astype(np.uint8) for name, values in maps.items()}


def write_data(root: Path) -> None:
    """The label maps, and what `convert` makes of them."""
    shutil.rmtree(root, ignore_errors=True)
    for name, values in label_maps().items():
        write_mask(root / "masks" / f"{name}.png", values)
        photo = root / "photos" / f"{name}.jpg"
        photo.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(photo)
    (root / "masks" / "classes.txt").write_text("".join(f"{name}\n" for name in CLASSES))
    for to, out in {
        "coco": "lengths.json",
        "label-studio": "tasks.json",
        "cvat": "cvat/annotations.xml",
        "cvat-masks": "masks.zip",
        "imagefolder": "imagefolder",
        "labelme": "labelme",
        "yolo": "yolo",
    }.items():
        convert(root / "masks", to, root / out, root / "photos")
    convert(root / "masks", "coco", root / "polygons.json", root / "photos", polygons=True)
    shutil.copytree(root / "photos", root / "cvat" / "images")  # datumaro wants to see the images
    with zipfile.ZipFile(root / "masks.zip") as archive:
        archive.extractall(root / "cvat-masks")


def check(name: str, folder: Path) -> str:
    """Runs one program; what it says is empty if all is the same."""
    packages, script = PROGRAMS[name]
    home = folder / name
    python = home / "bin" / "python"
    if not (home / "ready").exists():
        venv.create(home, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *packages], check=True, stderr=subprocess.DEVNULL)
        (home / "ready").touch()
    code = COMMON + script + "\nprint(compared)\n"
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": ""}
    done = subprocess.run(
        [python, "-c", code, str(folder / "data")], capture_output=True, text=True, env=environment, check=False
    )
    if done.returncode == 0:
        print(f"{name}: {done.stdout.split()[-1]} masks are the same")
        return ""
    return f"{name}: {done.stderr.strip().splitlines()[-1]}"


def check_brushes(root: Path) -> str:
    """Reads the brushes that Label Studio's own packer made."""
    from cian.formats.run_lengths import brush

    files = sorted((root / "brushes").glob("*.npz"))
    for file in files:
        stored = np.load(file)
        if not np.array_equal(brush(stored["packed"].tolist(), *stored["mask"].shape), stored["mask"]):
            return f"{file.name}: a brush of Label Studio is read differently"
    print(f"label_studio: {len(files)} brushes are the same")
    return ""


def check_parquet(root: Path) -> str:
    """Reads the Parquet file that `datasets` wrote."""
    out = root / "from-parquet"
    convert(root / "masks.parquet", "masks", out, None, root / "masks" / "classes.txt")
    found = [read_mask(file) for file in out.rglob("*.png")]
    for name, values in label_maps().items():
        if not any(np.array_equal(values, mask) for mask in found):
            return f"masks.parquet: {name} is read differently"
    print(f"datasets: {len(found)} masks of its Parquet file are the same")
    return ""


def main() -> None:
    folder = Path(sys.argv[1])
    write_data(folder / "data")
    failed = [said for name in PROGRAMS if (said := check(name, folder))]
    failed += [said for said in [check_brushes(folder / "data"), check_parquet(folder / "data")] if said]
    print("\n".join(failed))
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
