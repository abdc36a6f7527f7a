"""The least value of a smooth convex function."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import numpy as np

from ..arrays import Float64Array

Function = Callable[[Float64Array], tuple[float, Float64Array]]
"""A point -> the value there, and the gradient."""

_REMEMBERED = 10
_MOST_STEPS, _MOST_HALVINGS = 500, 30
_ENOUGH = 1e-4
"""Share of the decrease that the gradient promises, with which a step is taken."""


def least(
    function: Function, start: Float64Array, scales: Float64Array, tolerance: float
) -> Float64Array:
    """Where no entry of the gradient, times its scale, is larger than `tolerance`, by L-BFGS
    (J. Nocedal, 1980, Mathematics of Computation 35, 773-782).

    Args:
        scales: how far a step along each entry of a point may go, as the inverse root of what the
            function curves there at most; broadcast to `start`.
    """
    point = start
    value, gradient = function(point)
    steps: deque[tuple[Float64Array, Float64Array, float]] = deque(maxlen=_REMEMBERED)
    for _ in range(_MOST_STEPS):
        downhill = gradient * scales
        if np.abs(downhill).max() <= tolerance:
            break
        direction = -_curved(downhill, steps)
        slope = float((direction * downhill).sum())
        size = 1.0
        for _ in range(_MOST_HALVINGS):
            moved = point + size * scales * direction
            reached, there = function(moved)
            if reached <= value + _ENOUGH * size * slope:
                break
            size /= 2
        else:
            break  # as low as the precision of the function lets it be seen
        change, turn = size * direction, (there - gradient) * scales
        if (product := float((change * turn).sum())) > 0:
            steps.append((change, turn, product))
        point, value, gradient = moved, reached, there
    return point


def _curved(
    gradient: Float64Array, steps: deque[tuple[Float64Array, Float64Array, float]]
) -> Float64Array:
    """The gradient, divided by what the function curves, as the last steps tell it."""
    result, shares = gradient.copy(), []
    for change, turn, product in reversed(steps):
        shares.append(float((change * result).sum()) / product)
        result -= shares[-1] * turn
    if steps:
        _, turn, product = steps[-1]
        result *= product / float((turn * turn).sum())
    for (change, turn, product), share in zip(steps, reversed(shares), strict=True):
        result += (share - float((turn * result).sum()) / product) * change
    return result
