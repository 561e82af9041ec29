"""The data sets of the demo: drawn animals, and Oxford-IIIT Pet from a miniature of its files."""

from __future__ import annotations

import csv
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cian.config import DataConfig
from cian.data.table import IGNORE
from cian.demo import animals, data_config
from cian.demo.animals import CLASSES, COVERAGE, MIN_PIXELS, generate
from cian.demo.pets import prepare_pets
from cian.errors import CianError
from cian.files import lock

TRAIN, VAL = 20, 5


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "tags.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def read(file: Path) -> np.ndarray:
    with Image.open(file) as image:
        return np.asarray(image)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "animals"
    generate(folder, train=TRAIN, val=VAL)
    return folder


def test_layout(small: Path) -> None:
    assert {path.name for path in small.iterdir()} == {"images", "masks", "tags.csv", "classes.txt", "dataset.json"}
    assert (small / "classes.txt").read_text().split() == ["background", *CLASSES]
    assert list(CLASSES) == sorted(CLASSES)
    rows = table(small)
    assert [row["image"] for row in rows] == [f"{i:03d}.jpg" for i in range(TRAIN + VAL)]
    assert [row["split"] for row in rows] == ["train"] * TRAIN + ["val"] * VAL
    assert {path.stem for path in (small / "images").iterdir()} == {path.stem for path in (small / "masks").iterdir()}
    config = data_config(small)
    assert isinstance(config, DataConfig) and config.split_column == "split" and config.images == small / "images"
    assert list(small.parent.iterdir()) == [small]  # nothing temporary is left


def test_tags_agree_with_masks(small: Path) -> None:
    seen: Counter[str] = Counter()
    for row in table(small):
        image, mask = read(small / "images" / row["image"]), read(small / "masks" / row["image"].replace("jpg", "png"))
        assert image.dtype == mask.dtype == np.uint8
        assert image.shape == (*mask.shape, 3)
        counts = np.bincount(mask.ravel(), minlength=256)
        assert counts[len(CLASSES) + 1 :].sum() == 0
        shown = [name for name, count in zip(CLASSES, counts[1:], strict=False) if count]
        assert row["tags"].split(";") == shown
        assert all(counts[CLASSES.index(name) + 1] >= MIN_PIXELS for name in shown)
        seen.update(f"{row['split']} {name}" for name in shown)
    assert all(seen[f"train {name}"] >= 4 and seen[f"val {name}"] >= 1 for name in CLASSES)


def test_statistics() -> None:
    images = [animals.draw(0, index) for index in range(40)]
    sizes = {mask.shape for _, mask in images}
    assert len(sizes) >= 5 and any(h > w for h, w in sizes) and any(h < w for h, w in sizes)
    assert all(min(size) >= 190 and max(size) <= 290 for size in sizes)
    coverage = np.array([np.mean(mask > 0) for _, mask in images])
    assert coverage.min() >= COVERAGE[0] and coverage.max() <= COVERAGE[1]
    assert 0.2 <= coverage.mean() <= 0.3
    kinds = np.array([len(np.unique(mask)) - 1 for _, mask in images])
    assert kinds.max() == 2 and 0.12 <= np.mean(kinds == 2) <= 0.35


def test_same_seed_same_bytes(small: Path, tmp_path: Path) -> None:
    generate(tmp_path / "again", train=TRAIN, val=VAL)
    assert contents(tmp_path / "again") == contents(small)


# Draws the data set, and is killed by the second image.
KILLED = """
import os, signal, sys
from pathlib import Path
from cian.demo import animals

draw = animals.draw
animals.draw = lambda seed, index: os.kill(os.getpid(), signal.SIGKILL) if index else draw(seed, index)
animals.generate(Path(sys.argv[1]), train=2, val=1)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="kill -9 is of POSIX")
def test_what_a_killed_process_has_left_is_removed(tmp_path: Path) -> None:
    folder = tmp_path / "demo-data"
    subprocess.run([sys.executable, "-c", KILLED, folder], check=False)
    (left,) = tmp_path.iterdir()
    assert left != folder
    generate(folder, train=2, val=1)
    assert list(tmp_path.iterdir()) == [folder]


def test_two_processes_do_not_write_one_data_set(tmp_path: Path) -> None:
    with lock(tmp_path / ".demo-data.partial", "writes"), pytest.raises(CianError, match="another process writes this"):
        generate(tmp_path / "demo-data", train=2, val=1)


def test_another_seed_gives_other_images() -> None:
    assert animals.draw(0, 0)[0].tobytes() != animals.draw(1, 0)[0].tobytes()


def test_first_images_do_not_depend_on_the_number(small: Path, tmp_path: Path) -> None:
    generate(tmp_path / "few", train=3, val=2)
    whole = contents(small)
    few = {name: data for name, data in contents(tmp_path / "few").items() if name.endswith((".jpg", ".png"))}
    assert len(few) == 10
    assert all(whole[name] == data for name, data in few.items())


def test_several_cores_draw_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(animals, "draw", draw_number)
    several = list(animals._draw_all(animals.PARALLEL_FROM, 7))
    assert several == [(7, index) for index in range(animals.PARALLEL_FROM)]


def draw_number(seed: int, index: int) -> tuple[int, int]:
    return seed, index


def test_complete_set_is_kept(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(animals, "draw", None)  # drawing anything would fail
    before = contents(small)
    generate(small, train=TRAIN, val=VAL)
    assert contents(small) == before


@pytest.mark.parametrize("lost", ["tags.csv", "images/000.jpg", "masks/001.png"])
def test_incomplete_set_is_made_again(tmp_path: Path, lost: str) -> None:
    folder = tmp_path / "animals"
    generate(folder, train=2, val=0)
    before = contents(folder)
    (folder / lost).unlink()
    generate(folder, train=2, val=0)
    assert contents(folder) == before


def test_other_parameters_replace(tmp_path: Path) -> None:
    generate(tmp_path / "set", train=1, val=1)
    generate(tmp_path / "set", train=1, val=0)
    assert [row["image"] for row in table(tmp_path / "set")] == ["000.jpg"]


def test_images_that_a_user_added_are_kept(tmp_path: Path) -> None:
    generate(tmp_path / "set", train=1, val=0)
    (tmp_path / "set/images/.DS_Store").write_bytes(b"")
    generate(tmp_path / "set", train=1, val=0)
    assert (tmp_path / "set/images/.DS_Store").exists()  # nothing was drawn again
    (tmp_path / "set/images/000.jpg").rename(tmp_path / "set/images/mine.jpg")
    (tmp_path / "set/images/mine.jpg").write_bytes(b"mine")
    with pytest.raises(CianError, match=r"set: holds other files \(images/mine\.jpg\) that would be lost"):
        generate(tmp_path / "set", train=1, val=0)
    assert (tmp_path / "set/images/mine.jpg").read_bytes() == b"mine"


def test_foreign_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(CianError, match=r"thesis\.txt.*new or empty folder"):
        generate(tmp_path, train=1, val=0)
    with pytest.raises(CianError, match="is a file"):
        generate(tmp_path / "thesis.txt", train=1, val=0)
    assert (tmp_path / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize(
    "marker", [None, "{}", '["animals"]', '{"parameters": {"name": "mine"}, "images": 1}', "nonsense"]
)
def test_data_of_the_user_in_this_layout_is_left_alone(tmp_path: Path, marker: str | None) -> None:
    folder = tmp_path / "birds-data"
    for name in ("images/a.jpg", "masks/a.png", "tags.csv", "classes.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("mine")
    if marker is not None:
        (folder / "dataset.json").write_text(marker)
    before = contents(folder)
    with pytest.raises(CianError, match=r"birds-data: holds other files \(classes\.txt\).* Give a new .*another --out"):
        generate(folder, train=1, val=0)
    assert contents(folder) == before
    assert list(tmp_path.iterdir()) == [folder]


def test_empty_folder_is_used(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    generate(tmp_path / "set", train=1, val=0)
    assert (tmp_path / "set" / "dataset.json").exists()


def test_a_failure_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(seed: int, index: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(animals, "draw", fail)
    with pytest.raises(KeyboardInterrupt):
        generate(tmp_path / "set", train=2, val=0)
    assert list(tmp_path.iterdir()) == []


# Oxford-IIIT Pet


@pytest.fixture
def originals(tmp_path: Path) -> Path:
    """A miniature of torchvision's layout: two breeds of cats, one of dogs; two images each, one in either list."""
    root = tmp_path / "originals" / "oxford-iiit-pet"
    (root / "images").mkdir(parents=True)
    (root / "annotations" / "trimaps").mkdir(parents=True)
    rng = np.random.default_rng(0)
    lists: dict[str, list[str]] = {"trainval": ["Bengal_1 2 1 2"], "test": ["Bengal_2 2 1 2"]}
    lists["trainval"] += ["Abyssinian_1 1 1 1", "american_bulldog_1 3 2 1"]
    lists["test"] += ["Abyssinian_2 1 1 1", "american_bulldog_2 3 2 1"]
    for split, lines in lists.items():
        (root / "annotations" / f"{split}.txt").write_text("".join(f"{line}\n" for line in lines))
        for line in lines:
            name = line.split()[0]
            pixels = rng.integers(0, 255, (12, 16, 3), np.uint8)
            trimap = np.full((12, 16), 2, np.uint8)
            trimap[3:9, 3:9] = 3
            trimap[4:8, 4:8] = 1
            # as in the original, a file named .jpg may be something else
            Image.fromarray(pixels).save(root / "images" / f"{name}.jpg", "PNG" if name == "Bengal_1" else "JPEG")
            Image.fromarray(trimap).save(root / "annotations" / "trimaps" / f"{name}.png")
    return root.parent


def test_pets_by_species(originals: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pets"
    assert prepare_pets(folder, download=False, source=originals) == data_config(folder)
    assert (folder / "classes.txt").read_text().split() == ["background", "cat", "dog"]
    assert [tuple(row.values()) for row in table(folder)] == [
        ("Bengal_1.jpg", "cat", "train"),
        ("Abyssinian_1.jpg", "cat", "train"),
        ("american_bulldog_1.jpg", "dog", "train"),
        ("Bengal_2.jpg", "cat", "val"),
        ("Abyssinian_2.jpg", "cat", "val"),
        ("american_bulldog_2.jpg", "dog", "val"),
    ]
    mask = read(folder / "masks" / "american_bulldog_1.png")
    assert mask[0, 0] == 0 and mask[3, 3] == IGNORE and mask[5, 5] == 2
    assert np.bincount(mask.ravel(), minlength=256)[[0, 2, IGNORE]].tolist() == [156, 16, 20]
    source = originals / "oxford-iiit-pet" / "images"
    assert (folder / "images" / "Bengal_2.jpg").read_bytes() == (source / "Bengal_2.jpg").read_bytes()
    with Image.open(folder / "images" / "Bengal_1.jpg") as image:
        assert image.format == "JPEG"


def test_pets_by_breed(originals: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pets"
    prepare_pets(folder, download=False, source=originals, classes="breed")
    names = (folder / "classes.txt").read_text().splitlines()
    assert names == ["background", "Abyssinian", "American Bulldog", "Bengal"]
    assert read(folder / "masks" / "Bengal_1.png")[5, 5] == 3


def test_pets_limit(originals: Path, tmp_path: Path) -> None:
    prepare_pets(tmp_path / "pets", download=False, source=originals, limit=2)
    assert Counter(row["split"] for row in table(tmp_path / "pets")) == {"train": 2, "val": 2}


def test_pets_kept_when_complete(originals: Path, tmp_path: Path) -> None:
    prepare_pets(tmp_path / "pets", download=False, source=originals)
    prepare_pets(tmp_path / "pets", download=False, source=tmp_path / "gone")


def test_pets_without_internet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.datasets import OxfordIIITPet

    def offline(self: OxfordIIITPet) -> None:
        raise OSError("<urlopen error [Errno -3] Temporary failure in name resolution>")

    monkeypatch.setattr(OxfordIIITPet, "_download", offline)
    with pytest.raises(CianError, match=r"name resolution>\)\. Connect to the internet, or get images\.tar\.gz"):
        prepare_pets(tmp_path / "pets")
    with pytest.raises(CianError, match="is missing and could not be downloaded"):
        prepare_pets(tmp_path / "pets", download=False)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("annotations/trimaps/Bengal_1.png", "cannot be read"),
        ("images/Bengal_1.jpg", "cannot be read"),
        ("annotations/test.txt", "not a line of the list"),
        ("annotations/trainval.txt", "not a line of the list"),
    ],
)
def test_pets_damaged(originals: Path, tmp_path: Path, file: str, text: str) -> None:
    (originals / "oxford-iiit-pet" / file).write_text("Bengal")
    with pytest.raises(CianError, match=rf"{text}.*Delete .* download"):
        prepare_pets(tmp_path / "pets", download=False, source=originals)
    assert not (tmp_path / "pets").exists()


def test_import_is_cheap() -> None:
    code = "import sys, cian.demo.animals, cian.demo.pets; assert not {'torch', 'torchvision'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
