"""A regularised logistic regression on features, as the last layer of a network."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..arrays import Float32Array, Float64Array, Int64Array
from ..errors import DataError
from ..randomness import keys

FOLDS = 4
STRENGTHS = tuple(10 ** (-4 + step / 2) for step in range(9))
"""Inverse strengths of the penalty, as scikit-learn's C, from strong to weak: 1e-4 to 1."""
_FOLD_STREAM = 11
_TOLERANCE, _FINAL_TOLERANCE = 1e-3, 1e-4
"""Of the gradient, while strengths are compared and for the head itself."""
_MOST_ITERATIONS = 500
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
    strength = _chosen_strength(rows, labels, weights, folds_of(labels, units, seed))
    weight, bias = _fitted(rows, labels, num_classes, strength, weights)
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
    starts: list[Any] = [None] * len(parts)
    best, best_loss, worse = STRENGTHS[0], math.inf, 0
    for strength in STRENGTHS:
        total = 0.0
        for number, (fit, held) in enumerate(parts):
            own = None if weights is None else weights[fit]
            model = _model(rows[fit], labels[fit], strength, own, starts[number])
            starts[number] = model
            weight, bias = _of_all(model, classes)
            logits = rows[held] @ weight.T.astype(np.float32) + bias.astype(np.float32)
            shares = None if weights is None else weights[held]
            total += _loss(logits, labels[held], shares)
        if total < best_loss:
            best, best_loss, worse = strength, total, 0
        else:
            worse += 1
        if worse == _IMPROVEMENTS_AWAITED:
            break
    return best


def _fitted(
    rows: Float32Array,
    labels: Int64Array,
    num_classes: int,
    strength: float,
    weights: Float64Array | None,
) -> tuple[Float64Array, Float64Array]:
    model = _model(rows, labels, strength, weights, None, _FINAL_TOLERANCE)
    return _of_all(model, num_classes)


def _model(
    rows: Float32Array,
    labels: Int64Array,
    strength: float,
    weights: Float64Array | None,
    start: Any,
    tolerance: float = _TOLERANCE,
) -> Any:
    """scikit-learn's logistic regression; `start` is one whose weights it begins with."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(
        C=strength, tol=tolerance, max_iter=_MOST_ITERATIONS, warm_start=start is not None
    )
    if start is not None:
        model.coef_, model.intercept_ = start.coef_, start.intercept_
        model.classes_ = start.classes_
    with warnings.catch_warnings():
        # The tolerance is finer than what decides between classes.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(rows, labels, weights)


def _of_all(model: Any, num_classes: int) -> tuple[Float64Array, Float64Array]:
    """Weights (K, F) and biases (K,) of all classes, of which some may have had no image."""
    weight, bias = np.asarray(model.coef_, float), np.asarray(model.intercept_, float)
    if len(model.classes_) == 2 and len(weight) == 1:
        # One logit z for two classes is the same as -z/2 and z/2.
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    all_weight = np.zeros((num_classes, weight.shape[1]))
    all_bias = np.full(num_classes, bias.mean() - _NEVER)
    all_weight[model.classes_], all_bias[model.classes_] = weight, bias
    return all_weight, all_bias


def _loss(logits: Float32Array, labels: Int64Array, weights: Float64Array | None) -> float:
    """Sum of the cross-entropies."""
    from scipy.special import log_softmax

    # A class of which only the other folds' pictures know counts as far off, not as infinite.
    found = -log_softmax(logits.astype(np.float64), axis=1)[np.arange(len(labels)), labels]
    return float(found.sum() if weights is None else (found * weights).sum())
