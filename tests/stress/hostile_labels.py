"""Hostile exports of labelling tools, also as archives, for `cian convert`."""

from __future__ import annotations

import io
import json
import random
import shutil
import zipfile
from functools import cache, partial
from pathlib import Path

import numpy as np

from cian.data.masks import write_mask
from cian.formats.convert import convert
from tests.stress.hostile import IMAGES, Input, small_images, trials
from tests.stress.mutations import mutated, spoiled
from tests.stress.stand import Stand, Trials

# What each format writes to.
FORMATS = {
    "coco": "labels.json",
    "label-studio": "labels.json",
    "cvat": "labels.xml",
    "cvat-masks": "labels.zip",
    "yolo": "labels",
    "labelme": "labels",
}
ODD_NAMES = ("../../x.png", "/tmp/x.png", "a\\..\\..\\x.png", "x\n.png", ".cian-tmp-x.png", "n" * 300 + ".png")


@cache
def _sound(stand: Stand) -> Path:
    """images/, and a folder for each format with the same labels of them."""
    root = stand.work / "labelled"
    small_images(root / "images")
    y, x = np.mgrid[:32, :40]
    mask = np.where(np.hypot(y - 14, x - 18) < 9, np.where(x > 18, 1, 2), 0).astype(np.uint8)
    for name in IMAGES:
        write_mask(root / "masks" / name, mask)
    (root / "masks" / "classes.txt").write_text("background\nfox\nrabbit\n")
    for form, name in FORMATS.items():
        (root / form).mkdir()
        convert(root / "masks", form, root / form / name, root / "images")
    return root


def labels(stand: Stand, rng: random.Random, share: float) -> Trials:
    """Exports of Label Studio, CVAT, YOLO, LabelMe and COCO, in files, folders and archives."""
    root = _sound(stand)

    def one(rng: random.Random) -> Input:
        form = rng.choice(list(FORMATS))
        what = rng.choice(["mutated", "spoiled", "mutated archive"])
        return f"{form}, {what}", partial(_spoil, root, form, what, rng.random())

    crafted = [(f"an archive with {what}", partial(_archive, root, what)) for what in ARCHIVES]
    yield from trials(stand, rng, share, crafted, one, 100)


def _spoil(root: Path, form: str, what: str, seed: float, folder: Path) -> list[str]:
    rng, name = random.Random(seed), FORMATS[form]
    shutil.copytree(root / "images", folder / "images")
    shutil.copytree(root / form, folder, dirs_exist_ok=True)
    source = folder / name
    files = sorted(path for path in (source.rglob("*") if source.is_dir() else [source]) if path.is_file())
    file = rng.choice([path for path in files if path.suffix not in (".png", ".jpg")] or files)
    if what == "spoiled" and file.suffix == ".json":
        file.write_text(json.dumps(spoiled(json.loads(file.read_text()), rng)[0]))
    elif what == "mutated":
        file.write_bytes(mutated(file.read_bytes(), rng))
    elif file.suffix != ".zip":
        source = Path(shutil.make_archive(str(folder / "labels"), "zip", root / form))
    if source.suffix == ".zip" and what != "mutated":
        source.write_bytes(mutated(source.read_bytes(), rng))
    to, out = rng.choice([("masks", "out"), ("coco", "out/labels.json")])
    return ["convert", source.name, "--to", to, "--out", out, "--images", "images"]


def _zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


@cache
def _archives() -> dict[str, bytes]:
    annotation = b'{"images": [{"id": 1, "file_name": "p0.png", "height": 32, "width": 40}], "categories": [],'
    annotation += b' "annotations": []}'
    nested = _zipped({"labels.json": annotation})
    return {
        "nothing": _zipped({}),
        "300 MB of zeros": _zipped({"labels.json": bytes(300 << 20)}),
        "100,000 files": _zipped({f"{i}.txt": b"" for i in range(100_000)}),
        "an archive in it": _zipped({"labels.zip": nested}),
        "a mask of 300 MB": _zipped({"labelmap.txt": b"fox:1,2,3::\n", "SegmentationClass/p0.png": bytes(300 << 20)}),
        **{f"the name {name[:20]!r}": _zipped({name: annotation, "labels.json": annotation}) for name in ODD_NAMES},
    }


ARCHIVES = ("nothing", "300 MB of zeros", "100,000 files", "an archive in it", "a mask of 300 MB")
ARCHIVES += tuple(f"the name {name[:20]!r}" for name in ODD_NAMES)


def _archive(root: Path, what: str, folder: Path) -> list[str]:
    shutil.copytree(root / "images", folder / "images")
    (folder / "labels.zip").write_bytes(_archives()[what])
    return ["convert", "labels.zip", "--to", "coco", "--out", "out/labels.json", "--images", "images"]
