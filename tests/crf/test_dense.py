"""Dense CRF: agreement with pydensecrf2 and with an exact filter, properties, errors."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cian.crf import parts
from cian.crf.dense import dense_crf, dense_crfs
from tests.crf.helpers import assert_agrees, scene, softmax

PHOTOS = Path(__file__).parents[3] / "shared" / "data" / "voc2012-320" / "JPEGImages"


def reference(image, unary, gaussian=(3, 3), bilateral=(80, 13, 10), iterations=10) -> np.ndarray:
    densecrf = pytest.importorskip("pydensecrf.densecrf")
    classes, height, width = unary.shape
    model = densecrf.DenseCRF2D(width, height, classes)
    model.setUnaryEnergy(np.ascontiguousarray(unary.reshape(classes, -1)))
    model.addPairwiseGaussian(sxy=gaussian[0], compat=gaussian[1])
    model.addPairwiseBilateral(sxy=bilateral[0], srgb=bilateral[1], rgbim=image, compat=bilateral[2])
    return np.asarray(model.inference(iterations)).reshape(unary.shape)


class TestAgainstPydensecrf:
    @pytest.mark.parametrize(
        ("classes", "height", "width"),
        [(1, 20, 32), (2, 60, 84), (3, 48, 64), (5, 64, 48), (21, 80, 120), (33, 40, 40), (3, 1, 64), (3, 64, 1)],
    )
    def test_shapes(self, classes, height, width):
        image, unary = scene(classes, classes, height, width)
        assert_agrees(dense_crf(image, unary), reference(image, unary))

    @pytest.mark.parametrize(
        ("gaussian", "bilateral", "iterations"),
        [
            ((3, 3), (80, 13, 10), 1),
            ((3, 3), (80, 13, 10), 5),
            ((1.5, 4), (30, 5, 6.5), 10),
            ((10, 0.5), (160, 40, 2), 10),
            ((3, 0), (50, 10, 4), 10),
            ((3, 3), (50, 10, 0), 10),
        ],
    )
    def test_parameters(self, gaussian, bilateral, iterations):
        image, unary = scene(0, 4, 60, 80)
        actual = dense_crf(image, unary, gaussian=gaussian, bilateral=bilateral, iterations=iterations)
        assert_agrees(actual, reference(image, unary, gaussian, bilateral, iterations))

    def test_black_image(self):
        _, unary = scene(1, 3, 40, 60)
        image = np.zeros((40, 60, 3), np.uint8)
        assert_agrees(dense_crf(image, unary), reference(image, unary))

    def test_number_of_pixels_that_is_no_multiple_of_four(self):
        """pydensecrf then adds vertices for pixels that do not exist, so that the two differ a little more."""
        image, unary = scene(2, 3, 41, 63)
        assert np.abs(dense_crf(image, unary) - reference(image, unary)).max() <= 1e-3

    def test_noise(self):
        """As many vertices as can be: the hash table has to grow."""
        image = np.random.default_rng(0).integers(0, 256, (80, 100, 3), dtype=np.uint8)
        _, unary = scene(3, 3, 80, 100)
        assert_agrees(dense_crf(image, unary), reference(image, unary))

    def test_left_out_classes(self):
        image, unary = scene(4, 6, 60, 80)
        unary[[1, 4]] += 60
        assert_agrees(dense_crf(image, unary), reference(image, unary))

    @pytest.mark.skipif(not PHOTOS.is_dir(), reason=f"no photos in {PHOTOS}")
    def test_photos(self):
        files = sorted(PHOTOS.glob("*.jpg"))
        for file in files[:: len(files) // 3][:3]:
            image = np.array(Image.open(file).convert("RGB"))
            _, unary = scene(5, 21, *image.shape[:2])
            actual, expected = dense_crf(image, unary), reference(image, unary)
            assert np.abs(actual - expected).max() <= 1e-3
            assert (actual.argmax(axis=0) == expected.argmax(axis=0)).mean() >= 0.999


def test_against_exact_filter():
    """Mean field with every pair of pixels. The lattice only approximates the Gaussian, so the bounds are wide."""
    image, unary = scene(6, 3, 24, 30)
    y, x = np.mgrid[:24, :30].reshape(2, -1)
    position = np.stack([x, y], axis=1)
    matrix = 0
    for features, compat in (
        (position / 3, 3),
        (np.concatenate([position / 40, image.reshape(-1, 3) / 20], axis=1), 5),
    ):
        kernel = np.exp(-0.5 * ((features[:, None] - features[None]) ** 2).sum(axis=-1))
        norm = kernel.sum(axis=1) ** -0.5
        matrix = matrix + compat * norm[:, None] * kernel * norm
    energies = unary.reshape(3, -1)
    expected = softmax(-energies)
    for _ in range(5):
        expected = softmax(expected @ matrix - energies)
    actual = dense_crf(image, unary, bilateral=(40, 20, 5), iterations=5).reshape(3, -1)
    assert np.abs(actual - expected).mean() < 0.02
    assert (actual.argmax(axis=0) == expected.argmax(axis=0)).mean() > 0.97


class TestProperties:
    image, unary = scene(7, 5, 48, 60)

    def test_probabilities(self):
        q = dense_crf(self.image, self.unary)
        assert q.shape == (5, 48, 60)
        assert q.dtype == np.float32
        assert q.min() >= 0
        np.testing.assert_allclose(q.sum(axis=0), 1, atol=1e-5)

    def test_no_iteration_is_softmax(self):
        np.testing.assert_allclose(dense_crf(self.image, self.unary, iterations=0), softmax(-self.unary), atol=1e-6)

    def test_no_kernel_is_softmax(self):
        q = dense_crf(self.image, self.unary, gaussian=(3, 0), bilateral=(80, 13, 0))
        np.testing.assert_allclose(q, softmax(-self.unary), atol=1e-6)

    def test_same_bits_for_every_call_and_number_of_threads(self, monkeypatch):
        expected = dense_crf(self.image, self.unary)
        for threads in (1, 2, 3):
            monkeypatch.setattr(parts, "threads", lambda n=threads: n)
            np.testing.assert_array_equal(dense_crf(self.image, self.unary), expected)

    def test_order_of_classes(self):
        order = [3, 0, 4, 1, 2]
        expected = dense_crf(self.image, self.unary)[order]
        np.testing.assert_allclose(dense_crf(self.image, self.unary[order]), expected, atol=1e-5)

    def test_constant_energy_does_not_matter(self):
        np.testing.assert_allclose(dense_crf(self.image, self.unary + 3), dense_crf(self.image, self.unary), atol=1e-4)

    def test_layout_and_type_of_the_arguments(self):
        expected = dense_crf(self.image, self.unary)
        unary = np.asfortranarray(self.unary.astype(np.float64))
        image = np.repeat(self.image, 2, axis=1)[:, ::2]
        unary.flags.writeable = image.flags.writeable = False
        np.testing.assert_array_equal(dense_crf(image, unary), expected)
        assert not np.shares_memory(expected, self.unary)

    def test_arguments_are_not_changed(self):
        image, unary = self.image.copy(), self.unary.copy()
        dense_crf(image, unary)
        np.testing.assert_array_equal(image, self.image)
        np.testing.assert_array_equal(unary, self.unary)

    def test_one_class(self):
        assert (dense_crf(self.image, self.unary[:1]) == 1).all()

    def test_one_pixel(self):
        q = dense_crf(self.image[:1, :1], self.unary[:, :1, :1])
        np.testing.assert_allclose(q.sum(axis=0), 1, atol=1e-6)

    def test_classes_that_cannot_win_change_nothing(self):
        """Energies just above and just below what is left out."""
        expected = dense_crf(self.image, self.unary[:3])
        lowest = self.unary[:3].min(axis=0)
        for gap in (16.0, 18.0, 100.0, np.inf):
            unary = np.concatenate([self.unary[:3], (lowest + gap)[None]])
            q = dense_crf(self.image, unary)
            np.testing.assert_allclose(q[:3], expected, atol=2e-5)
            assert q[3].max() <= 1e-6
            assert gap < 17.2 or (q[3] == 0).all()

    @pytest.mark.parametrize("scale", [1e4, 1e30, 3e38])
    def test_huge_energies(self, scale):
        unary = (np.sign(self.unary) * scale).astype(np.float32)
        q = dense_crf(self.image, unary)
        assert np.isfinite(q).all()
        np.testing.assert_allclose(q.sum(axis=0), 1, atol=1e-5)

    def test_beyond_float32_is_impossible(self):
        unary = self.unary.astype(np.float64)
        unary[2] = 1e300
        assert (dense_crf(self.image, unary)[2] == 0).all()

    @pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork on this system")
    def test_forked_workers(self):
        expected = dense_crf(self.image, self.unary)
        with multiprocessing.get_context("fork").Pool(2) as pool:
            results = pool.starmap_async(dense_crf, [(self.image, self.unary)] * 4).get(timeout=60)
        for result in results:
            np.testing.assert_array_equal(result, expected)


class TestErrors:
    image, unary = scene(8, 3, 12, 16)

    @pytest.mark.parametrize(
        ("image", "message"),
        [
            (image[..., 0], r"image is uint8 of shape \(12, 16\).*convert\('RGB'\)"),
            (image / 255, r"image is float64"),
            (np.concatenate([image, image[..., :1]], axis=-1), r"shape \(12, 16, 4\)"),
            (image[:-1], r"unary has \(12, 16\) pixels, image \(11, 16\)\. Resize"),
        ],
    )
    def test_image(self, image, message):
        with pytest.raises(ValueError, match=message):
            dense_crf(image, self.unary)

    @pytest.mark.parametrize(
        ("unary", "message"),
        [
            (unary[0], r"unary is float32 of shape \(12, 16\)"),
            (unary.astype(int), "unary is int64"),
            (unary[:0], r"shape \(0, 12, 16\)\. Give at least one class"),
            (np.where(unary == unary[1, 2, 3], np.nan, unary), "NaN"),
            (np.where(unary == unary[1, 2, 3], -np.inf, unary), "-inf"),
            (np.full_like(unary, np.inf), r"every class is \+inf"),
        ],
    )
    @pytest.mark.parametrize("iterations", [0, 2])
    def test_unary(self, unary, message, iterations):
        with pytest.raises(ValueError, match=message):
            dense_crf(self.image, unary, iterations=iterations)

    @pytest.mark.parametrize("gaussian", [(0, 3), (-1, 3), (3, -3), (np.nan, 3), (3, np.inf), (3,), (3, 3, 3), 3])
    def test_gaussian(self, gaussian):
        with pytest.raises(ValueError, match=r"gaussian is .*\. Give \(sxy, compat\)"):
            dense_crf(self.image, self.unary, gaussian=gaussian)

    @pytest.mark.parametrize("bilateral", [(0, 13, 10), (80, 0, 10), (80, 13, -1), (80, 13)])
    def test_bilateral(self, bilateral):
        with pytest.raises(ValueError, match=r"bilateral is .*\. Give \(sxy, srgb, compat\)"):
            dense_crf(self.image, self.unary, bilateral=bilateral)

    def test_deviations_too_small_for_the_lattice(self):
        with pytest.raises(ValueError, match="too small"):
            dense_crf(self.image, self.unary, bilateral=(80, 1e-3, 10))

    @pytest.mark.parametrize("iterations", [-1, 2.5])
    def test_iterations(self, iterations):
        with pytest.raises(ValueError, match=f"iterations is {iterations}"):
            dense_crf(self.image, self.unary, iterations=iterations)


@pytest.mark.parametrize("iterations", [0, 3])
def test_several_unaries_of_one_image_are_as_one_after_the_other(iterations):
    rng = np.random.default_rng(5)
    image = rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)
    unaries = [rng.normal(size=(classes, 20, 30)).astype(np.float32) for classes in (2, 4)]
    for unary, found in zip(unaries, dense_crfs(image, unaries, iterations=iterations), strict=True):
        assert np.array_equal(found, dense_crf(image, unary, iterations=iterations))
