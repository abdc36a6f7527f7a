"""Probabilities of the classes of each image, by kernel ridge regression that never saw it.

On a few thousand pictures a Gaussian kernel over features judges labels better than a small
network, and in seconds. It is trained on the classes as zeros and ones; a temperature, fitted to
the given labels out of fold, turns its scores into probabilities.
"""

from __future__ import annotations

import numpy as np

from ...arrays import Float32Array, Float64Array, Int64Array, UInt8Array
from ..handcrafted import handcrafted
from .out_of_sample import folds_of
from .subject import Note

MOST_IMAGES = 5_000
"""Time grows with the cube of their number: 15 seconds for so many."""
_MANY = 3_000
_MANY_FOLDS, _FEW_FOLDS = 10, 4
_WIDTH = 0.5
"""Of the kernel, exp(-0.5 d), where d is the mean square of the differences."""
_RIDGE = 0.3
LEAST_STD = 1e-3


def probabilities(
    images: UInt8Array,
    indices: Int64Array,
    labels: Int64Array,
    num_classes: int,
    *,
    units: Int64Array | None = None,
    seed: int = 0,
    note: Note,
) -> Float32Array:
    """float32 (M, num_classes), by cross-validation; arguments as of `out_of_sample`.

    Where a picture's mirror image tells more of its class than it confuses, it is used too.
    """
    note(f"judging {len(labels):,} labels by a kernel machine that did not see them")
    seen = images[indices]
    upright, mirrored = _standardized(handcrafted(seen), handcrafted(seen[..., ::-1]))
    plain = _kernel(upright, upright)
    folds = folds_of(labels, units, seed, _FEW_FOLDS if len(labels) > _MANY else _MANY_FOLDS)
    found = [
        calibrated(_held_out(kernel, labels, num_classes, folds), labels)
        for kernel in (plain, (plain + _kernel(upright, mirrored)) / 2)
    ]
    best = min(found, key=lambda held_out: _loss(held_out, labels))
    return best.astype(np.float32)


def held_out_scores(
    features: Float32Array, labels: Int64Array, num_classes: int, folds: Int64Array
) -> Float64Array:
    """Scores of each image by the other folds, float64 (M, num_classes), on features (M, D)."""
    (rows,) = _standardized(features)
    return _held_out(_kernel(rows, rows), labels, num_classes, folds)


def kernel_machine(
    taught: Float32Array, labels: Int64Array, num_classes: int, asked: Float32Array
) -> Float64Array:
    """Scores of each class, float64 (M, num_classes), for features (M, D) that it was not taught.

    Args:
        taught, labels: features (N, D) and labels (N,) to learn from.
    """
    mean, std = taught.mean(axis=0), taught.std(axis=0) + LEAST_STD
    known, new = (taught - mean) / std, (asked - mean) / std
    return _scores(_kernel(known, known), labels, num_classes, _kernel(new, known))


def calibrated(scores: Float64Array, labels: Int64Array) -> Float64Array:
    """Softmax of scores (M, K), at the temperature by which the labels are the most probable."""
    from scipy.optimize import minimize_scalar
    from scipy.special import softmax

    found = minimize_scalar(
        lambda log: _loss(softmax(scores * np.exp(log), axis=1), labels),
        bounds=(-2.0, 6.0),
        method="bounded",
    )
    held_out: Float64Array = softmax(scores * np.exp(found.x), axis=1)
    return held_out


def _standardized(*features: Float32Array) -> tuple[Float32Array, ...]:
    """Each column with mean 0 and standard deviation 1 over all of them."""
    together = np.concatenate(features)
    mean, std = together.mean(axis=0), together.std(axis=0) + LEAST_STD
    return tuple((some - mean) / std for some in features)


def _kernel(one: Float32Array, other: Float32Array) -> Float64Array:
    squares = (one**2).sum(axis=1)[:, None] + (other**2).sum(axis=1) - 2 * one @ other.T
    kernel: Float64Array = np.exp(-_WIDTH * np.maximum(squares, 0) / one.shape[1]).astype(float)
    return kernel


def _held_out(
    kernel: Float64Array, labels: Int64Array, num_classes: int, folds: Int64Array
) -> Float64Array:
    """Scores of each image by the other folds, float64 (M, num_classes)."""
    scores = np.zeros((len(labels), num_classes))
    for fold in np.unique(folds):
        taught, asked = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        scores[asked] = _scores(
            kernel[np.ix_(taught, taught)],
            labels[taught],
            num_classes,
            kernel[np.ix_(asked, taught)],
        )
    return scores


def _scores(
    kernel: Float64Array, labels: Int64Array, num_classes: int, asked: Float64Array
) -> Float64Array:
    """Kernel ridge regression on classes as zeros and ones; kernels (N, N) and (M, N)."""
    from sklearn.kernel_ridge import KernelRidge

    targets = np.eye(num_classes)[labels]
    usual = targets.mean(axis=0)
    machine = KernelRidge(alpha=_RIDGE, kernel="precomputed").fit(kernel, targets - usual)
    scores: Float64Array = machine.predict(asked) + usual
    return scores


def _loss(held_out: Float64Array, labels: Int64Array) -> float:
    """Mean cross-entropy of the labels."""
    given = held_out[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(given, 1e-12)).mean())
