"""A regularised logistic regression on features, as the last layer of a network."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import numpy as np

from ..arrays import Float32Array, Float64Array, Int64Array
from ..errors import DataError
from ..randomness import keys
from .least import least

FOLDS = 4
STRENGTHS = tuple(10 ** (-4 + step / 2) for step in range(9))
"""Inverse strengths of the penalty, as scikit-learn's C, from strong to weak: 1e-4 to 1."""
_FOLD_STREAM = 11
_TOLERANCE, _FINAL_TOLERANCE = 1e-3, 1e-4
"""Of the scaled gradient, while strengths are compared and for the head itself."""
_NOTHING = 1e-10
"""Variance along a principal direction, as a share of the largest, that counts as none."""
_TINY = 1e-12
_NEVER = 20.0
"""How far the logit of a class without training images lies below the mean of the others."""
_IMPROVEMENTS_AWAITED = 2


@dataclass(frozen=True, eq=False, kw_only=True)
class Head:
    """A linear layer on features as they come: standardisation is folded into its weights."""

    weight: Float32Array
    """(K, F)."""
    bias: Float32Array
    """(K,)."""
    strength: float
    """The C of its penalty."""

    def logits(self, features: Float32Array) -> Float32Array:
        """float32 (N, K) of features (N, F)."""
        return features @ self.weight.T + self.bias


def fit_head(
    features: Float32Array,
    labels: Int64Array,
    num_classes: int,
    *,
    units: Int64Array | None = None,
    weights: Float64Array | None = None,
    seed: int = 0,
) -> Head:
    """The head that fits features (N, F) of training images to their labels (N,).

    The strength of the penalty is the one with the lowest loss in cross-validation. It is tried
    from strong to weak, and no further once that has become worse twice.

    Args:
        units: rows of one unit are on the same side of every fold; None where each stands alone.
        weights: of each row in the loss, (N,); None for all ones.

    Raises:
        DataError: there are images of only one class.
    """
    if len(np.unique(labels)) < 2:
        raise DataError(
            "The training images are all of one class.", "Add pictures of another class."
        )
    mean = features.mean(axis=0, dtype=np.float64)
    std = features.std(axis=0, dtype=np.float64)
    std[std < 1e-6] = 1.0
    rows = (features - mean.astype(np.float32)) / std.astype(np.float32)
    columns, basis = _few_columns(rows)
    strength = _chosen_strength(columns, labels, weights, folds_of(labels, units, seed))
    problem = _Problem(columns, labels, weights)
    found, bias = problem.solved(strength, _FINAL_TOLERANCE)
    found = found if basis is None else found @ basis.T
    weight, bias = _of_all(found, bias, problem.classes, num_classes)
    folded = weight / std
    return Head(
        weight=folded.astype(np.float32),
        bias=(bias - folded @ mean).astype(np.float32),
        strength=strength,
    )


def folds_of(labels: Int64Array, units: Int64Array | None, seed: int) -> Int64Array:
    """The fold of each row, int64 (N,): the units of each class are dealt out in turn, in an order
    drawn from the seed."""
    own = np.arange(len(labels)) if units is None else units
    _, first, number = np.unique(own, return_index=True, return_inverse=True)
    order = np.lexsort((keys(len(first), seed, _FOLD_STREAM), labels[first]))
    fold = np.empty(len(first), np.int64)
    fold[order] = np.arange(len(first)) % FOLDS
    return fold[number]


def _chosen_strength(
    rows: Float32Array, labels: Int64Array, weights: Float64Array | None, folds: Int64Array
) -> float:
    parts = [(folds != fold, folds == fold) for fold in range(FOLDS)]
    # A fold may lack so much that there is nothing to tell apart.
    parts = [(fit, held) for fit, held in parts if held.any() and len(np.unique(labels[fit])) > 1]
    if not parts:
        return STRENGTHS[len(STRENGTHS) // 2]
    classes = int(labels.max()) + 1
    problems = [
        _Problem(rows[fit], labels[fit], None if weights is None else weights[fit])
        for fit, _ in parts
    ]
    unseen = [rows[held] for _, held in parts]
    best, best_loss, worse = STRENGTHS[0], math.inf, 0
    for strength in STRENGTHS:
        total = 0.0
        for problem, (_, held), images in zip(problems, parts, unseen, strict=True):
            weight, bias = _of_all(*problem.solved(strength, _TOLERANCE), problem.classes, classes)
            logits = images @ weight.T.astype(np.float32) + bias.astype(np.float32)
            shares = None if weights is None else weights[held]
            total += _loss(logits, labels[held], shares)
        if total < best_loss:
            best, best_loss, worse = strength, total, 0
        else:
            worse += 1
        if worse == _IMPROVEMENTS_AWAITED:
            break
    return best


class _Problem:
    """A multinomial logistic regression with an L2 penalty on its weights, for any strength.

    A solution is where the next one begins. scikit-learn finds the same, to which a test holds it;
    but importing it, or SciPy's optimizers, takes longer than fitting.
    """

    def __init__(
        self, rows: Float32Array, labels: Int64Array, weights: Float64Array | None
    ) -> None:
        self.classes, numbers = np.unique(labels, return_inverse=True)
        self._rows = np.ascontiguousarray(rows)
        self._targets = np.zeros((len(rows), len(self.classes)), np.float32)
        self._targets[np.arange(len(rows)), numbers] = 1
        shares = np.ones(len(rows)) if weights is None else weights
        self._shares = (shares / len(rows)).astype(np.float32)[:, None]
        self._found = np.zeros((len(self.classes), self._rows.shape[1] + 1))
        # Twice the most that the loss can curve along each weight (D. Boehning, 1992, Annals of the
        # Institute of Statistical Mathematics 44, 197-200), with the bias at the end.
        squares = (self._shares * np.square(self._rows)).sum(axis=0, dtype=np.float64)
        self._curvature = np.append(squares, self._shares.sum(dtype=np.float64))

    def solved(self, strength: float, tolerance: float) -> tuple[Float64Array, Float64Array]:
        """Weights (K, D) and biases (K,) of the classes that there are."""
        # Two classes share one difference, which scikit-learn penalises once and not in halves.
        penalty = (2 if len(self.classes) == 2 else 1) / (strength * len(self._rows))
        penalties = np.append(np.full(self._rows.shape[1], penalty), 0.0)
        scales = 1 / np.sqrt(self._curvature / 2 + penalties + _TINY)
        self._found = least(
            partial(self._loss_and_gradient, penalty=penalty), self._found, scales, tolerance
        )
        bias = self._found[:, -1]
        return self._found[:, :-1], bias - bias.mean()

    def _loss_and_gradient(
        self, point: Float64Array, *, penalty: float
    ) -> tuple[float, Float64Array]:
        weight = point[:, :-1].astype(np.float32)
        logits = self._rows @ weight.T + point[:, -1].astype(np.float32)
        logits -= logits.max(axis=1, keepdims=True)
        exponentials = np.exp(logits)
        totals = exponentials.sum(axis=1, keepdims=True)
        losses = np.log(totals) - (logits * self._targets).sum(axis=1, keepdims=True)
        loss = float((losses * self._shares).sum(dtype=np.float64))
        loss += penalty / 2 * float((point[:, :-1] ** 2).sum())
        exponentials /= totals
        exponentials -= self._targets
        exponentials *= self._shares
        gradient = np.empty_like(point)
        gradient[:, :-1] = exponentials.T @ self._rows
        gradient[:, :-1] += penalty * point[:, :-1]
        gradient[:, -1] = exponentials.sum(axis=0, dtype=np.float64)
        return loss, gradient


def _few_columns(rows: Float32Array) -> tuple[Float32Array, Float64Array | None]:
    """Fewer rows than features (N, F) in their principal directions, (N, D), and these, (F, D).

    The weights that fit best are sums of rows, so nothing is lost; and along each of these
    directions the loss curves by itself, which spares the solver steps. None where there are more
    rows than features.
    """
    if len(rows) >= rows.shape[1]:
        return rows, None
    exact = rows.astype(np.float64)
    values, vectors = np.linalg.eigh(exact @ exact.T)
    kept = values > _NOTHING * values[-1]
    basis: Float64Array = exact.T @ (vectors[:, kept] / np.sqrt(values[kept]))
    return (exact @ basis).astype(np.float32), basis


def _of_all(
    weight: Float64Array, bias: Float64Array, present: Int64Array, num_classes: int
) -> tuple[Float64Array, Float64Array]:
    """Weights (K, F) and biases (K,) of all classes, of which some may have had no image."""
    all_weight = np.zeros((num_classes, weight.shape[1]))
    all_bias = np.full(num_classes, bias.mean() - _NEVER)
    all_weight[present], all_bias[present] = weight, bias
    return all_weight, all_bias


def _loss(logits: Float32Array, labels: Int64Array, weights: Float64Array | None) -> float:
    """Sum of the cross-entropies."""
    # A class of which only the other folds' pictures know counts as far off, not as infinite.
    exact = logits.astype(np.float64)
    exact -= exact.max(axis=1, keepdims=True)
    found = np.log(np.exp(exact).sum(axis=1)) - exact[np.arange(len(labels)), labels]
    return float(found.sum() if weights is None else (found * weights).sum())
