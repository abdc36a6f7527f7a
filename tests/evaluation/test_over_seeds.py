"""Means over seeds with the sampling of images: against closed forms and by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import t, ttest_ind

from sartor.evaluation.clusters import share_interval
from sartor.evaluation.intervals import wilson
from sartor.evaluation.over_seeds import compare_recipes, mean_over_seeds


def trainings(rng: np.random.Generator, seeds: int, images: np.ndarray, std: float) -> np.ndarray:
    """Whether each training is right on each image: some images are hard for all of them."""
    chance = 1.3 + images + rng.normal(0, std, (seeds, 1))
    return (rng.random((seeds, len(images))) < 1 / (1 + np.exp(-chance))).astype(float)


def true_mean(std_images: float, std_seeds: float) -> float:
    rng = np.random.default_rng(7)
    chance = 1.3 + rng.normal(0, std_images, 200_000) + rng.normal(0, std_seeds, 200_000)
    return float((1 / (1 + np.exp(-chance))).mean())


@pytest.mark.parametrize(("seeds", "images", "std"), [(5, 300, 0.1), (5, 1000, 0.3), (3, 200, 0.0)])
def test_the_intervals_hold_the_truth(seeds: int, images: int, std: float) -> None:
    rng, truth, held, equal = np.random.default_rng(1), true_mean(2.0, std), 0, 0
    for _ in range(300):
        drawn = rng.normal(0, 2.0, images)
        one, other = (trainings(rng, seeds, drawn, std) for _ in range(2))
        low, high = mean_over_seeds(one).interval
        held += low <= truth <= high
        low, high = compare_recipes("a", one, "b", other).interval
        equal += low <= 0 <= high
    assert held / 300 > 0.92
    assert equal / 300 > 0.92


def test_the_interval_over_seeds_on_one_set_of_images_does_not() -> None:
    """Student's interval over seeds misses what other images would change."""
    rng, truth, held = np.random.default_rng(2), true_mean(2.0, 0.05), 0
    for _ in range(200):
        means = trainings(rng, 5, rng.normal(0, 2.0, 200), 0.05).mean(axis=1)
        low, high = t.interval(0.95, 4, means.mean(), means.std(ddof=1) / 5**0.5)
        held += low <= truth <= high
    assert held / 200 < 0.85


def test_images_that_never_differ_leave_the_seeds() -> None:
    """Every training right on a share of images that is its own: a t test of those shares."""
    rng = np.random.default_rng(3)
    one, other = (rng.random((6, 40_000)) < rng.normal(0.8, 0.02, (6, 1)) for _ in range(2))
    pair = compare_recipes("a", one.astype(float), "b", other.astype(float))
    expected = ttest_ind(other.mean(axis=1), one.mean(axis=1), equal_var=False)
    assert pair.p_value == pytest.approx(expected.pvalue, abs=0.03)


def test_the_test_and_the_interval_agree() -> None:
    rng = np.random.default_rng(4)
    for _ in range(100):
        one, other = (trainings(rng, 3, rng.normal(0, 1, 60), 0.3) for _ in range(2))
        pair = compare_recipes("a", one, "b", other)
        low, high = pair.interval
        assert (pair.p_value <= 0.05) == (low >= 0 or high <= 0)


def test_groups_make_it_less_sure() -> None:
    rng = np.random.default_rng(5)
    groups = np.repeat(np.arange(40), 10)
    right = trainings(rng, 4, np.repeat(rng.normal(0, 2, 40), 10), 0.0)
    alone, grouped = mean_over_seeds(right).interval, mean_over_seeds(right, groups).interval
    assert grouped[1] - grouped[0] > 1.5 * (alone[1] - alone[0])
    single = mean_over_seeds(right, np.zeros(400, np.int64)).interval
    assert single == (0.0, 1.0), "one group says nothing of others"


def test_all_right() -> None:
    assert mean_over_seeds(np.ones((3, 50))).interval == wilson(50, 50)
    pair = compare_recipes("a", np.ones((3, 50)), "b", np.ones((2, 50)))
    assert (pair.difference, pair.p_value) == (0, 1)
    assert pair.interval[0] < 0 < pair.interval[1]
    assert "not distinguishable" in pair.verdict


def test_all_correct_in_few_groups_says_little_of_other_groups() -> None:
    right, groups = np.ones((2, 20)), np.arange(20) // 5
    grouped = mean_over_seeds(right, groups).interval
    assert grouped == pytest.approx(share_interval(right[0], groups))
    assert grouped[0] < mean_over_seeds(right).interval[0] - 0.3
    pair = compare_recipes("a", right, "b", right, groups).interval
    assert pair[0] < compare_recipes("a", right, "b", right).interval[0] - 0.3
