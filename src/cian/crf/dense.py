"""Dense conditional random field: moves the borders of class scores to the edges in the image.

Krähenbühl & Koltun, "Efficient Inference in Fully Connected CRFs with Gaussian Edge Potentials", NeurIPS 2011. Every
pixel is tied to every other one by two Gaussian kernels, one over position and one over position and colour. A step of
mean-field inference is then a Gaussian filter in 2 and one in 5 dimensions, computed on a permutohedral lattice (see
`cian.crf.lattice`).

Symbols: N pixels, K classes.
"""

from __future__ import annotations

import functools
import math
import os
import threading
from collections.abc import Sequence

import numba
import numpy as np

from cian.config import CrfConfig
from cian.crf import plain_mean_field
from cian.crf.lattice import Lattice, build_lattice, key_layout
from cian.crf.parts import ForEachPart, one_after_another, threaded
from cian.errors import CianError, Problem
from cian.terminal import note

_NEGLIGIBLE = 1e-7  # about one rounding step of a float32 probability
_trying = threading.Lock()


def dense_crf(
    image: np.ndarray,
    unary: np.ndarray,
    *,
    gaussian: tuple[float, float] = (3, 3),
    bilateral: tuple[float, float, float] = (80, 13, 10),
    iterations: int = 10,
) -> np.ndarray:
    """Class probabilities after mean-field inference in a fully connected CRF (Potts model, symmetric normalisation).

    Agrees with `pydensecrf`, and gives the same bits on every call. A class whose probability provably stays below 1e-7
    at every pixel costs nothing and gets 0.

    Args:
        image: (H, W, 3) uint8.
        unary: (K, H, W) floating point, energies in nats: minus the logits, or minus the log-probabilities. Any finite
            value; +inf where a class is impossible.
        gaussian: (sxy, compat) of the kernel over position: standard deviation in pixels, and weight.
        bilateral: (sxy, srgb, compat) of the kernel over position and colour: standard deviations in pixels and in
            colour levels (of 255), and weight. A weight of 0 switches a kernel off.
        iterations: mean-field iterations; 0 gives softmax(-unary).

    Returns:
        (K, H, W) float32, not negative; sums to 1 over the classes.

    Raises:
        ValueError: a shape or type is wrong, a value is NaN or -inf, a pixel has no possible class, or a parameter is
            out of range.
    """
    return dense_crfs(image, [unary], gaussian=gaussian, bilateral=bilateral, iterations=iterations)[0]


def dense_crfs(
    image: np.ndarray,
    unaries: Sequence[np.ndarray],
    *,
    gaussian: tuple[float, float] = (3, 3),
    bilateral: tuple[float, float, float] = (80, 13, 10),
    iterations: int = 10,
) -> list[np.ndarray]:
    """`dense_crf` for several unaries of one image, whose lattice is built once."""
    image = np.asarray(image)
    energies = [_energies(image, np.asarray(unary), gaussian, bilateral, iterations) for unary in unaries]
    height, width, _ = image.shape
    if iterations == 0:
        results = []
        for unary, lowest in energies:
            with np.errstate(over="ignore"):
                q = np.exp(lowest - unary)
            results.append(q / q.sum(axis=0))
        return [result.reshape(-1, height, width) for result in results]

    with threaded() as run:
        lattice = build_lattice(image, gaussian, bilateral, run)
        results = [
            _infer(unary, lowest, _live(unary, lowest, lattice.strength), lattice, iterations, run)
            for unary, lowest in energies
        ]
    return [result.reshape(-1, height, width) for result in results]


def _energies(
    image: np.ndarray, unary: np.ndarray, gaussian: Sequence, bilateral: Sequence, iterations: int
) -> tuple[np.ndarray, np.ndarray]:
    """Checks a unary. Returns it as (K, N) float32, and the lowest energy of each pixel (N,)."""
    floating = np.issubdtype(unary.dtype, np.floating)
    check(image, unary.shape, floating, str(unary.dtype), gaussian, bilateral, iterations)
    with np.errstate(over="ignore"):  # beyond float32 is impossible, as +inf is
        unary = np.ascontiguousarray(unary, np.float32).reshape(len(unary), -1)
    lowest = unary.min(axis=0)
    if not np.isfinite(lowest).all():
        raise ValueError("unary has NaN, -inf, or a pixel where every class is +inf. Give finite energies.")
    return unary, lowest


def check(
    image: np.ndarray,
    shape: tuple[int, ...],
    floating: bool,
    dtype: str,
    gaussian: Sequence,
    bilateral: Sequence,
    iterations: int,
) -> None:
    """Checks the arguments of `dense_crf`, but for the values of the energies.

    Raises:
        ValueError: see `dense_crf`.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(
            f"image is {image.dtype} of shape {image.shape}, not uint8 of shape (H, W, 3). Open it with "
            "PIL.Image.open(file).convert('RGB')."
        )
    if len(shape) != 3 or not floating:
        raise ValueError(
            f"unary is {dtype} of shape {shape}, not floating point of shape (K, H, W). Give one map of energies for "
            "each class, for instance -logits."
        )
    if shape[1:] != image.shape[:2]:
        raise ValueError(
            f"unary has {shape[1:]} pixels, image {image.shape[:2]}. Resize the logits to the size of the image."
        )
    if 0 in shape:
        raise ValueError(f"unary has shape {shape}. Give at least one class and one pixel.")
    for name, value, meaning in (("gaussian", gaussian, "sxy, compat"), ("bilateral", bilateral, "sxy, srgb, compat")):
        valid = np.shape(value) == (meaning.count(",") + 1,) and np.isfinite(value).all()
        if not valid or min(value[:-1]) <= 0 or value[-1] < 0:
            raise ValueError(
                f"{name} is {value!r}. Give ({meaning}): standard deviations above 0, and a weight of 0 or more."
            )
    if iterations != int(iterations) or iterations < 0:
        raise ValueError(f"iterations is {iterations}. Give a whole number, 0 or more.")


def _live(unary: np.ndarray, lowest: np.ndarray, strength: float) -> np.ndarray:
    """The ids of the classes that can win a pixel.

    Messages are not negative. If a class's probability is at most e everywhere, its messages are at most strength · e.
    If that is at most 1, an energy of log(1 / e) + 1 above the lowest keeps the probability below e in every iteration.
    """
    if strength * _NEGLIGIBLE > 1:
        return np.arange(len(unary))
    with np.errstate(over="ignore"):
        gap = np.array([np.min(energy - lowest) for energy in unary])
    return np.flatnonzero(gap < 1 - math.log(_NEGLIGIBLE))


def _infer(
    unary: np.ndarray, lowest: np.ndarray, live: np.ndarray, lattice: Lattice, iterations: int, run: ForEachPart
) -> np.ndarray:
    """Mean-field inference by the compiled loops or, where these do not work, in numpy; (K, N) → (K, N)."""
    with _trying:
        compiled = loops_work(live.size)
    if not compiled:
        return plain_mean_field.infer(unary, lowest, live, lattice, iterations)
    from cian.crf import mean_field

    return mean_field.infer(unary, lowest, live, lattice, iterations, run)


@functools.cache
def loops_work(classes: int) -> bool:
    """Whether the compiled loops work for so many classes with this numba and on this processor.

    They use internals of numba. They work if they compile, and agree with numpy on a few pixels. CIAN_PLAIN=1 switches
    them off.
    """
    if os.environ.get("CIAN_PLAIN") == "1":
        return False
    image = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    unary = np.sin(np.arange(8 * classes, dtype=np.float32)).reshape(classes, 8)  # as good as random
    lattice = build_lattice(image, (3, 3), (80, 13, 10), one_after_another)
    problem = unary, unary.min(axis=0), np.arange(classes), lattice, 2
    try:
        from cian.crf import mean_field

        found = mean_field.infer(*problem, one_after_another)
    except Exception as error:  # noqa: BLE001 - numba, llvmlite and LLVM raise many kinds
        _say_slower(f"do not compile ({type(error).__name__})")
        return False
    if not np.allclose(found, plain_mean_field.infer(*problem), atol=1e-4):
        _say_slower("give wrong results")
        return False
    return True


@functools.cache  # said once
def _say_slower(what: str) -> None:
    value = f"the fast loops of the dense CRF {what} here. Slower ones are used, with the same results"
    note(Problem(f"numba {numba.__version__}", value, "Install cian again, with the numba version that it asks for"))


def check_kernels(setting: str, kernels: CrfConfig, side: int) -> None:
    """Checks that the lattice can hold an image, before work starts.

    Args:
        setting: name of the setting that gives the kernels, for the error.
        side: longer side of the largest image, in px.

    Raises:
        CianError: the kernels are too narrow for an image of this size.
    """
    gaussian, bilateral = kernels.gaussian, kernels.bilateral
    try:
        for sxy, colours in ((gaussian[0], []), (bilateral[0], [255 / bilateral[1]] * 3)):
            key_layout(np.array([[0, extent] for extent in (side / sxy, side / sxy, *colours)]))
    except ValueError as error:
        raise CianError(
            f"{setting}: gaussian = {gaussian}, bilateral = {bilateral}: {error} (sxy in px, srgb in levels of 255)."
        ) from None
