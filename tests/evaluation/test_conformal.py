"""Sets of classes, held against MAPIE, against their definition, and against their promise."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mapie.classification import SplitConformalClassifier
from scipy.stats import betabinom
from sklearn.base import BaseEstimator, ClassifierMixin

from sartor.arrays import Float64Array, Int64Array
from sartor.evaluation.conformal import (
    conformal_quantile,
    fewest_for,
    mass_before,
    members,
    promised_range,
    ranked,
    true_scores,
)
from sartor.inference.calibration import EVERY_CLASS


def drawn(count: int, classes: int, seed: int) -> tuple[Float64Array, Int64Array]:
    """Probabilities that are wrong about their own certainty, and true classes."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(count, classes)) * 2
    labels = (logits * 0.5 + rng.gumbel(size=logits.shape)).argmax(1)
    p = np.exp(logits)
    return p / p.sum(1, keepdims=True), labels


class OnlyOnes(np.random.RandomState):
    """Draws nothing but ones."""

    def uniform(self, *_args: Any, size: Any = None, **_kwargs: Any) -> Any:
        return np.ones(size)


class AsGiven(ClassifierMixin, BaseEstimator):
    """A classifier whose inputs are its probabilities."""

    def __init__(self, classes: int = 2) -> None:
        self.classes_ = np.arange(classes)

    def fit(self, _x: Any, _y: Any) -> AsGiven:
        return self

    def predict_proba(self, x: Any) -> Any:
        return x

    def predict(self, x: Any) -> Any:
        return x.argmax(axis=1)


class TestSets:
    @given(st.integers(1, 12), st.floats(0, 1), st.integers(0, 2**32 - 1))
    def test_are_what_adding_one_class_after_the_other_gives(
        self, classes: int, threshold: float, seed: int
    ) -> None:
        p, _ = drawn(5, classes, seed)
        for row, inside in zip(p, members(p, threshold), strict=True):
            total, by_hand = 0.0, set()
            for place in sorted(range(classes), key=lambda one: (-row[one], one)):
                by_hand.add(place)
                total += row[place]
                if total > threshold:
                    break
            assert set(np.flatnonzero(inside)) == by_hand

    def test_of_equal_probabilities_the_first_class_comes_first_unless_another_is_the_answer(
        self,
    ) -> None:
        p = np.array([[0.25, 0.25, 0.25, 0.25]])
        assert ranked(p).tolist() == [[0, 1, 2, 3]]
        assert ranked(p, np.array([2])).tolist() == [[2, 0, 1, 3]]
        assert mass_before(p).tolist() == [[0, 0.25, 0.5, 0.75]]
        assert members(p, 0.25).tolist() == [[True, True, False, False]]
        assert members(p, 0.0, np.array([2])).tolist() == [[False, False, True, False]]

    def test_above_one_holds_every_class_although_sums_round(self) -> None:
        p = np.full((1, 3000), 1 / 3000)
        assert members(p, EVERY_CLASS).all()

    @pytest.mark.parametrize("level", [0.8, 0.95])
    def test_and_thresholds_are_those_of_mapie(self, level: float) -> None:
        """Romano's sets with every random number 1, which leaves no randomness in them."""
        p, labels = drawn(1500, 6, 0)
        threshold = conformal_quantile(true_scores(p[:500], labels[:500]), level)
        assert threshold is not None
        mapie = SplitConformalClassifier(
            AsGiven(6), level, "aps", prefit=True, random_state=OnlyOnes()
        ).conformalize(p[:500], labels[:500])
        _, sets = mapie.predict_set(
            p[500:], conformity_score_params={"include_last_label": "randomized"}
        )
        np.testing.assert_array_equal(members(p[500:], threshold), sets[:, :, 0])


class TestQuantile:
    @given(st.integers(1, 200), st.sampled_from([0.5, 0.8, 0.9, 0.95, 0.99]))
    def test_is_the_one_of_the_theorem(self, count: int, level: float) -> None:
        scores = np.random.default_rng(count).permutation(count).astype(float)
        place = math.ceil(round((count + 1) * level, 9))
        assert conformal_quantile(scores, level) == (None if place > count else place - 1)
        assert (count < fewest_for(level)) == (place > count)

    def test_none_without_images(self) -> None:
        assert conformal_quantile(np.empty(0), 0.95) is None

    def test_with_groups_of_one_it_is_the_same(self) -> None:
        scores = np.random.default_rng(0).random(50)
        assert conformal_quantile(scores, 0.9, np.arange(50)) == conformal_quantile(scores, 0.9)

    def test_a_group_counts_once_however_large(self) -> None:
        scores = np.concatenate([np.full(1000, 0.1), np.arange(19) / 19 + 1])
        groups = np.concatenate([np.zeros(1000, int), np.arange(1, 20)])
        alone = conformal_quantile(np.concatenate([[0.1], np.arange(19) / 19 + 1]), 0.9)
        assert conformal_quantile(scores, 0.9, groups) == alone
        assert conformal_quantile(scores[:1000], 0.5, groups[:1000]) == 0.1
        assert conformal_quantile(scores[:1000], 0.6, groups[:1000]) is None


class TestPromise:
    def test_is_kept_on_average_however_wrong_the_network(self) -> None:
        """Over 300 draws of 60 validation images each: at least 0.9, and hardly more."""
        coverages = []
        for seed in range(300):
            p, labels = drawn(1060, 5, seed)
            q = conformal_quantile(true_scores(p[:60], labels[:60]), 0.9)
            assert q is not None
            coverages.append(members(p[60:], q)[np.arange(1000), labels[60:]].mean())
        error = np.std(coverages) / math.sqrt(300)
        assert 0.9 - 3 * error < np.mean(coverages) < 0.9 + 1 / 61 + 3 * error

    def test_is_kept_for_one_more_group(self) -> None:
        """Groups differ in how hard they are and in size, and the largest are the easiest."""
        kept = []
        for seed in range(400):
            rng = np.random.default_rng(seed)
            hardness = rng.random(31)
            sizes = np.maximum(1, (60 * (1 - hardness)).astype(int))
            groups = np.repeat(np.arange(31), sizes)
            scores = hardness[groups] * 0.8 + 0.2 * rng.random(len(groups))
            new = groups == 30
            q = conformal_quantile(scores[~new], 0.8, groups[~new])
            assert q is not None
            kept.append((scores[new] <= q).mean())
        error = np.std(kept) / math.sqrt(400)
        assert 0.8 - 3 * error < np.mean(kept) < 0.8 + 1 / 31 + 3 * error

    def test_range_is_that_of_the_beta_binomial_distribution(self) -> None:
        low, high = promised_range(300, 199, 0.95)
        oracle = betabinom(300, 190, 10)
        assert (low * 300, high * 300) == (oracle.ppf(0.025), oracle.ppf(0.975))

    def test_range_without_room_for_an_image_outside(self) -> None:
        assert promised_range(100, 10, 0.95) == (1.0, 1.0)

    @pytest.mark.parametrize("count", [1, 2, 10_000])
    def test_range_of_few_and_many(self, count: int) -> None:
        low, high = promised_range(count, 500, 0.95)
        assert 0 <= low <= high <= 1
