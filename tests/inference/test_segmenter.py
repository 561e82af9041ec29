from __future__ import annotations

import json
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from huggingface_hub.utils import RepositoryNotFoundError
from PIL import Image

from cian import CianError, Segmenter, load
from cian.config import CrfConfig, load_config
from cian.crf.dense import dense_crf
from cian.files import write_json
from cian.inference.decide import border, label_map, probabilities
from cian.inference.logits import _tiles, multi_scale_logits, segment_logits
from cian.network import build_network
from tests.helpers import TINY

NAMES = ("background", "Katze", "犬")


@pytest.fixture(scope="module")
def config():
    settings = {"predict.scales": [0.75, 1.0], "predict.crf.iterations": 2, "predict.own_threshold": 0}
    return load_config(None, {**TINY, **settings})


@pytest.fixture(scope="module")
def segmenter(config):
    torch.manual_seed(0)
    network = build_network(config, 3)
    torch.nn.init.normal_(network.head.weight, std=1)
    torch.nn.init.ones_(network.affinity.norm.weight)
    return Segmenter(network, config, NAMES)


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (41, 60, 3), dtype=np.uint8)


def test_prediction_has_the_size_of_the_image(segmenter, image):
    result = segmenter.predict(image)
    assert result.mask.shape == (41, 60) and result.mask.dtype == np.uint8
    assert result.probabilities.shape == (3, 41, 60)
    np.testing.assert_allclose(result.probabilities.sum(0), 1, atol=1e-4)
    assert np.array_equal(result.probabilities.argmax(0), result.mask)
    assert result.overlay().shape == image.shape
    assert set(result.classes) <= set(NAMES[1:])


def test_tiles_have_no_seams(segmenter, monkeypatch):
    """What looks at each pixel alone is the same in tiles; what depends on the tile goes over from one to the next."""
    from cian.inference import logits as inference

    image = np.random.default_rng(1).integers(0, 256, (300, 517, 3), dtype=np.uint8)
    settings = segmenter.config.predict.model_copy(update={"tile": 128})

    def colours(network, part, scales, mirror):
        assert max(part.shape[:2]) <= 128
        return torch.from_numpy(part.copy()).permute(2, 0, 1).float()

    monkeypatch.setattr(inference, "multi_scale_logits", colours)
    monkeypatch.setattr(inference, "upsample", lambda logits, size, backbone: logits)
    tiled = segment_logits(segmenter.network, image, settings)
    torch.testing.assert_close(tiled, torch.from_numpy(image).permute(2, 0, 1).float(), rtol=1e-5, atol=1e-3)

    number = iter(range(1000))
    monkeypatch.setattr(
        inference, "multi_scale_logits", lambda n, part, s, m: torch.full((1, *part.shape[:2]), float(next(number) % 2))
    )
    stripes = segment_logits(segmenter.network, image[:100], settings)[0]  # 0, 1, 0, … from left to right
    assert stripes.min() == 0 and stripes.max() == 1 and stripes.diff(dim=1).abs().max() < 1.5 / 32


def test_tile_weights_sum_to_one_at_every_pixel():
    for side in range(100, 700, 3):
        total = np.zeros(side)
        for start, end, weights in _tiles(side, 128):
            assert len(weights) == end - start <= 128
            total[start:end] += weights
        np.testing.assert_allclose(total, 1, atol=1e-5, err_msg=str(side))


def test_tiles_of_a_network(segmenter):
    image = np.random.default_rng(2).integers(0, 256, (100, 300, 3), dtype=np.uint8)
    settings = segmenter.config.predict
    tiled = segment_logits(segmenter.network, image, settings.model_copy(update={"tile": 128}))
    whole = segment_logits(segmenter.network, image, settings)
    assert tiled.shape == whole.shape == (3, 100, 300) and tiled.isfinite().all()
    jumps = tiled.diff(dim=2).abs().mean((0, 1))  # (299,), from each column to the next
    borders = torch.tensor([86, 128, 172, 214]) - 1  # tiles start at 0, 86 and 172
    assert jumps[borders].max() < 4 * jumps.median()
    assert not torch.equal(tiled, whole)


def test_tags_filter_what_may_appear(segmenter, image):
    everything = segmenter.predict(image)
    assert len(np.unique(everything.mask)) > 1
    result = segmenter.predict(image, tags=["犬"])
    assert set(np.unique(result.mask)) <= {0, 2}
    assert result.probabilities[1].max() == 0
    assert segmenter.predict(image, tags=[]).mask.max() == 0
    with pytest.raises(CianError, match="Its classes: Katze, 犬"):
        segmenter.predict(image, tags=["dog"])


def test_mirrored_image_gives_the_mirrored_logits(segmenter, image):
    settings = segmenter.config.predict
    logits = segment_logits(segmenter.network, image, settings)
    mirrored = segment_logits(segmenter.network, image[:, ::-1], settings)
    torch.testing.assert_close(mirrored.flip(2), logits, rtol=1e-3, atol=1e-3 * float(logits.abs().max()))


def test_scales_are_averaged_with_their_maximum(segmenter, image):
    """Where all scales give the same grid, the fused map is the mean of the maps and their maximum."""
    one = multi_scale_logits(segmenter.network, image, [1.0], False)
    other = multi_scale_logits(segmenter.network, image, [1.01], False)
    assert one.shape == other.shape
    both = multi_scale_logits(segmenter.network, image, [1.0, 1.01], False)
    torch.testing.assert_close(both, (one + other + torch.maximum(one, other)) / 3, rtol=1e-4, atol=1e-4)


def test_probabilities_without_crf_are_the_softmax(image):
    logits = torch.randn(3, 41, 60)
    np.testing.assert_allclose(probabilities(logits, image, None, 0, None), logits.softmax(0).numpy(), atol=1e-6)
    off = CrfConfig(iterations=0)
    np.testing.assert_allclose(probabilities(logits, image, None, 0, off), logits.softmax(0).numpy(), atol=1e-6)


def unsure(object_odds: float, ground_odds: float) -> torch.Tensor:
    """Logits (3, 41, 60) of a picture whose left quarter is more like an object than the rest."""
    odds = torch.full((41, 60), ground_odds)
    odds[:, :15] = object_odds
    return torch.stack([torch.zeros(41, 60), odds, torch.full((41, 60), -50.0)])


def test_border_is_where_the_picture_divides():
    """Between the two kinds of pixels that a picture has, no further than allowed from where both classes are as
    probable, and there where it shows no object for sure."""
    assert -1 < border(unsure(1.6, -1.0), 2.5) < 1.6
    assert 0.5 < border(unsure(2.0, 0.5), 2.5) < 2.0
    assert -2 <= border(unsure(9.0, -9.0), 2) <= 2
    assert border(unsure(-0.5, -2.0), 2.5) == border(unsure(1.4, -2.0), 2.5) == 0  # it is not sure of any
    assert border(unsure(1.0, -1.0)[:1], 2.5) == 0  # background alone


def test_own_threshold_moves_the_border(image):
    logits = unsure(2.0, 0.5)
    assert (probabilities(logits, image, None, 0, None).argmax(0) == 1).all()
    mask = probabilities(logits, image, None, 2.5, None).argmax(0)
    assert (mask[:, :15] == 1).all() and (mask[:, 15:] == 0).all()
    crf = CrfConfig(iterations=5)
    moved = logits.clone()
    moved[0] += border(logits, 2.5)
    expected = probabilities(moved, image, None, 0, crf)
    np.testing.assert_allclose(probabilities(logits, image, None, 2.5, crf), expected, atol=1e-6)
    assert logits[0].max() == 0  # those of the caller stay
    logits[2] = 5.0  # a class that is not among the tags has no say
    mask = probabilities(logits, image, np.array([True, True, False]), 2.5, None).argmax(0)
    assert (mask[:, :15] == 1).all() and (mask[:, 15:] == 0).all()


def test_crf_leaves_out_hopeless_classes_alone(image):
    """Half of the classes are nowhere near the best: the CRF of the others finds what that of all finds."""
    crf = CrfConfig(iterations=5)
    coarse = torch.randn(1, 8, 4, 6, generator=torch.Generator().manual_seed(0)) * 6
    logits = torch.nn.functional.interpolate(coarse, image.shape[:2], mode="bilinear")[0]
    top = logits[:4].amax(0)
    logits[4:] = torch.minimum(logits[4:], top - 5.6)
    logits[7, 20, 30] = top[20, 30] - 5.4  # not hopeless at one pixel
    found = probabilities(logits, image, None, 0, crf)
    expected = dense_crf(image, -logits.numpy(), gaussian=crf.gaussian, bilateral=crf.bilateral, iterations=5)
    assert expected[4:].any(axis=(1, 2)).all()
    assert found.any(axis=(1, 2)).tolist() == [True] * 4 + [False] * 3 + [True]
    assert np.abs(found - expected).mean() < 1e-3
    assert (found.argmax(0) == expected.argmax(0)).mean() > 0.999
    logits[7] = logits[0] - 9  # allowed, but hopeless
    allowed = np.array([True] + [False] * 6 + [True])
    assert probabilities(logits, image, allowed, 0, crf)[1:7].max() == 0
    assert allowed.tolist() == [True] + [False] * 6 + [True]


def test_large_image_is_worked_on_at_a_bounded_size(segmenter, tmp_path):
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((1600, 1200)).save(tmp_path / "large.jpg")
    result = segmenter.predict(tmp_path / "large.jpg")
    assert result.mask.shape == (1200, 1600) and result.probabilities.shape == (3, 384, 512)
    smaller = np.asarray(Image.fromarray(result.mask).resize((512, 384), Image.Resampling.NEAREST))
    assert (smaller == result.probabilities.argmax(0)).mean() > 0.95


def test_label_map_enlarges_without_blending_classes():
    result = np.zeros((3, 2, 2), np.float32)
    result[0, :, 0] = result[2, :, 1] = 1
    assert np.array_equal(label_map(result, (2, 2)), [[0, 2], [0, 2]])
    assert np.array_equal(label_map(result, (4, 8)), [[0] * 4 + [2] * 4] * 4)


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (300, 7)])
def test_any_size(segmenter, shape):
    assert segmenter.predict(np.zeros((*shape, 3), np.uint8)).mask.shape == shape


def test_save_and_load(tmp_path, config, segmenter, image):
    from safetensors.torch import save_file

    from cian.config import dump_config

    save_file({k: v.contiguous() for k, v in segmenter.network.state_dict().items()}, tmp_path / "model.safetensors")
    tree = dump_config(config)
    tree["seeds"]["raised_over"] = 0.3  # a setting of an earlier version
    write_json(tmp_path / "config.json", {"format": 1, "cian": "0", "classes": list(NAMES), "config": tree})
    loaded = load(tmp_path, "cpu")
    assert loaded.class_names == NAMES
    assert loaded.digest() == segmenter.digest()
    np.testing.assert_array_equal(loaded.predict(image).mask, segmenter.predict(image).mask)


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
    write_json(tmp_path / "config.json", {"format": 99})
    with pytest.raises(CianError, match="format 99"):
        load(tmp_path)


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
    """Not for a mistyped folder."""
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: pytest.fail("asked"))
    (tmp_path / "runs").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CianError, match="no model here"):
        load(source)


@pytest.mark.parametrize("image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)])
def test_refuses_what_is_no_picture(segmenter, image):
    with pytest.raises(CianError, match="uint8 RGB"):
        segmenter.predict(image)


def test_model_of_another_version_is_one_message(segmenter, tmp_path):
    segmenter.save(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    saved["config"]["affinity"]["heads"] = 4
    write_json(tmp_path / "config.json", saved)
    with pytest.raises(CianError, match=r"affinity\.heads.*was saved by cian"):
        load(tmp_path)


def test_pillow_images(segmenter, image, tmp_path):
    """Upright, as files are read."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(image).save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as picture:
        result = segmenter.predict(picture, tags="Katze")
    assert result.mask.shape == (60, 41) and set(result.classes) <= {"Katze"}
    np.testing.assert_array_equal(result.mask, segmenter.predict(tmp_path / "a.png", tags=["Katze"]).mask)
    with pytest.raises(CianError, match=r"uint8 \(0, 4, 3\); give"):
        segmenter.predict(np.zeros((0, 4, 3), np.uint8))
