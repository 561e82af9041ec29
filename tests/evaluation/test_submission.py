"""The archive for PASCAL VOC's test server."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cian.data.masks import read_mask, write_mask
from cian.data.palette import VOC_COLOURS
from cian.data.table import IGNORE
from cian.errors import CianError
from cian.evaluation.folders import write_submission
from tests.formats.helpers import write
from tests.helpers import cli, fails


def unpack(path: Path) -> dict[str, Image.Image]:
    with tarfile.open(path, "r:gz") as archive:
        contents = {entry.name: archive.extractfile(entry) for entry in archive}
        return {name: Image.open(io.BytesIO(file.read())) for name, file in contents.items() if file is not None}


@pytest.fixture
def predicted(tmp_path: Path) -> Path:
    """Predictions p/a.png, p/b.png of classes 0 … 20, their images i/, and the list of both."""
    rng = np.random.default_rng(0)
    for name in "ab":
        write_mask(tmp_path / "p" / f"{name}.png", rng.integers(0, 21, (8, 9)).astype(np.uint8))
        (tmp_path / "i").mkdir(exist_ok=True)
        Image.new("RGB", (9, 8)).save(tmp_path / "i" / f"{name}.jpg")
    write(tmp_path / "test.txt", "b\na\n\nb\n")
    return tmp_path


def submit(folder: Path, **options: Any) -> dict[str, Image.Image]:
    assert write_submission(folder / "p", folder / "test.txt", folder / "out.tgz", **options) == 2
    return unpack(folder / "out.tgz")


def test_submission(predicted: Path) -> None:
    masks = submit(predicted, images=predicted / "i")
    assert list(masks) == [f"results/VOC2012/Segmentation/comp6_test_cls/{name}.png" for name in "ba"]
    image = masks["results/VOC2012/Segmentation/comp6_test_cls/a.png"]
    assert image.mode == "P"
    assert np.array_equal(np.array(image), read_mask(predicted / "p" / "a.png"))
    assert image.getpalette() == VOC_COLOURS.ravel().tolist()
    assert "results/VOC2012/Segmentation/comp5_test_cls/a.png" in submit(predicted, competition="comp5")


def test_submission_is_the_same_every_time(predicted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    submit(predicted)
    first = (predicted / "out.tgz").read_bytes()
    monkeypatch.setattr("time.time", lambda: 2e9)
    (predicted / "p" / "a.png").touch()
    submit(predicted)
    assert (predicted / "out.tgz").read_bytes() == first
    assert gzip.decompress(first)


def test_names_that_lead_out_of_the_folder(predicted: Path) -> None:
    write_mask(predicted / "elsewhere" / "c.png", np.zeros((8, 9), np.uint8))
    for name in ("../elsewhere/c", str(predicted / "elsewhere" / "c")):
        write(predicted / "test.txt", f"a\n{name}\n")
        with pytest.raises(CianError, match=r"c\.png: no such prediction; 1 of 2 are missing"):
            submit(predicted)
        assert not (predicted / "out.tgz").exists()


def test_grey_predictions_become_indexed(predicted: Path) -> None:
    Image.fromarray(np.full((8, 9), 20, np.uint8)).save(predicted / "p" / "a.png")
    image = submit(predicted)["results/VOC2012/Segmentation/comp6_test_cls/a.png"]
    assert image.mode == "P"
    assert np.unique(np.array(image)).tolist() == [20]


def test_all_problems_of_a_submission_at_once(predicted: Path) -> None:
    (predicted / "out.tgz").write_bytes(b"an earlier one")
    write_mask(predicted / "p" / "a.png", np.full((8, 9), IGNORE, np.uint8))
    write_mask(predicted / "p" / "b.png", np.zeros((9, 8), np.uint8))
    with pytest.raises(CianError) as error:
        submit(predicted, images=predicted / "i")
    text = str(error.value)
    assert "a.png: holds the value 255, but class ids are 0 to 20. Give each pixel a class" in text
    assert f"b.png: 8×9 px, but {predicted / 'i' / 'b.jpg'} has 9×8. Predict at the size of the image" in text
    assert (predicted / "out.tgz").read_bytes() == b"an earlier one"
    assert not list(predicted.glob(".cian-tmp-*"))


def test_submissions_that_cannot_be(predicted: Path) -> None:
    with pytest.raises(CianError, match=r"class ids are 0 to 2\. Give"):
        submit(predicted, classes=write(predicted / "classes.txt", "background\ndog\ncat"))
    with pytest.raises(CianError, match="competition comp7: PASCAL VOC has comp5"):
        submit(predicted, competition="comp7")
    (predicted / "i" / "a.jpg").unlink()
    with pytest.raises(CianError, match=r"test\.txt: there is no image 'a'"):
        submit(predicted, images=predicted / "i")
    (predicted / "p" / "a.png").unlink()
    with pytest.raises(CianError, match=r"a\.png: no such prediction; 1 of 2 are missing"):
        submit(predicted)
    write(predicted / "test.txt", "\n")
    with pytest.raises(CianError, match="names no image"):
        submit(predicted)


def test_submission_on_the_command_line(predicted: Path) -> None:
    base = ["evaluate", "--predictions", predicted / "p"]
    fails(cli(*base, "--submit", predicted / "out.tgz"), "--submit", "--list")
    fails(cli(*base), "--masks and --classes: scoring needs both")
    fails(cli(*base, "--masks", predicted / "p"), "--masks and --classes: scoring needs both")
    more = ["--submit", predicted / "out.tgz", "--list", predicted / "test.txt"]
    fails(cli("evaluate", "--predictions", predicted / "none", *more), "no such folder")
