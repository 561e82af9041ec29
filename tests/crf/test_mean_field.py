"""The compiled loops against numpy, and what happens where they do not work."""

from __future__ import annotations

import re

import numpy as np
import pytest

from cian.crf import dense, mean_field, plain_mean_field
from cian.crf.dense import dense_crf
from cian.crf.lattice import build_lattice
from cian.crf.parts import one_after_another
from tests.crf.helpers import assert_agrees, scene

IMAGE, UNARY = scene(9, 6, 40, 56)


@pytest.fixture
def tried_afresh():
    """Lets the next call find out whether the compiled loops work."""
    for cached in (dense.loops_work, dense._say_slower):
        cached.cache_clear()
    yield
    for cached in (dense.loops_work, dense._say_slower):
        cached.cache_clear()


def without_loops(*args, **kwargs) -> np.ndarray:
    raise AssertionError("the compiled loops are in use")


@pytest.mark.parametrize("classes", [1, 2, 4, 5, 21, 70])
@pytest.mark.parametrize("iterations", [1, 5])
def test_agrees_with_numpy(classes, iterations):
    image, unary = scene(classes, classes, 36, 44)
    unary = unary.reshape(classes, -1).astype(np.float32)
    lattice = build_lattice(image, (3, 3), (80, 13, 10), one_after_another)
    problem = unary, unary.min(axis=0), np.arange(classes), lattice, iterations
    assert_agrees(mean_field.infer(*problem, one_after_another), plain_mean_field.infer(*problem))


def test_only_live_classes_get_a_probability():
    unary = UNARY.reshape(6, -1).astype(np.float32)
    lattice = build_lattice(IMAGE, (3, 3), (80, 13, 10), one_after_another)
    problem = unary, unary.min(axis=0), np.array([0, 2, 5]), lattice, 3
    found, expected = mean_field.infer(*problem, one_after_another), plain_mean_field.infer(*problem)
    assert_agrees(found, expected)
    for q in (found, expected):
        assert not q[[1, 3, 4]].any()
        np.testing.assert_allclose(q.sum(axis=0), 1, atol=1e-5)


def test_plain_loops_by_environment(tried_afresh, monkeypatch, capsys):
    expected = dense_crf(IMAGE, UNARY)
    dense.loops_work.cache_clear()
    monkeypatch.setenv("CIAN_PLAIN", "1")
    monkeypatch.setattr(mean_field, "infer", without_loops)
    assert_agrees(dense_crf(IMAGE, UNARY), expected)
    assert not capsys.readouterr().err


@pytest.mark.parametrize("energy", [np.inf, 1e30, 3e38])
def test_plain_loops_with_huge_energies(tried_afresh, monkeypatch, energy):
    unary = UNARY.astype(np.float32)
    unary[1] = energy
    unary[2, :20] = -min(energy, 3e38)
    expected = dense_crf(IMAGE, unary)
    dense.loops_work.cache_clear()
    monkeypatch.setenv("CIAN_PLAIN", "1")
    found = dense_crf(IMAGE, unary)
    assert np.isfinite(found).all() and not found[1].any()
    assert_agrees(found, expected)


def fails_to_compile(*args):
    raise TypeError("No implementation of function Function(<intrinsic gather_row>)")


def computes_something_else(unary, *args):
    return np.full_like(unary, 1 / len(unary))


@pytest.mark.parametrize(
    ("replacement", "says"),
    [(fails_to_compile, r"do not compile \(TypeError\) here"), (computes_something_else, "give wrong results here")],
)
def test_plain_loops_where_the_compiled_ones_do_not_work(tried_afresh, monkeypatch, capsys, replacement, says):
    """The note comes once, for any number of images and classes."""
    expected = [dense_crf(IMAGE, unary) for unary in (UNARY, UNARY[:3])]
    capsys.readouterr()
    dense.loops_work.cache_clear()
    monkeypatch.setattr(mean_field, "infer", replacement)
    for unary, result in zip((UNARY, UNARY[:3]), expected, strict=True):
        assert_agrees(dense_crf(IMAGE, unary), result)
    text = " ".join(capsys.readouterr().err.split())
    assert text.count("note: numba") == 1
    assert re.search(says, text), text
