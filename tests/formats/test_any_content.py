"""The readers under hypothesis: what is written is read back; any bytes give rows or an error, never a traceback.

The suite tries a few examples, the same each time; `make soak` tries many (`CIAN_EXAMPLES`).
"""

from __future__ import annotations

import csv
import io
import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from cian.config import DataConfig
from cian.data.masks import read_mask, write_mask
from cian.data.problems import ProblemList
from cian.errors import CianError
from cian.formats.class_names import check_name, class_names
from cian.formats.coco_masks import write_coco_masks
from cian.formats.columns import split_tags
from cian.formats.split_names import SPLIT_NAMES
from cian.formats.text import clean
from cian.reading.read import read_dataset
from tests.formats.helpers import tags_of

EXAMPLES = os.environ.get("CIAN_EXAMPLES")
settings.register_profile(
    "cian",
    max_examples=int(EXAMPLES or 15),
    derandomize=EXAMPLES is None,
    deadline=10_000,
    database=None,
    suppress_health_check=list(HealthCheck),
)
settings.load_profile("cian")

IMAGES = ("a.jpg", "b c.png", "d/e.jpg", "é.jpg", "7.jpg", "x;y,z.jpg", "d/ж'q.webp", "UPPER.JPG")
IDS = tuple(name.rpartition(".")[0] for name in IMAGES)
HEADS = ("image", "file_name", "path"), ("tags", "labels"), ("tag", "class", "label_name")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """images/ with empty files, which readers find but do not open."""
    folder = tmp_path_factory.mktemp("any")
    for name in IMAGES:
        path = folder / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def is_name(text: str) -> bool:
    """Whether a text is the name of a class, in each format."""
    is_one = clean(text) == text and split_tags(text, ";") == (text,)
    return is_one and check_name(text, "", ProblemList())


NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8).filter(is_name)
WORDS = st.text("abcdefghij -_.éлж狐🦊\u200d", min_size=1, max_size=8).map(clean).filter(is_name)
LISTS = st.lists(st.one_of(NAMES, WORDS), min_size=1, max_size=3, unique=True).map(tuple)
DATA = st.lists(st.sampled_from(IDS), min_size=2, unique=True).flatmap(
    lambda ids: st.fixed_dictionaries({image_id: LISTS for image_id in ids})
)
RANDOM = st.randoms(use_true_random=False)


def read(folder: Path, tags: Path | None, images: str = "images", **config: Any) -> dict[str, set[str]]:
    """The tags of each image, as the readers see them."""
    table, problems = read_dataset(DataConfig(images=folder / images, tags=tags, min_images=1, **config), seed=0)
    assert not [problem for problem in problems if problem.fatal], problems
    return {image_id: set(tags or ()) for image_id, tags in tags_of(table).items()}


def sets(data: dict[str, tuple[str, ...]]) -> dict[str, set[str]]:
    return {image_id: set(tags) for image_id, tags in data.items()}


def named(image_id: str, rng: random.Random) -> str:
    """One of the names that people use for an image."""
    name = IMAGES[IDS.index(image_id)]
    return rng.choice([name, image_id, f"./{name}", name.replace("/", "\\"), f"C:\\data\\{name}"])


@given(DATA, RANDOM, st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]), st.sampled_from([",", ";", "\t"]))
def test_csv(folder: Path, data: dict[str, tuple[str, ...]], rng: random.Random, encoding: str, delimiter: str):
    image, tags, tag = (rng.choice(names) for names in HEADS)
    style = rng.choice(["tags", "tag"])
    if style == "tags":
        rows = [{image: named(key, rng), tags: ";".join(names)} for key, names in data.items()]
    else:
        rows = [{image: named(key, rng), tag: name} for key, names in data.items() for name in names]
    columns = [image, tags if style == "tags" else tag, "width"]
    rng.shuffle(columns)
    text = io.StringIO(newline="")
    writer = csv.DictWriter(
        text, columns, "640", delimiter=delimiter, quoting=rng.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
    )
    writer.writeheader()
    writer.writerows(rows)
    (folder / "tags.csv").write_bytes(text.getvalue().encode(encoding))
    assert read(folder, folder / "tags.csv") == sets(data)


@given(DATA, RANDOM)
def test_csv_with_a_column_for_each_class(folder: Path, data: dict[str, tuple[str, ...]], rng: random.Random):
    classes = sorted({name for names in data.values() for name in names})
    assume(not {name.casefold() for name in classes} & {*sum(HEADS, ()), "file", "filename", "id", "category"})
    assume(not {name.casefold() for name in classes} & {"image_path", "image_name", "image_id", "classes", "label"})
    yes, no = rng.choice([("1", "0"), ("True", "False"), ("x", ""), ("yes", "no"), ("1.0", "0.0")])
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["image", *classes])
    for key, names in data.items():
        writer.writerow([named(key, rng), *(yes if name in names else no for name in classes)])
    (folder / "flags.csv").write_text(text.getvalue(), encoding="utf-8", newline="")
    assert read(folder, folder / "flags.csv") == sets(data)


@given(DATA, RANDOM)
def test_json(folder: Path, data: dict[str, tuple[str, ...]], rng: random.Random):
    pairs = [(named(key, rng), rng.choice([list(names), ";".join(names)])) for key, names in data.items()]
    content: Any = dict(pairs) if rng.random() < 0.5 else [{"image": name, "tags": tags} for name, tags in pairs]
    text = json.dumps(content, ensure_ascii=rng.random() < 0.5, indent=rng.choice([None, 1]))
    (folder / "tags.json").write_text(text, encoding="utf-8")
    assert read(folder, folder / "tags.json") == sets(data)


@given(DATA, RANDOM)
def test_coco(folder: Path, data: dict[str, tuple[str, ...]], rng: random.Random):
    classes = sorted({name for names in data.values() for name in names})
    number = rng.choice([lambda i: i + 1, lambda i: 90 - 7 * i, lambda i: f"id {i}"])
    images = [{"id": i, "file_name": named(key, rng)} for i, key in enumerate(data)]
    categories = [{"id": number(i), "name": name} for i, name in enumerate(classes)]
    annotations = [
        {"image_id": i, "category_id": number(classes.index(name)), "bbox": [0, 0, 1, 1]}
        for i, names in enumerate(data.values())
        for name in names * rng.randint(1, 2)
    ]
    for part in (images, categories, annotations):
        rng.shuffle(part)
    content = {"info": {}, "images": images, "categories": categories, "annotations": annotations}
    (folder / "coco.json").write_text(json.dumps(content), encoding="utf-8")
    assert read(folder, folder / "coco.json") == sets(data)


@given(DATA, st.sampled_from(["utf-8", "utf-16", "utf-8-sig"]))
def test_voc_xml(folder: Path, data: dict[str, tuple[str, ...]], encoding: str):
    shutil.rmtree(folder / "xml", ignore_errors=True)
    for key, names in data.items():
        path = folder / "xml" / f"{key}.xml"
        path.parent.mkdir(parents=True, exist_ok=True)
        objects = "".join(f"<object>\n<name>{escape(name)}</name></object>" for name in names)
        path.write_text(f"<annotation><filename>other.jpg</filename>{objects}</annotation>", encoding=encoding)
    assert read(folder, folder / "xml") == sets(data)


def is_folder(name: str) -> bool:
    """Whether a class can be called like a folder, and no folder is usually called so."""
    return name.isalnum() and name.casefold() not in SPLIT_NAMES and "mask" not in name.casefold() and len(name) > 1


@given(st.lists(WORDS.filter(is_folder), min_size=2, max_size=4, unique_by=str.casefold), st.booleans())
def test_class_folders(folder: Path, names: list[str], in_splits: bool):
    shutil.rmtree(folder / "classes", ignore_errors=True)
    expected = {}
    for name in names:
        for split in ("train", "valid") if in_splits else ("",):
            path = Path(split, name, f"{split}{len(name)}.jpg")
            (folder / "classes" / path.parent).mkdir(parents=True)
            (folder / "classes" / path).touch()
            expected[path.with_suffix("").as_posix()] = {name}
    assert read(folder, None, "classes") == expected


FORMS = st.sampled_from(["{}", "{n} {}", "{n}: {}"])


@given(st.lists(st.one_of(NAMES, WORDS), min_size=1, max_size=6, unique=True), FORMS)
def test_class_files(folder: Path, names: list[str], form: str):
    """Names alone or behind their numbers, with `background` in front."""
    if form == "{}":
        assume(not any(name[0].isdigit() or name[-1].isdigit() or name[0] == "#" for name in names))
        assume(all(":" not in name for name in names))
    else:
        assume(all(any(letter.isalpha() for letter in name) for name in names))
    lines = [form.format(name, n=n) for n, name in enumerate(["background", *names])]
    (folder / "classes.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert class_names(folder / "classes.txt") == names


@given(st.integers(1, 9), st.integers(1, 9), st.randoms(use_true_random=False))
def test_label_maps(folder: Path, height: int, width: int, rng: random.Random):
    ids = np.array([[rng.choice([0, 1, 2, 254, 255]) for _ in range(width)] for _ in range(height)], np.uint8)
    write_mask(folder / "mask.png", ids)
    assert np.array_equal(read_mask(folder / "mask.png"), ids)


# Any bytes: whole files of noise, and sound ones with changes.

SOUND: dict[str, bytes] = {
    "tags.csv": b"image,tags\na.jpg,fox\nb c.png,fox;rabbit\n7.jpg,rabbit\n",
    "flags.csv": b"image;fox;rabbit\na.jpg;1;0\nb c.png;1;1\n",
    "tags.json": b'{"a.jpg": ["fox"], "b c.png": "fox;rabbit"}',
    "rows.json": b'[{"image": "a.jpg", "tags": ["fox"]}, {"image": "7", "tags": "rabbit"}]',
    "coco.json": b'{"images": [{"id": 1, "file_name": "a.jpg", "height": 9, "width": 9}], "categories": [{"id": 1, '
    b'"name": "fox"}], "annotations": [{"image_id": 1, "category_id": 1, "segmentation": [[1, 1, 5, 1, 5, 5]]}, '
    b'{"image_id": 1, "category_id": 1, "segmentation": {"size": [9, 9], "counts": [3, 5, 73]}, "iscrowd": 1}]}',
    "xml/a.xml": b"<annotation><object><name>fox</name><difficult>0</difficult></object></annotation>",
    "classes.txt": b"0 background\n1 fox\n2 rabbit\n",
    "list.txt": b"a.jpg\nb c.png\n",
    "mask.png": b"",  # written by the fixture
}
PIECES = st.sampled_from([b"", b"\0", b'"', b"\xff", b",", b"[", b"{", b"}", b"<", b"&a;", b"1e9"])
CHANGES = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 9), st.one_of(PIECES, st.binary(max_size=4))), max_size=4)


def changed(content: bytes, changes: list[tuple[float, int, bytes]]) -> bytes:
    """The content with some pieces replaced."""
    for place, length, piece in changes:
        at = round(place * len(content))
        content = content[:at] + piece + content[at + length :]
    return content


def attempt(act: Callable[[], object]) -> None:
    """Whatever is wrong must be an error of ours."""
    try:
        act()
    except CianError as error:
        assert str(error).strip()


@pytest.mark.parametrize("name", SOUND)
@given(content=st.one_of(st.binary(max_size=300), CHANGES))
@example(content=[])
def test_any_bytes(folder: Path, name: str, content: bytes | list[tuple[float, int, bytes]]):
    if name == "mask.png" and not SOUND[name]:
        write_mask(folder / name, np.eye(9, dtype=np.uint8))
        SOUND[name] = (folder / name).read_bytes()
    path = folder / "bytes" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else changed(SOUND[name], content))
    config = DataConfig(images=folder / "images", tags=path.parent if "/" in name else path, min_images=1)
    if name == "classes.txt":
        attempt(lambda: class_names(path))
    elif name == "mask.png":
        attempt(lambda: read_mask(path))
    elif name == "list.txt":
        (folder / "sound.csv").write_bytes(SOUND["tags.csv"])
        lists = DataConfig(images=folder / "images", tags=folder / "sound.csv", splits={"train": path}, min_images=1)
        attempt(lambda: read_dataset(lists, seed=0))
    else:
        attempt(lambda: read_dataset(config, seed=0))
    if name == "coco.json":
        shutil.rmtree(folder / "drawn", ignore_errors=True)
        attempt(lambda: write_coco_masks(path, folder / "drawn"))
