"""Accuracy against coverage, against its definition computed in the plainest way."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score

from sartor import native_module
from sartor.evaluation.coverage import coverage, risk_coverage_area

CONFIDENCES = np.array([0.9, 0.9, 0.8, 0.7, 0.7, 0.7, 0.4, 0.3, 0.2, 0.1])
RIGHT = np.array([1, 1, 1, 1, 0, 1, 0, 1, 0, 0], dtype=bool)


def plainly(confidences: np.ndarray, right: np.ndarray) -> float:
    """Mean over the images of the share of mistakes among all that are at least as sure."""
    return float(np.mean([1 - right[confidences >= one].mean() for one in confidences]))


def test_area_by_its_definition() -> None:
    random = np.random.default_rng(0)
    several = [(CONFIDENCES, RIGHT)]
    several += [(random.integers(0, 9, 50) / 9, random.uniform(size=50) < 0.7) for _ in range(5)]
    for confidences, right in several:
        assert coverage(confidences, right).area == pytest.approx(plainly(confidences, right))
        drawn = random.integers(0, len(right), len(right))
        counts = np.bincount(drawn, minlength=len(right))[None].astype(float)
        found = risk_coverage_area(confidences, right)(counts)[0]
        assert found == pytest.approx(plainly(confidences[drawn], right[drawn]))


@pytest.mark.skipif(native_module.missing() is not None, reason="no engine native")
@pytest.mark.parametrize("confidences", [CONFIDENCES, np.linspace(0, 1, 10), np.ones(10)])
def test_compiled_code_gives_the_same_bits(
    confidences: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = np.random.default_rng(0).integers(0, 4, (50, 10)).astype(float)
    counts[:3, :5] = 0
    compiled = risk_coverage_area(confidences, RIGHT)(counts)
    monkeypatch.setattr(native_module, "module", lambda: None)
    np.testing.assert_array_equal(compiled, risk_coverage_area(confidences, RIGHT)(counts))


def test_points() -> None:
    found = coverage(CONFIDENCES, RIGHT)
    assert found.points[0].coverage == 1
    assert found.points[0].accuracy == RIGHT.mean()
    for point in found.points:
        taken = point.threshold <= CONFIDENCES
        assert point.count == taken.sum()
        assert point.coverage == taken.mean()
        assert point.accuracy == pytest.approx(accuracy_score(RIGHT[taken], np.ones(taken.sum())))
        assert point.interval[0] <= point.accuracy <= point.interval[1]


def test_equal_confidences_are_kept_together() -> None:
    assert [share for share, _ in coverage(CONFIDENCES, RIGHT).curve] == pytest.approx(
        [0.2, 0.3, 0.6, 0.7, 0.8, 0.9, 1.0]
    )
    assert coverage(np.ones(10), RIGHT).curve == ((1.0, 0.6),)


def test_the_order_of_the_images_does_not_matter() -> None:
    order = np.random.default_rng(1).permutation(10)
    one, other = coverage(CONFIDENCES, RIGHT), coverage(CONFIDENCES[order], RIGHT[order])
    assert (one.points, one.curve, one.area) == (other.points, other.curve, other.area)


def test_a_curve_is_short_and_ends_with_all() -> None:
    random = np.random.default_rng(2)
    found = coverage(random.uniform(size=5000), random.uniform(size=5000) < 0.8)
    assert len(found.curve) <= 200
    assert found.curve[-1][0] == 1
    low, high = found.area_interval
    assert low < found.area < high
