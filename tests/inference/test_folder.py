"""`cian predict`: masks of new images, the classes in them, and what else may be in the folders."""

from __future__ import annotations

import csv
import json
import os
import shutil
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from filelock import FileLock
from PIL import Image

from cian import CianError, Segmenter
from cian.build import build_network
from cian.config import load_config
from cian.data.masks import read_mask, write_mask
from cian.inference import folder
from cian.inference.folder import predict_folder
from tests.helpers import TINY, here

NAMES = ("background", "Katze", "犬")


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    config = load_config(None, {**TINY, "predict.own_threshold": 0})  # of random weights
    network = build_network(config, len(NAMES))
    torch.nn.init.normal_(network.head.weight, std=1)
    folder = tmp_path_factory.mktemp("model")
    Segmenter(network, config, NAMES).save(folder)
    return folder


@pytest.fixture
def photos(tmp_path) -> Path:
    rng = np.random.default_rng(0)
    for name in ("a.png", "ü/b.png", "c.png"):
        file = tmp_path / "photos" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)).save(file)
    return tmp_path / "photos"


@pytest.fixture
def segmented(monkeypatch) -> Callable[[], int]:
    """How many images the network has seen since the last call."""
    calls: list[int] = []
    original = folder.segment_logits
    monkeypatch.setattr(folder, "segment_logits", lambda *args: (calls.append(1), original(*args))[1])

    def count() -> int:
        number = len(calls)
        calls.clear()
        return number

    return count


def process(monkeypatch, index: int, count: int, wait: Callable[[], None] = lambda: None) -> None:
    """Predicts as one of several processes does."""
    accelerator = SimpleNamespace(
        device=torch.device("cpu"), process_index=index, num_processes=count, is_main_process=index == 0,
        wait_for_everyone=wait,
    )  # fmt: skip
    monkeypatch.setattr(folder, "make_accelerator", lambda runtime: accelerator)


def test_only_one_process_clears_the_folder(model, photos, tmp_path, monkeypatch):
    """A process other than the main one removes no file."""
    out = tmp_path / "masks"
    predict_folder(model, photos, out)
    half = out / ".cian-tmp-x.png"
    half.write_text("half")
    before = (out / "a.png").stat().st_mtime_ns
    process(monkeypatch, 1, 2)
    predict_folder(model, photos, out, overwrite=True)
    assert half.exists() and (out / "a.png").stat().st_mtime_ns == before

    def others_start() -> None:
        assert not half.exists() and not list(out.rglob("*.png"))
        raise KeyboardInterrupt

    process(monkeypatch, 0, 2, others_start)
    with pytest.raises(KeyboardInterrupt):
        predict_folder(model, photos, out, overwrite=True)


def test_second_command_in_the_same_folder(model, photos, tmp_path):
    (tmp_path / "masks").mkdir()
    with FileLock(tmp_path / "masks" / ".lock"), pytest.raises(CianError, match="another process writes masks here"):
        predict_folder(model, photos, tmp_path / "masks")
    assert predict_folder(model, photos, tmp_path / "masks").written == 3


def test_a_link_in_place_of_the_lock(model, photos, tmp_path, monkeypatch, capsys):
    (tmp_path / "masks").mkdir()
    (tmp_path / "precious.txt").write_text("precious")
    (tmp_path / "masks/.lock").symlink_to(tmp_path / "precious.txt")
    args = ("predict", "--model", model, "--images", photos, "--out", tmp_path / "masks")
    assert here(monkeypatch, *args) == 1
    assert "masks/.lock: a link is in its place" in capsys.readouterr().err
    assert (tmp_path / "precious.txt").read_text() == "precious"


def test_masks_do_not_go_among_the_photographs(model, photos):
    """Otherwise the next command would take masks for photographs. The same holds for a single image."""
    Image.new("RGB", (20, 20)).save(photos / "photo.jpg")
    for images, out in ((photos / "photo.jpg", photos), (photos, photos / "masks")):
        with pytest.raises(CianError, match=r"Give (another folder|a folder outside of it)"):
            predict_folder(model, images, out)
    assert not list(photos.rglob("photo.png"))


def test_overlays_afterwards(model, photos, tmp_path, segmented):
    out = tmp_path / "masks"
    assert predict_folder(model, photos, out).written == segmented() == 3
    masks = {file: file.read_bytes() for file in out.rglob("*.png")}
    assert predict_folder(model, photos, out, overlays=True).written == 0 == segmented()
    views = {file: file.read_bytes() for file in (out / "overlays").rglob("*.jpg")}
    assert len(views) == 3 and {file: file.read_bytes() for file in out.rglob("*.png")} == masks

    (out / "c.png").unlink()
    assert predict_folder(model, photos, out, overlays=True).written == segmented() == 1
    predict_folder(model, photos, tmp_path / "both", overlays=True)
    assert {file: (tmp_path / "both" / file.relative_to(out)).read_bytes() for file in views} == views
    predict_folder(model, photos, out, overwrite=True)
    assert not list((out / "overlays").rglob("*.jpg"))  # they showed the masks from before


def test_says_what_was_found(model, photos, tmp_path, capsys):
    out = tmp_path / "masks"
    (photos / "c.png").rename(tmp_path / "c.png")
    predict_folder(model, photos, out)
    assert f"2 masks in {out}/. Their classes are in {out / 'found.csv'}" in capsys.readouterr().err
    (tmp_path / "c.png").rename(photos / "c.png")
    predict_folder(model, photos, out)
    text = capsys.readouterr().err
    assert f"3 masks in {out}/, 2 of them from earlier calls. " in text

    expected = []
    for image_id in ("a", "c", "ü/b"):
        mask = read_mask(out / f"{image_id}.png")
        counts = np.bincount(mask.ravel(), minlength=3)
        shares = [f"{count / mask.size:.2%}"[:-1] for count in counts]
        expected += [[image_id, NAMES[i], str(counts[i]), shares[i]] for i in (1, 2) if counts[i]]
    assert len({row[1] for row in expected}) == 2
    assert found(out) == [["image", "class", "pixels", "percent"], *expected]

    (out / "a.png").unlink()
    predict_folder(model, photos / "c.png", out)  # rows of other images are kept while these have a mask
    assert found(out)[1:] == [row for row in expected if row[0] != "a"]


def found(out: Path) -> list[list[str]]:
    with (out / "found.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


@pytest.mark.parametrize("key", ["train.epochs", "backbone.name", "seed", "retrain.enabled"])
def test_settings_without_effect_are_refused(model, photos, tmp_path, key):
    with pytest.raises(CianError, match=f"setting {key}: has no effect"):
        predict_folder(model, photos, tmp_path / "masks", settings={key: 1})
    assert not (tmp_path / "masks").exists()


@pytest.mark.parametrize("overwrite", [False, True])
def test_masks_of_another_program_are_kept(model, photos, tmp_path, overwrite):
    (tmp_path / "masks").mkdir()
    drawn = tmp_path / "masks" / "a.png"
    Image.new("L", (40, 30), 7).save(drawn)
    before = drawn.read_bytes()
    with pytest.raises(CianError, match=r"a\.png: was not written by `cian predict`\. Give a new or an empty folder"):
        predict_folder(model, photos, tmp_path / "masks", overwrite=overwrite)
    assert drawn.read_bytes() == before and not (tmp_path / "masks" / "found.csv").exists()


def test_damaged_images_do_not_hold_up_the_others(model, photos, tmp_path, capsys):
    (photos / "bad.jpg").write_bytes(b"\xff\xd8\xff\xe0 no image")
    (photos / "empty.png").write_bytes(b"")
    (photos / "phone.avif").write_bytes(b"x")
    out = tmp_path / "masks"
    for before in ("", ", 3 of them from earlier calls"):
        result = predict_folder(model, photos, out)
        assert [Path(problem.file).name for problem in result.unreadable] == ["bad.jpg", "empty.png"]
        assert (result.masks, result.written) == (3, 0 if before else 3)
        text = " ".join(capsys.readouterr().err.split())
        assert f"3 masks in {out}/{before}. " in text and "1 file skipped, because cian does not read .avif" in text
    assert {row[0] for row in found(out)[1:]} == {"a", "c", "ü/b"}
    for name in ("bad.jpg", "empty.png"):
        (photos / name).unlink()
    assert predict_folder(model, photos, out).written == 0


def test_images_whose_tags_changed_are_predicted_again(model, photos, tmp_path, segmented, capsys):
    tags, out = tmp_path / "tags.csv", tmp_path / "masks"
    tags.write_text("image,tags\na.png,Katze\n", encoding="utf-8")
    assert predict_folder(model, photos, out, tags).written == segmented() == 3
    assert "will not be used" not in capsys.readouterr().err
    assert {row[1] for row in found(out) if row[0] == "a"} <= {"Katze"}
    tags.write_text("image,tags\na.png,Katze\nc.png,犬\n", encoding="utf-8")
    assert predict_folder(model, photos, out, tags).written == segmented() == 1
    assert {row[1] for row in found(out) if row[0] == "c"} <= {"犬"}
    assert predict_folder(model, photos, out, tags).written == segmented() == 0
    with pytest.raises(CianError, match=r"c\.png: was made with tags, and none are given now"):
        predict_folder(model, photos / "c.png", out)
    assert predict_folder(model, photos / "c.png", out, overwrite=True).written == segmented() == 1
    assert predict_folder(model, photos, out, tags).written == segmented() == 1


def test_a_crf_that_cannot_work_is_refused_at_once(model, photos, tmp_path):
    with pytest.raises(CianError, match=r"predict\.crf: .*sxy"):
        predict_folder(model, photos, tmp_path / "masks", settings={"predict.crf.bilateral": [80, 0.01, 10]})
    assert not (tmp_path / "masks").exists()


def test_command_line(model, photos, tmp_path, monkeypatch, capsys):
    options = ["--images", photos, "--out", tmp_path / "masks"]
    assert here(monkeypatch, "predict", "--model", model, *options, "--set", "predict.crf.iterations=0") == 0
    assert here(monkeypatch, "predict", "--help") == 0
    text = capsys.readouterr().out
    assert "predict.crf.iterations=0" in text and "train.epochs" not in text and "found.csv" in text
    assert here(monkeypatch, "predict", "--model", model, *options, "--set", "predict.crf.iterations=0", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {
        "folder": str(tmp_path / "masks"),
        "masks": 3,
        "written": 0,
        "found": str(tmp_path / "masks" / "found.csv"),
        "skipped": [],
        "unreadable": [],
    }
    (photos / "bad.jpg").write_bytes(b"no image")
    assert here(monkeypatch, "predict", "--model", model, *options, "--set", "predict.crf.iterations=0", "--json") == 1
    out, err = capsys.readouterr()
    assert json.loads(out)["unreadable"] == [str(photos / "bad.jpg")] and "bad.jpg" in err
    given = []
    done = folder.Predicted(0, 0, tmp_path, [], [])
    monkeypatch.setattr(folder, "predict_folder", lambda *args: (given.append(args[0]), done)[1])
    here(monkeypatch, "predict", "--model", "owner/name", *options)
    assert given == ["owner/name"]  # a path would have a backslash on Windows


def test_masks_that_are_unchanged_are_not_read_again(model, photos, tmp_path, monkeypatch):
    """A corrected mask is read, whatever its date, and found.csv is the same as if all masks had been read."""
    monkeypatch.setattr("cian.data.known_files._FRESH_NS", 0)
    out = tmp_path / "masks"
    predict_folder(model, photos, out)
    found = (out / "found.csv").read_bytes()
    read: list[str] = []
    monkeypatch.setattr("cian.inference.found_csv.read_mask", lambda path: (read.append(path.name), read_mask(path))[1])
    assert predict_folder(model, photos, out).written == 0 and not read
    assert (out / "found.csv").read_bytes() == found
    write_mask(out / "a.png", np.full((30, 40), 2, np.uint8))
    os.utime(out / "a.png", (0, 0))
    predict_folder(model, photos / "c.png", out)
    assert read == ["a.png"] and "a,犬,1200,100.00" in (out / "found.csv").read_text("utf-8")
    (out / "found.csv").unlink()
    (out / ".masks").write_bytes(b"damaged")
    predict_folder(model, photos, out)
    assert sorted(read[1:]) == ["a.png", "b.png", "c.png"]


@pytest.mark.parametrize("overlays", [False, True])
def test_a_damaged_mask_costs_that_mask_alone(model, photos, tmp_path, overlays):
    """Also if it cannot be told whether it was corrected. Its cure works."""
    out, tags = tmp_path / "masks", tmp_path / "tags.csv"
    predict_folder(model, photos, out)
    whole = found(out)
    (out / "a.png").write_bytes((out / "a.png").read_bytes()[:-100])
    tags.write_text("image,tags\na.png,Katze\nc.png,Katze;犬\n", "utf-8")
    (out / "c.png").unlink()
    result = predict_folder(model, photos, out, tags, overlays)
    assert [(problem.file, problem.cure[-12:]) for problem in result.unreadable] == [
        (str(out / "a.png"), "or remove it")
    ]
    assert (result.masks, result.written) == (2, 1)
    assert found(out) == [row for row in whole if row[0] != "a"]
    (out / "a.png").unlink()
    again = predict_folder(model, photos, out, tags, overlays)
    assert (again.unreadable, again.masks, again.written) == ([], 3, 1)


def test_an_empty_mask_is_made_again(model, photos, tmp_path, capsys):
    out = tmp_path / "masks"
    predict_folder(model, photos, out)
    whole = (out / "a.png").read_bytes()
    (out / "a.png").write_bytes(b"")
    result = predict_folder(model, photos, out)
    assert (result.unreadable, result.written) == ([], 1) and (out / "a.png").read_bytes() == whole
    assert "an empty file. It is made again" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    "content",
    [b"", b"image,class\n", b"image,class,pixels,percent\na,Katze,12", b"\0", b"\xff\xfe", b'"' + b"x" * 200_000],
)
def test_a_damaged_found_csv_is_said_and_made_again(model, photos, tmp_path, capsys, content):
    out = tmp_path / "masks"
    predict_folder(model, photos, out)
    whole = found(out)
    capsys.readouterr()
    (out / "found.csv").write_bytes(content)
    predict_folder(model, photos / "c.png", out)
    text = " ".join(capsys.readouterr().err.split())
    assert f"{out / 'found.csv'}: damaged, or changed by another program. It is made again" in text
    assert found(out) == whole
    predict_folder(model, photos, out)
    assert "another program" not in capsys.readouterr().err


def test_found_csv_holds_no_formula(model, photos, tmp_path):
    """Neither the class names of somebody's model, nor names of images."""
    evil = shutil.copytree(model, tmp_path / "evil")
    saved = json.loads((evil / "config.json").read_text("utf-8"))
    saved["classes"][1] = "=cmd|' /C calc'!A0"
    (evil / "config.json").write_text(json.dumps(saved), "utf-8")
    (photos / "a.png").rename(photos / "@a.png")
    for _ in range(2):
        predict_folder(evil, photos, tmp_path / "masks")
        rows = found(tmp_path / "masks")[1:]
        assert {row[0] for row in rows} == {"'@a", "c", "ü/b"}
        assert {row[1] for row in rows} == {"'=cmd|' /C calc'!A0", "犬"}


def test_an_image_that_disappears_while_it_is_predicted(model, photos, tmp_path, monkeypatch):
    compute = folder.segment_logits
    monkeypatch.setattr(
        folder, "segment_logits", lambda *args: ((photos / "c.png").unlink(missing_ok=True), compute(*args))[1]
    )
    result = predict_folder(model, photos / "c.png", tmp_path / "masks")
    assert [Path(problem.file).name for problem in result.unreadable] == ["c.png"]
    assert (result.masks, result.written) == (0, 0) and len(found(tmp_path / "masks")) == 1


def test_tags_of_held_out_images(model, photos, tmp_path):
    """Nothing is trained, so a list without training images will do, with any number of images of each class."""
    tags = tmp_path / "tags.csv"
    tags.write_text("image,tags,fold\na.png,犬,val\nü/b.png,Katze,val\nc.png,,val\n", "utf-8")
    out = tmp_path / "masks"
    assert predict_folder(model, photos, out, tags, settings={"data.split_column": "fold"}).written == 3
    assert not read_mask(out / "c.png").any() and set(np.unique(read_mask(out / "a.png"))) <= {0, 2}


def test_tags_that_the_model_dropped_or_merged(photos, tmp_path):
    config = load_config(None, {**TINY, "data.drop": ["cow"], "data.merge": {"kitten": "Katze"}})
    Segmenter(build_network(config, len(NAMES)), config, NAMES).save(tmp_path / "model")
    tags = tmp_path / "tags.csv"
    tags.write_text("image,tags\na.png,kitten;cow\nü/b.png,cow\nc.png,犬;Katze\n", "utf-8")
    predict_folder(tmp_path / "model", photos, tmp_path / "masks", tags)
    assert set(np.unique(read_mask(tmp_path / "masks" / "a.png"))) <= {0, 1}
    assert not read_mask(tmp_path / "masks" / "ü" / "b.png").any()


def test_corrected_masks_are_not_replaced(model, photos, tmp_path, capsys):
    """Other tags do not replace them, also after other calls; and their overlays show the corrected mask."""
    out, tags = tmp_path / "masks", tmp_path / "tags.csv"
    predict_folder(model, photos, out, overlays=True)
    before = (out / "overlays" / "a.jpg").read_bytes()
    with Image.open(out / "c.png") as image:
        note = image.info["cian"]
    write_mask(out / "a.png", np.full((30, 40), 2, np.uint8))
    write_mask(out / "c.png", np.full((30, 40), 2, np.uint8), note)  # a program that keeps the texts of a PNG file
    assert predict_folder(model, photos, out, overlays=True).written == 0
    assert (out / "overlays" / "a.jpg").read_bytes() != before
    tags.write_text("image,tags\na.png,Katze\nc.png,Katze\nü/b.png,Katze\n", "utf-8")
    capsys.readouterr()
    assert predict_folder(model, photos, out, tags, overlays=True).written == 1
    assert (read_mask(out / "a.png") == 2).all() and (read_mask(out / "c.png") == 2).all()
    text = " ".join(capsys.readouterr().err.split())
    assert "2 masks corrected or written by another program (a.png, …) are kept. --overwrite replaces them" in text
    assert predict_folder(model, photos, out, tags, overwrite=True).written == 3


def test_masks_of_other_images_with_the_same_name(model, photos, tmp_path):
    """Only the pixels of an image count, not the rest of its file."""
    out = tmp_path / "masks"
    predict_folder(model, photos, out)
    before = (out / "a.png").read_bytes()
    with Image.open(photos / "a.png") as image:
        image.save(photos / "a.png", dpi=(300, 300))
    assert predict_folder(model, photos, out).written == 0
    shutil.copy(photos / "c.png", photos / "a.png")
    with pytest.raises(CianError, match=r"masks/a\.png: belongs to another image than .*photos/a\.png\. Remove"):
        predict_folder(model, photos, out)
    assert (out / "a.png").read_bytes() == before
    (out / "a.png").unlink()
    assert predict_folder(model, photos, out).written == 1


def test_masks_of_two_settings_in_one_folder(model, photos, tmp_path):
    """A mask that --overwrite did not replace is still known to be of other settings."""
    out, other = tmp_path / "masks", {"predict.scales": [0.5]}
    predict_folder(model, photos, out)
    assert predict_folder(model, photos / "a.png", out, settings=other, overwrite=True).written == 1
    with pytest.raises(CianError, match="was made with another model or other settings"):
        predict_folder(model, photos, out, settings=other)
    assert predict_folder(model, photos, out, settings=other, overwrite=True).written == 3
    assert predict_folder(model, photos, out, settings=other).written == 0


def test_found_csv_leaves_out_masks_of_other_settings(model, photos, tmp_path, monkeypatch):
    """Also where it is known what they show, so that they are not read again."""
    monkeypatch.setattr("cian.data.known_files._FRESH_NS", 0)
    out = tmp_path / "masks"
    predict_folder(model, photos, out)
    predict_folder(model, photos, out)
    predict_folder(model, photos / "a.png", out, settings={"predict.scales": [0.5]}, overwrite=True)
    assert {row[0] for row in found(out)} <= {"image", "a"}


@pytest.mark.parametrize("content", [b"", b"no network"])
def test_fast_works_beside_a_damaged_onnx_file(model, photos, tmp_path, content):
    copy = Path(shutil.copytree(model, tmp_path / "model"))
    (copy / "model.onnx").write_bytes(content)
    assert predict_folder(copy, photos, tmp_path / "masks", fast=True).written == 3


def test_new_images_beside_masks_of_other_settings_are_refused(model, photos, tmp_path):
    out = tmp_path / "masks"
    predict_folder(model, photos / "a.png", out)
    with pytest.raises(CianError, match=r"a\.png: was made with another model or other settings"):
        predict_folder(model, photos / "c.png", out, settings={"predict.scales": [0.5]})
    assert not (out / "c.png").exists()
    assert predict_folder(model, photos / "c.png", out).written == 1


def test_a_mask_whose_note_is_not_understood_is_kept(model, photos, tmp_path):
    out = tmp_path / "masks"
    predict_folder(model, photos, out)
    for name, text in (("a.png", "hello"), ("c.png", '{"made_by": "a later version"}')):
        write_mask(out / name, np.full((30, 40), 2, np.uint8), text)
    assert predict_folder(model, photos, out).written == 0
    assert (read_mask(out / "a.png") == 2).all() and (read_mask(out / "c.png") == 2).all()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems' names are Unicode")
def test_file_names_that_are_not_text(model, photos, tmp_path):
    shutil.copy(photos / "a.png", os.fsencode(photos) + b"/\xe9t\xe9.png")
    with pytest.raises(CianError, match=r"\\udce9t\\udce9\.png: the file name is not valid text\. Rename it"):
        predict_folder(model, photos, tmp_path / "masks")
    assert not (tmp_path / "masks").exists()


def test_fast_is_a_set_of_settings_that_others_override(model, photos, tmp_path, monkeypatch, capsys):
    asked = []
    original = folder.segment_logits
    monkeypatch.setattr(folder, "segment_logits", lambda *args: (asked.append(args[2]), original(*args))[1])
    predict = ("predict", "--model", model, "--images", photos, "--fast")
    assert here(monkeypatch, *predict, "--out", tmp_path / "fast") == 0
    assert here(monkeypatch, *predict, "--out", tmp_path / "set", "--set", "predict.mirror=true") == 0
    assert [(each.scales, each.mirror) for each in asked] == [((1.0,), False)] * 3 + [((1.0,), True)] * 3
    assert {each.crf.iterations for each in asked} == {folder.FAST["predict.crf.iterations"]}


def test_a_mask_that_claims_too_many_pixels(model, photos, tmp_path, monkeypatch, capsys):
    """Pillow refuses it when it is opened, with an error of its own."""
    assert here(monkeypatch, "predict", "--model", model, "--images", photos, "--out", tmp_path / "masks") == 0
    mask = next((tmp_path / "masks").rglob("*.png"))
    content = mask.read_bytes()
    head = b"IHDR" + b"\0\0\xc3\x50" * 2 + content[24:29]  # 50,000 x 50,000
    mask.write_bytes(content[:12] + head + zlib.crc32(head).to_bytes(4, "big") + content[33:])
    here(monkeypatch, "predict", "--model", model, "--images", photos, "--out", tmp_path / "masks")
    assert mask.name in capsys.readouterr().err
