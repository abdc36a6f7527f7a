"""The least value of a convex function, held against closed forms and SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit

from sartor.arrays import Float64Array
from sartor.training.least import least


@pytest.mark.parametrize("stretch", [1.0, 1e3, 1e6])
def test_a_quadratic_function(stretch: float) -> None:
    random = np.random.default_rng(0)
    root = random.normal(size=(20, 20)) * np.geomspace(1, stretch**0.5, 20)
    curved, slope = root.T @ root + np.eye(20), random.normal(size=20)

    def function(point: Float64Array) -> tuple[float, Float64Array]:
        return float(point @ curved @ point / 2 - slope @ point), curved @ point - slope

    found = least(function, np.zeros(20), 1 / np.sqrt(np.diag(curved)), 1e-9)
    np.testing.assert_allclose(curved @ found, slope, atol=1e-4)


@pytest.mark.parametrize("scale", [1e-2, 1.0, 10.0])
def test_whatever_the_scales_it_is_the_same_as_by_scipy(scale: float) -> None:
    random = np.random.default_rng(1)
    rows, signs = random.normal(size=(50, 5)), np.sign(random.normal(size=50))

    def function(point: Float64Array) -> tuple[float, Float64Array]:
        margins = signs * (rows @ point)
        gradient = -(rows * (signs * expit(-margins))[:, None]).sum(axis=0) + point
        return float(np.logaddexp(0, -margins).sum() + point @ point / 2), gradient

    expected = minimize(function, np.zeros(5), jac=True, method="BFGS", options={"gtol": 1e-8}).x
    found = least(function, np.zeros(5), np.full(5, scale), 1e-7 * scale)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_at_the_least_point_nothing_moves() -> None:
    start = np.ones((2, 3))
    assert least(lambda point: (0.0, np.zeros_like(point)), start, np.ones(3), 1e-6) is start


def test_where_precision_ends_it_ends() -> None:
    """A function in float32, whose gradient never gets as small as asked for."""

    def function(point: Float64Array) -> tuple[float, Float64Array]:
        value = float(np.float32(1e4) + np.float32(((point - 3) ** 2).sum()))
        return value, 2 * (point - 3) + 1e-3

    found = least(function, np.zeros(4), np.ones(4), 1e-9)
    assert np.abs(found - 3).max() < 0.1
