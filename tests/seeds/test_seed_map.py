from __future__ import annotations

import sys
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cian import CianError
from cian.backbone.pretrained import build_backbone
from cian.config import CrfConfig, SeedConfig
from cian.data.table import Table
from cian.seeds.cam import class_activation_maps, object_cells
from cian.seeds.cell_scores import CellScores, at_cells
from cian.seeds.classifier import Classifier, classification_loss
from cian.seeds.estimate_cells import some_of_each_class
from cian.seeds.saliency import SaliencyFolder, SaliencyNetwork, saliency_source
from cian.seeds.seed_map import along_edges, seed_map
from cian.seeds.similarity import spread
from cian.seeds.threshold import otsu, seed_threshold
from tests.helpers import ONNX_DOUBLE, ONNX_FLOAT, shared, write_onnx

SETTINGS = SeedConfig(
    background_below=0.6, salient_above=0.6, salient_below=0.3, margin=0.1, crf=CrfConfig(iterations=0)
)


def seeds_of(cams, objects, tags, saliency=None, together=()) -> list:
    image = np.zeros((*cams.shape[1:], 3), np.uint8)
    same = np.eye(len(tags), dtype=bool)
    for i, j in together:
        same[i, j] = same[j, i] = True
    return seed_map(image, cams, objects, np.array(tags, int), same, SETTINGS, saliency).tolist()


def test_certain_pixels_are_labelled_and_the_rest_is_ignored():
    """Two tags, 3 and 5; one column each: background, uncertain, class 3, class 5, contradictory."""
    cams = np.array([[[0.1, 0.3, 0.9, 0.2, 0.8]], [[0.0, 0.1, 0.1, 0.7, 0.75]]], np.float32)
    assert seeds_of(cams, cams, [3, 5]) == [[0, 255, 3, 5, 255]]


def test_no_margin_between_classes_that_are_often_together():
    """3 and 5 are, 7 is not. One column each: background, 3 and 5 disputed twice, 3 and 7 disputed, 7."""
    cams = np.array([[[0, 0.9, 0.8, 0.9, 0.1]], [[0, 0.85, 0.85, 0.85, 0.1]], [[0, 0.1, 0.1, 0.88, 0.9]]], np.float32)
    assert seeds_of(cams, cams, [3, 5, 7], together=[(0, 1)]) == [[0, 3, 5, 255, 7]]
    assert seeds_of(cams, cams, [3, 5, 7]) == [[0, 255, 255, 255, 7]]


def test_pixels_that_a_person_has_labelled_keep_their_label():
    """One tag. The map says background, object, object, uncertain; the person says 3 (the tag), 0, nothing, 7."""
    image, cams = np.zeros((1, 4, 3), np.uint8), np.array([[[0.0, 0.9, 0.9, 0.3]]], np.float32)
    known = np.array([[3, 0, 255, 7]], np.uint8)
    found = seed_map(image, cams, cams, np.array([3]), np.eye(1, dtype=bool), SETTINGS, known=known)
    assert found.tolist() == [[3, 0, 3, 7]]


def test_labels_of_a_person_pull_what_looks_the_same():
    """The map calls a white bar an object. A person calls most of it background, so all of it is."""
    image, cams = np.zeros((32, 64, 3), np.uint8), np.zeros((1, 32, 64), np.float32)
    image[10:22], cams[0, 10:22] = 255, 0.5
    known = np.full((32, 64), 255, np.uint8)
    known[12:20] = 0
    settings = SETTINGS.model_copy(update={"crf": SeedConfig().crf})
    given = image, cams, cams, np.array([1]), np.eye(1, dtype=bool), settings
    assert (seed_map(*given)[10:22] == 1).all()
    assert (seed_map(*given, known=known) == 0).all()


def test_object_maps_say_where_and_cams_say_what():
    """Of two tags: an object that the CAM of the second calls its own; what the CAM likes beside it; background."""
    cams = np.array([[[0.1, 0.2, 0.0, 0.0]], [[0.9, 0.6, 1.0, 0.0]]], np.float32)
    objects = np.array([[[0.8, 0.9, 0.3, 0.1]], [[0.8, 0.7, 0.3, 0.1]]], np.float32)
    assert seeds_of(cams, objects, [1, 2]) == [[2, 2, 255, 0]]


def test_saliency_decides_where_no_cam_contradicts():
    cams = np.array([[[0.0, 0.4, 0.9, 0.9, 0.0]]], np.float32)
    saliency = np.array([[0.1, 0.1, 0.1, 0.8, 0.8]], np.float32)
    assert seeds_of(cams, cams, [1], saliency) == [[0, 0, 255, 1, 255]]


def test_threshold_is_otsus():
    """Against its definition: of all thresholds, the one with the least variance within the two classes."""
    rng = np.random.default_rng(0)
    for low, high in ((0.2, 0.7), (0.1, 0.3), (0.6, 0.9)):
        values = np.concatenate([rng.normal(low, 0.05, 700), rng.normal(high, 0.08, 300)]).clip(0, 1)
        within = {
            t: sum(len(part) * part.var() for part in (values[values < t], values[values >= t]))
            for t in np.arange(1, 64) / 64
            if values.min() < t <= values.max()
        }
        assert abs(otsu(values.reshape(20, 50), 0, 1) - min(within, key=within.__getitem__)) <= 1 / 64 + 1e-9


def bimodal(low: float, high: float) -> np.ndarray:
    """(1, 20, 50), a third of it high."""
    values = np.random.default_rng(0).normal([low] * 670 + [high] * 330, (high - low) / 6)
    return values.clip(0, 1).astype(np.float32).reshape(1, 20, 50)


@pytest.mark.parametrize(
    ("low", "high", "factor"), [(0.05, 0.5, 1.25), (0.3, 0.9, 1.25), (0.6, 0.9, 1.12), (0.82, 0.98, 1)]
)
def test_threshold_is_over_otsus_but_never_over_all(low, high, factor):
    objects = bimodal(low, high)
    assert seed_threshold(objects[0], 1.25) / otsu(objects, 0, 1) == pytest.approx(factor, abs=0.03)
    assert seed_threshold(objects[0], 1) == otsu(objects, 0, 1)
    image, settings = np.zeros((20, 50, 3), np.uint8), SeedConfig(crf=CrfConfig(iterations=0))
    assert {0, 1} <= set(
        np.unique(seed_map(image, np.ones_like(objects), objects, np.array([1]), np.eye(1, dtype=bool), settings))
    )


def test_low_object_maps_give_the_seeds_of_others_as_well():
    objects = np.linspace(0, 1, 200, dtype=np.float32).reshape(1, 10, 20) ** 2 * 0.8
    once, again = (seeds_of(np.ones_like(objects), scale * objects, [1]) for scale in (1.0, 0.5))
    same = np.mean(np.array(once) == again)
    assert same > 0.95 and set(np.unique(once)) == {0, 1, 255}  # bins of a histogram: not all the same


def test_flat_object_map_is_foreground():
    for height in (0.5, 1.0):
        flat = np.full((1, 4, 4), height, np.float32)
        assert set(np.unique(seeds_of(np.ones_like(flat), flat, [2]))) == {2}


def test_labels_follow_the_edges_of_the_image():
    """A red disc on grey, labelled by a square that reaches beyond it and leaves a part of it open."""
    y, x = np.mgrid[:60, :60]
    disc = (y - 30) ** 2 + (x - 30) ** 2 < 20**2
    image = np.where(disc[..., None], (200, 40, 40), (120, 120, 120)).astype(np.uint8)
    image += np.random.default_rng(0).integers(0, 6, image.shape, dtype=np.uint8)
    labels = np.full((60, 60), 2)  # open
    labels[:, 42:], labels[:10], labels[50:] = 0, 0, 0
    labels[14:46, 6:38] = 1
    found = along_edges(image, labels, np.ones((60, 60), int), 2, CrfConfig(iterations=10), np.zeros((60, 60), bool))
    distance = np.hypot(y - 30, x - 30) - 20  # edges are found to a pixel or two
    assert (found[distance < -1] == 1).mean() > 0.99 and (found[distance > 1] == 1).mean() < 0.01
    assert (found[distance > 1] == 0).mean() > 0.95


def test_what_the_edges_do_not_decide_stays_open():
    flat = np.full((40, 40, 3), 90, np.uint8)
    labels = np.full((40, 40), 3)
    labels[:, :4], labels[:, 36:] = 0, 2
    found = along_edges(
        flat, labels, np.full((40, 40), 2), 3, CrfConfig(iterations=3, bilateral=(3, 5, 3)), np.zeros((40, 40), bool)
    )
    assert (found[:, :4] == 0).all() and (found[:, 36:] == 2).all() and (found[:, 15:25] == 3).all()


def test_image_without_tags_is_background():
    none = np.zeros((0, 2, 3), np.float32)
    assert seeds_of(none, none, []) == [[0, 0, 0]] * 2


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    torch.manual_seed(0)
    model = Classifier(build_backbone("test_efficientnet", 8, "random"), 4).eval()
    with torch.no_grad():
        features, detail = model.backbone.forward_detail(torch.randn(8, 3, 33, 33))
    cells, fine = (part.flatten(2).transpose(1, 2) for part in (features, at_cells(detail, features)))  # (8, n, C)
    model.cells.estimate(list(cells), torch.eye(4).repeat(2, 1))
    cells, fine = cells.flatten(0, 1), fine.flatten(0, 1)
    model.cells.estimate_objectness(cells, fine, torch.arange(len(cells)) % 3 == 0)
    return model


def test_cams_are_of_the_tags_alone_and_in_range(classifier):
    image = np.random.default_rng(0).integers(0, 256, (37, 52, 3), dtype=np.uint8)
    settings = SeedConfig(scales=(1.0, 1.5))
    cams, objects = class_activation_maps(classifier, image, np.array([2, 4]), settings)
    for maps in (cams, objects):
        assert maps.shape == (2, 37, 52) and maps.dtype == np.float32
        assert maps.min() >= 0 and maps.max() <= 1 + 1e-6
    alone, object_alone = class_activation_maps(classifier, image, np.array([4]), settings)
    np.testing.assert_allclose(alone[0], cams[1], atol=1e-5)
    np.testing.assert_allclose(object_alone[0], objects[1], atol=1e-5)
    assert class_activation_maps(classifier, image, np.array([], int), settings)[0].shape == (0, 37, 52)


def test_cams_of_the_mirrored_image_are_mirrored(classifier):
    image = np.random.default_rng(0).integers(0, 256, (33, 49, 3), dtype=np.uint8)
    cams, _ = class_activation_maps(classifier, image, np.array([1, 3]), SeedConfig(scales=(1.0,)))
    mirrored, _ = class_activation_maps(classifier, image[:, ::-1], np.array([1, 3]), SeedConfig(scales=(1.0,)))
    np.testing.assert_allclose(mirrored[:, :, ::-1], cams, atol=1e-4)


def test_objectness_is_added_to_the_object_maps_alone(classifier):
    image = np.random.default_rng(0).integers(0, 256, (33, 49, 3), dtype=np.uint8)
    settings = SeedConfig(scales=(1.0,), mirror=False)
    without = deepcopy(classifier)
    without.cells.object_weight.zero_()
    without.cells.object_bias.zero_()
    same, objects = class_activation_maps(without, image, np.array([1]), settings)
    cams, changed = class_activation_maps(classifier, image, np.array([1]), settings)
    np.testing.assert_array_equal(same, cams)
    with torch.no_grad():
        pixels = classifier.backbone.grid.as_input(image, torch.device("cpu"))
        features, detail = classifier.backbone.forward_detail(pixels)
        _, likely = classifier.cells(features, at_cells(detail, features))
        likely = classifier.backbone.grid.upsample(likely, (33, 49))[0].numpy()
    wanted = objects + likely
    np.testing.assert_allclose(changed, wanted / wanted.max(), atol=1e-4)
    assert likely.std() > 0.1


@pytest.mark.parametrize("size", [(33, 49), (40, 52)])
def test_object_cells_lie_on_the_grid_of_the_features(classifier, size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    grid = classifier.backbone.grid
    pixels = grid.scaled(grid.as_input(image, torch.device("cpu")), 1.0)
    found = object_cells(classifier, image, np.array([1, 3]))
    assert found.shape == classifier.backbone(pixels).shape[2:]
    assert found.any() and not found.all()
    assert not object_cells(classifier, image, np.array([], int)).any()


def test_cell_scores_agree_with_their_equation():
    """Plain loops over cells, against `CellScores`."""
    rng = np.random.default_rng(0)
    cells = [rng.normal(0.5, 1, (n, 6)).astype(np.float32) for n in (5, 7, 4)]
    tags = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0]])  # nothing has the third tag
    x = np.concatenate(cells)
    center = x.mean(0)
    z = [[(cell - center) / np.linalg.norm(cell - center) for cell in part] for part in cells]
    everything = [cell for part in z for cell in part]
    mean = np.mean(everything, 0)
    moments = np.mean([np.outer(cell, cell) for cell in everything], 0)
    moments += 3.0 * np.trace(moments) / 6 * np.eye(6)
    expected = []
    for tag in range(3):
        own = [cell for part, has in zip(z, tags[:, tag], strict=True) if has for cell in part]
        expected.append(np.linalg.inv(moments) @ (0.1 * (np.mean(own, 0) if own else mean) - mean))
    scores = CellScores(6, 2, 3)
    scores.estimate([torch.from_numpy(part) for part in cells], torch.from_numpy(tags).float())
    fine = rng.normal(-1, 2, (len(x), 2)).astype(np.float32)
    features, detail = (torch.from_numpy(part.T[None, :, :, None].copy()) for part in (x, fine))
    found, likely = (part[0, :, :, 0].numpy() for part in scores(features, detail))  # (3, cells), (1, cells)
    wanted = np.maximum(0, np.array(expected) @ np.array(everything).T)
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    assert (wanted > 0).any()
    assert (likely == 0).all()

    objects = np.arange(len(x)) % 4 == 1
    scores.estimate_objectness(torch.from_numpy(x), torch.from_numpy(fine), torch.from_numpy(objects))
    y = []
    for cell, small in zip(everything, fine, strict=True):
        small = small - fine.mean(0)
        y.append(np.concatenate((cell, 2.0 * small / np.linalg.norm(small))))
    moments = np.mean([np.outer(both, both) for both in y], 0)
    moments += 3.0 * np.trace(moments) / 8 * np.eye(8)
    inside = np.mean([both for both, known in zip(y, objects, strict=True) if known], 0)
    outside = np.mean([both for both, known in zip(y, objects, strict=True) if not known], 0)
    direction = np.linalg.inv(moments) @ (inside - outside)
    low, high = direction @ outside, direction @ inside
    wanted = np.clip([(direction @ both - low) / (high - low) for both in y], 0, 1)
    again, likely = (part[0, :, :, 0].numpy() for part in scores(features, detail))
    np.testing.assert_allclose(likely[0], wanted, atol=1e-4)
    np.testing.assert_array_equal(again, found)
    assert wanted[objects].mean() > wanted[~objects].mean()


def test_what_all_images_show_scores_lower_than_what_few_show():
    """Images of three surfaces: most cells grass, the others of one of two kinds of animals."""
    torch.manual_seed(0)
    grass, cat, dog = torch.eye(8)[:3] * 4

    def cells(kind: torch.Tensor) -> torch.Tensor:
        return torch.cat([grass.expand(30, 8), kind.expand(10, 8)]) + 0.3 * torch.randn(40, 8)

    scores = CellScores(8, 1, 2)
    scores.estimate([cells(cat), cells(dog)] * 10, torch.tensor([[1.0, 0.0], [0.0, 1.0]] * 10))
    found = scores(torch.stack([grass, cat, dog]).T[None, :, :, None], torch.zeros(1, 1, 3, 1))[0][0, :, :, 0]
    assert found[:, 0].max() < 0.2 * found[:, 1:].min()
    assert found[0, 1] > found[0, 2] and found[1, 2] > found[1, 1]


def test_what_is_background_in_most_images_is_no_object():
    """Sky is called an object in the images of aeroplanes, wrongly, and background in all others."""
    torch.manual_seed(0)
    sky, *animals = torch.eye(8)[:5] * 4
    cells, objects = [], []
    for image in range(40):
        kind = image % 4
        cells += [sky.expand(12, 8), animals[kind].expand(4, 8)]
        objects += [kind == 0] * 12 + [True] * 4
    x = torch.cat(cells)
    x = x + 0.3 * torch.randn(x.shape)
    scores = CellScores(8, 1, 4)
    scores.center.copy_(x.mean(0))
    scores.estimate_objectness(x, torch.zeros(len(x), 1), torch.tensor(objects))
    likely = scores(torch.stack([sky, *animals]).T[None, :, :, None], torch.zeros(1, 1, 5, 1))[1].flatten()
    assert likely[0] < 0.3 and likely[1:].min() > 0.8


def test_objectness_stays_0_where_nothing_can_be_learned():
    scores = CellScores(4, 2, 1)
    for objects in (torch.zeros(9, dtype=torch.bool), torch.ones(9, dtype=torch.bool)):
        scores.estimate_objectness(torch.randn(9, 4), torch.randn(9, 2), objects)
        assert (scores(torch.randn(1, 4, 3, 3), torch.randn(1, 2, 3, 3))[1] == 0).all()


def test_spread_reaches_what_looks_alike_and_nothing_else():
    """Two surfaces; the activation is on a part of one of them."""
    surface = torch.zeros(8, 8)
    surface[2:6] = 1
    features = torch.stack([surface, 1 - surface])
    cam = torch.zeros(1, 8, 8)
    cam[0, 2:6, :2] = 1
    out = spread(cam, features, surface.expand(3, 8, 8), True)[0]
    assert torch.allclose(out[2:6], torch.ones(4, 8)) and float(out[:2].max()) == 0 == float(out[6:].max())


def test_spread_bounds_the_grid():
    out = spread(torch.rand(2, 4, 9), torch.randn(3, 100, 200), torch.randn(3, 400, 800), True)
    assert out.shape == (2, 32, 64)


def test_cells_come_from_some_images_of_each_class():
    """All images of few, about as many of each class of many."""
    tags = [[1] if i % 50 else [2] if i % 100 else [1, 3] for i in range(2000)]
    ids = [str(i) for i in range(2000)]
    table = Table.build(("a", "b", "c", "d"), ids, [Path(i) for i in ids], tags)
    assert some_of_each_class(table, 2000) == list(range(2000))
    rows = some_of_each_class(table, 100)
    assert rows == sorted(set(rows)) and len(rows) <= 100
    common, rare, beside, nowhere = table.select(rows).multi_hot().sum(0)
    assert (rare, beside, nowhere) == (20, 20, 0)  # all there are
    assert 34 <= common <= 34 + beside
    without = Table.build(
        ("a", "b", "c", "d"), ids, [Path(i) for i in ids], [tags[i] if i % 2 else [] for i in range(2000)]
    )
    rows = some_of_each_class(without, 100)  # images of no class say what background looks like
    assert sum(not len(without.tags(row)) for row in rows) == 50 and len(rows) <= 100


def test_logits_are_the_mean_of_the_maps(classifier):
    images = torch.randn(2, 3, 33, 33)
    with torch.no_grad():
        maps = classifier.head(classifier.backbone(images))
        torch.testing.assert_close(classifier(images), maps.mean((2, 3)), rtol=1e-4, atol=1e-5)


def test_classification_loss_leaves_background_out():
    logits = torch.zeros(1, 2)
    for tags in ([True, True, False], [False, True, False]):
        assert classification_loss(logits, torch.tensor([tags])).item() == pytest.approx(np.log(2), rel=1e-5)


def test_saliency_folder(tmp_path):
    Image.fromarray(np.full((4, 6), 51, np.uint8)).save(tmp_path / "a.png")
    saliency = SaliencyFolder(tmp_path)("a", np.zeros((8, 12, 3), np.uint8))
    assert saliency.shape == (8, 12) and saliency.mean() == pytest.approx(0.2)
    SaliencyFolder(tmp_path).check(["a"])
    with pytest.raises(CianError, match=r"b\.png \(and 1 more\): no such saliency map"):
        SaliencyFolder(tmp_path).check(["a", "b", "c"])
    (tmp_path / "b.png").write_bytes(b"no image")
    with pytest.raises(CianError, match=r"b\.png: not an image that can be read"):
        SaliencyFolder(tmp_path)("b", np.zeros((8, 12, 3), np.uint8))


def test_saliency_maps_of_16_bits(tmp_path):
    Image.fromarray(np.linspace(0, 65535, 6).astype(np.uint16).reshape(2, 3)).save(tmp_path / "a.png")
    saliency = SaliencyFolder(tmp_path)("a", np.zeros((2, 3, 3), np.uint8))
    np.testing.assert_allclose(saliency.ravel(), np.linspace(0, 1, 6), atol=0.003)


def test_saliency_network_finds_the_object():
    pytest.importorskip("onnxruntime")
    network = SaliencyNetwork(shared("models/u2netp.onnx"))
    image = np.full((120, 160, 3), 200, np.uint8)
    image[40:80, 60:110] = (200, 30, 30)
    saliency = network("x", image)
    assert saliency.shape == (120, 160) and saliency.min() >= 0 and saliency.max() <= 1
    assert saliency[45:75, 65:105].mean() > saliency[:20].mean() + 0.5


@pytest.mark.parametrize("name", ["nowhere", "model.onnx"])
def test_unknown_background_names_the_choices(tmp_path, name):
    with pytest.raises(CianError, match=r"Use cam.*https://.*/u2netp\.onnx"):
        saliency_source(str(tmp_path / name))


def test_broken_onnx(tmp_path):
    pytest.importorskip("onnxruntime")
    (tmp_path / "model.onnx").write_bytes(b"not a network")
    with pytest.raises(CianError, match="no ONNX network"):
        saliency_source(str(tmp_path / "model.onnx"))


def test_onnx_without_onnxruntime(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(CianError, match=r"needs onnxruntime\. Run `pip install '\.\[saliency\]'`"):
        SaliencyNetwork(tmp_path / "model.onnx")


@pytest.mark.parametrize(
    ("operation", "number", "message"),
    [
        ("Identity", ONNX_FLOAT, r"its first output has shape \(1, 3, 8, 8\); .* \(1, 1, 8, 8\)\. Use .*u2netp"),
        ("GlobalAveragePool", ONNX_FLOAT, r"its first output has shape \(1, 3, 1, 1\)"),
        ("Flatten", ONNX_FLOAT, r"its first output has shape \(1, 192\)"),
        ("Identity", ONNX_DOUBLE, r"cannot be run on an image \(.*double.*\)\. Use .*u2netp"),
    ],
)
def test_onnx_that_gives_no_map(tmp_path, operation, number, message):
    pytest.importorskip("onnxruntime")
    write_onnx(tmp_path / "model.onnx", operation, number=number)
    with pytest.raises(CianError, match=rf"model\.onnx: {message}"):
        saliency_source(str(tmp_path / "model.onnx"))
