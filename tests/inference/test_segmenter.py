"""Loading a trained model, and predicting one image or many."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import threading
import warnings
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from huggingface_hub.utils import RepositoryNotFoundError
from PIL import Image

from cian import CianError, Segmenter, load
from cian.build import build_network
from cian.config import dump_config, load_config
from cian.files import write_json
from tests.helpers import TINY
from tests.inference.helpers import NAMES


def test_prediction_has_the_size_of_the_image(segmenter, image):
    result = segmenter.predict(image)
    assert result.mask.shape == (41, 60) and result.mask.dtype == np.uint8
    assert result.probabilities.shape == (3, 41, 60)
    np.testing.assert_allclose(result.probabilities.sum(0), 1, atol=1e-4)
    assert np.array_equal(result.probabilities.argmax(0), result.mask)
    assert result.overlay().shape == image.shape
    assert set(result.classes) <= set(NAMES[1:])


def test_many_images_give_what_each_alone_gives(segmenter, tmp_path):
    """Of any kind and size, in order."""
    rng = np.random.default_rng(3)
    arrays = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in ((41, 60), (60, 41), (41, 60), (30, 30))]
    Image.fromarray(arrays[1]).save(tmp_path / "b.png")
    images = [arrays[0], tmp_path / "b.png", Image.fromarray(arrays[2]), arrays[3], str(tmp_path / "b.png")]
    alone = [segmenter.predict(image, tags=["犬"]) for image in images]
    together = list(segmenter.predict(iter(images), tags=["犬"]))
    assert len(together) == len(alone)
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one.image, other.image)
        np.testing.assert_array_equal(one.mask, other.mask)
        np.testing.assert_allclose(one.probabilities, other.probabilities, atol=1e-5)
    stack = np.stack([arrays[0], arrays[2]])
    for one, other in zip(segmenter.predict(stack), (0, 2), strict=True):
        np.testing.assert_array_equal(one.mask, segmenter.predict(arrays[other]).mask)
    assert list(segmenter.predict([])) == []


def test_many_images_are_read_as_they_are_needed(segmenter, image):
    """An endless stream of images gives predictions, and ends with the iterator."""
    read = itertools.count()
    predictions = segmenter.predict(image for _ in read)
    for _ in range(3):
        next(predictions)
    threads = threading.active_count()
    predictions.close()
    assert next(read) < 50 and threading.active_count() <= threads


def test_an_unreadable_image_among_many(segmenter, image, tmp_path):
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    predictions = segmenter.predict([image, tmp_path / "bad.jpg", image])
    assert next(predictions).mask.shape == (41, 60)
    with pytest.raises(CianError, match=r"bad\.jpg: not an image"):
        next(predictions)


def test_wrong_tags_are_refused_before_any_image_is_read(segmenter):
    with pytest.raises(CianError, match="tag 'dog'"):
        segmenter.predict(iter(lambda: pytest.fail("read"), 0), tags=["dog"])


def test_tags_filter_what_may_appear(segmenter, image):
    everything = segmenter.predict(image)
    assert len(np.unique(everything.mask)) > 1
    result = segmenter.predict(image, tags=["犬"])
    assert set(np.unique(result.mask)) <= {0, 2}
    assert result.probabilities[1].max() == 0
    assert segmenter.predict(image, tags=[]).mask.max() == 0
    with pytest.raises(CianError, match="Its classes: Katze, 犬"):
        segmenter.predict(image, tags=["dog"])


def test_large_image_is_worked_on_at_a_bounded_size(segmenter, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((1600, 1200)).save(tmp_path / "large.jpg")
    result = segmenter.predict(tmp_path / "large.jpg")
    assert result.mask.shape == (1200, 1600) and result.probabilities.shape == (3, 384, 512)
    smaller = np.asarray(Image.fromarray(result.mask).resize((512, 384), Image.Resampling.NEAREST))
    assert (smaller == result.probabilities.argmax(0)).mean() > 0.95


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (300, 7)])
def test_any_size(segmenter, shape):
    assert segmenter.predict(np.zeros((*shape, 3), np.uint8)).mask.shape == shape


def test_save_and_load(tmp_path, config, segmenter, image):
    from safetensors.torch import save_file

    save_file({k: v.contiguous() for k, v in segmenter.network.state_dict().items()}, tmp_path / "model.safetensors")
    tree = dump_config(config)
    tree["seeds"]["raised_over"] = 0.3  # a setting of an earlier version
    write_json(tmp_path / "config.json", {"format": 1, "cian": "0", "classes": list(NAMES), "config": tree})
    loaded = load(tmp_path, "cpu")
    assert loaded.class_names == NAMES
    assert loaded.digest() == segmenter.digest()
    np.testing.assert_array_equal(loaded.predict(image).mask, segmenter.predict(image).mask)


def test_weights_that_changed_since_they_were_saved_are_refused(tmp_path, segmenter):
    """Also where they are still numbers: zeros at the end of a file that was cut and filled up."""
    segmenter.save(tmp_path)
    assert load(tmp_path, "cpu").digest() == segmenter.digest()
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000] + bytes(1000))
    with pytest.raises(
        CianError, match=r"model\.safetensors: damaged, or not of the same model as config\.json\. Copy"
    ):
        load(tmp_path, "cpu")
    description = json.loads((tmp_path / "config.json").read_text())
    del description["weights"]  # as the message says
    write_json(tmp_path / "config.json", description)
    load(tmp_path, "cpu")


def test_weights_that_are_too_large_are_named(tmp_path, segmenter, image):
    segmenter.save(tmp_path)
    loaded = load(tmp_path, "cpu")
    for parameter in loaded.network.parameters():
        parameter.data.fill_(1e30)
    with pytest.raises(CianError, match="NaN or infinite: its weights are damaged"):
        loaded.predict(image)


def test_paths_of_the_machine_that_trained_stay_behind(segmenter, config, tmp_path):
    places = {"backbone.weights": "/secret/a", "seeds.folder": "/secret/b", "seeds.background": "/secret/c"}
    trained = load_config(None, {**TINY, **places, "data.images": "/secret/d"})
    Segmenter(segmenter.network, trained, NAMES).save(tmp_path)
    text = (tmp_path / "config.json").read_text(encoding="utf-8")
    assert "secret" not in text
    assert load(tmp_path).config.predict == trained.predict


def test_load_errors(tmp_path):
    with pytest.raises(CianError, match="no model here"):
        load(tmp_path / "nowhere")
    for content in ({"format": 1}, []):
        write_json(tmp_path / "config.json", content)
        with pytest.raises(CianError, match=r"config\.json: is not the configuration of a trained model"):
            load(tmp_path)
    for wrong in ({"classes": 5, "config": {}}, {"classes": [1], "config": {}}, {"classes": ["a"], "config": []}):
        write_json(tmp_path / "config.json", {"format": 1, **wrong})
        with pytest.raises(CianError, match=r"config\.json: damaged \(.*\)\. Copy the model again, or give another"):
            load(tmp_path)
    write_json(tmp_path / "config.json", {"format": 99, "cian": "9.0", "classes": [], "config": {}})
    with pytest.raises(CianError, match=r"has format 99, .* reads format 1\. The model was saved by cian 9\.0"):
        load(tmp_path)


def test_a_run_without_a_model_is_named(tmp_path):
    (tmp_path / "config.yaml").touch()
    with pytest.raises(CianError, match=r"this run has no model yet\. Let it finish: cian run --out"):
        load(tmp_path)


def test_loading_and_predicting_import_no_trainer(segmenter, tmp_path):
    segmenter.save(tmp_path)
    code = (
        "import sys, numpy, cian\n"
        "cian.load(sys.argv[1], 'cpu').predict(numpy.zeros((20, 30, 3), numpy.uint8))\n"
        "print({'accelerate', 'cian.training.trainer'} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True)
    assert result.stdout == "set()\n"


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OSError("Got: ConnectError: no network\nAn error happened while …"), "could not be reached"),
        (RepositoryNotFoundError("404 Client Error.\n\nNot found.", response=Mock()), "has no such model"),
    ],
)
def test_hub_that_has_no_model(monkeypatch, tmp_path, error, says):
    def download(*args, **kwargs):
        raise error

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CianError, match=f"no such model folder here, and the Hugging Face hub {says}") as stop:
        load("runs/frist")
    reason = str(error).partition("\n")[0]
    assert f"{reason})" in str(stop.value) and "\n" not in str(stop.value)


@pytest.mark.parametrize("source", ["runs/frist", "runs/first/model", "model", "a b/c", "/owner/name", "owner/"])
def test_hub_is_asked_for_a_hub_id_only(monkeypatch, tmp_path, source):
    """The hub is not asked for a folder whose name is mistyped."""
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: pytest.fail("asked"))
    (tmp_path / "runs").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CianError, match="no model here"):
        load(source)


@pytest.mark.parametrize(
    ("image", "says"),
    [
        (np.zeros((4, 4), np.uint8), r"uint8 array of shape \(4, 4\)"),
        (np.zeros((4, 4, 3), np.float32), r"float32 array of shape \(4, 4, 3\)"),
        (torch.zeros(3, 4, 4), r"float32 tensor of shape \(3, 4, 4\)"),
        (None, "NoneType"),
        (7, "int"),
        (b"photo.jpg", "bytes"),
        (bytearray(b"photo.jpg"), "bytearray"),
        ({"image": "photo.jpg"}, "dict"),
    ],
)
def test_what_is_not_an_image_is_refused(segmenter, image, says):
    with pytest.raises(CianError, match=rf"image: .*{says}\. Give a path, a Pillow image or"):
        segmenter.predict(image)
    if image is not None:
        with pytest.raises(CianError, match=says):
            list(segmenter.predict([image]))


def test_an_array_that_may_not_be_written(segmenter, image):
    """Such as the array of a Pillow image."""
    before = image.copy()
    image.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        segmenter.predict(image)
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize(
    ("classes", "says"),
    [
        (["background", "cat", "cat"], "class 'cat' occurs twice"),
        (["background", "cat", "a\x1b[31mb"], r"'a\\x1b\[31mb' is not a class name"),
        (["background", "cat", "Background"], "'Background' is reserved"),
    ],
)
def test_class_names_of_a_model_are_checked_as_those_of_tags(segmenter, tmp_path, classes, says):
    segmenter.save(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    write_json(tmp_path / "config.json", {**saved, "classes": classes})
    with pytest.raises(CianError, match=rf"config\.json: .*{says}.*\. Copy the model again"):
        load(tmp_path)


def test_model_of_another_version_is_one_message(segmenter, tmp_path):
    segmenter.save(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    saved["config"]["affinity"]["heads"] = 4
    write_json(tmp_path / "config.json", saved)
    with pytest.raises(CianError, match=r"affinity\.heads.*was saved by cian"):
        load(tmp_path)


def test_pillow_images(segmenter, image, tmp_path):
    """Pillow images are turned upright, as files are."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(image).save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as upright:
        result = segmenter.predict(upright, tags="Katze")
    assert result.mask.shape == (60, 41) and set(result.classes) <= {"Katze"}
    np.testing.assert_array_equal(result.mask, segmenter.predict(tmp_path / "a.png", tags=["Katze"]).mask)
    with pytest.raises(CianError, match=r"shape \(0, 4, 3\) has no pixels"):
        segmenter.predict(np.zeros((0, 4, 3), np.uint8))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"classes": ["background", *map(str, range(5000))]}, "classes = 5001, but the weights have"),
        ({"hidden": 16_384}, r"affinity\.hidden = 16384, but the weights have"),
        ({"mode": "none"}, r"affinity\.hidden = None, but the weights have"),
    ],
)
def test_a_configuration_that_the_weights_do_not_fit_is_refused_before_it_is_built(
    segmenter, tmp_path, monkeypatch, change, says
):
    segmenter.save(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    if "classes" in change:
        saved |= change
    else:
        saved["config"]["affinity"] |= change
    write_json(tmp_path / "config.json", saved)
    monkeypatch.setattr("cian.inference.segmenter.build_network", Mock(side_effect=AssertionError("it was built")))
    with pytest.raises(CianError, match=rf"config\.json: {says}.*Take both files from the same model"):
        load(tmp_path)


def test_a_backbone_that_the_weights_do_not_fit_is_refused_before_it_takes_memory(segmenter, tmp_path, monkeypatch):
    segmenter.save(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    saved["config"]["backbone"]["name"] = "resnet18"
    write_json(tmp_path / "config.json", saved)

    def build(*args: object, **options: object) -> object:
        assert torch.empty(0).device.type == "meta"
        return build_network(*args, **options)

    monkeypatch.setattr("cian.inference.segmenter.build_network", build)
    with pytest.raises(CianError, match=r"config\.json: backbone resnet18 has backbone.* no such weights.*Take both"):
        load(tmp_path)
