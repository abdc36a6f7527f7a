"""What came of a promise, against sums by hand and against many draws."""

from __future__ import annotations

import json

import numpy as np
import pytest

from sartor.evaluation.clusters import share_interval
from sartor.evaluation.conformal import conformal_quantile
from sartor.evaluation.intervals import wilson
from sartor.evaluation.promises import Promise, evaluate_novelty, evaluate_sets

CLASSES = ("cat", "dog", "eel")
PROMISE = Promise(level=0.9, threshold=0.5, images=199, groups=None)


def test_sets_are_counted_class_by_class() -> None:
    inside = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 1], [1, 1, 1], [0, 0, 0]], bool)
    found = evaluate_sets(inside, np.array([0, 0, 0, 1, 1]), CLASSES, PROMISE)
    assert (found.count, found.covered, found.coverage) == (5, 3, 0.6)
    assert found.interval == wilson(3, 5)
    assert found.sizes == (1, 1, 2, 1)
    assert found.mean_size == 8 / 5
    assert [(row.count, row.covered) for row in found.per_class] == [(3, 2), (2, 1), (0, 0)]
    assert (found.per_class[2].coverage, found.per_class[2].mean_size) == (None, None)
    weakest, (low, high) = found.weakest
    assert weakest.class_name == "dog"
    assert low < 0.5 < high
    low, high = found.mean_size_interval
    assert 0 <= low < 1.6 < high <= 3
    json.dumps(found.to_json(), allow_nan=False)


def test_one_image() -> None:
    found = evaluate_sets(np.array([[True, False, True]]), np.array([2]), CLASSES, PROMISE)
    assert found.mean_size_interval == (0.0, 3.0)
    assert found.kept


def test_what_chance_explains_holds_what_is_drawn() -> None:
    """Of 400 draws of validation and judged images, about 1 in 40 is below the range."""
    rng, below, above = np.random.default_rng(0), 0, 0
    for _ in range(400):
        scores = rng.random(199 + 300)
        threshold = conformal_quantile(scores[:199], 0.9)
        assert threshold is not None
        inside = np.stack([scores[199:] <= threshold, np.zeros(300, bool)], axis=1)
        found = evaluate_sets(inside, np.zeros(300, int), ("a", "b"), PROMISE)
        assert found.expected is not None
        below += not found.kept
        above += found.coverage > found.expected[1]
    assert 2 <= below <= 20
    assert 2 <= above <= 20


def test_groups_widen_intervals_and_leave_no_range() -> None:
    inside = np.repeat(np.random.default_rng(0).random((20, 1)) < 0.8, 10, axis=0)
    inside = np.concatenate([inside, ~inside], axis=1)
    labels, groups = np.zeros(200, int), np.repeat(np.arange(20), 10)
    alone = evaluate_sets(inside, labels, ("a", "b"), PROMISE)
    found = evaluate_sets(inside, labels, ("a", "b"), PROMISE, groups)
    assert found.interval == share_interval(inside[:, 0], groups)
    assert found.interval[0] < alone.interval[0]
    assert found.expected is None
    assert found.kept == (found.interval[1] >= 0.9)


@pytest.mark.parametrize("count", [0, 3, 10])
def test_unknown_images(count: int) -> None:
    unknown = np.arange(10) < count
    found = evaluate_novelty(unknown, PROMISE, method="energy", separation={"noise": 0.9})
    assert (found.unknown, found.share, found.promised) == (count, count / 10, 0.1)
    assert found.interval == wilson(count, 10)
    assert found.expected is not None
    low, high = found.expected
    assert 0 <= low <= 0.1 <= high <= 1
    json.dumps(found.to_json(), allow_nan=False)
