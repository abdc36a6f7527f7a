"""Calibration, against scikit-learn, scipy and closed forms."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from sklearn.calibration import calibration_curve
from sklearn.metrics import log_loss

from sartor.errors import DataError
from sartor.evaluation.calibration import (
    BINS,
    HIGHEST_TEMPERATURE,
    LOWEST_TEMPERATURE,
    calibration_error,
    confidence_of,
    cross_fitted,
    errors_by_chance,
    fit_temperature,
    gap_interval,
    log_probabilities,
    reliability,
    scaled,
)
from sartor.evaluation.intervals import wilson


class TestTemperature:
    @pytest.mark.parametrize(
        ("count", "classes", "skill"), [(300, 5, 2.0), (80, 2, 0.5), (900, 30, 4)]
    )
    def test_has_the_least_log_loss(
        self, made: Any, count: int, classes: int, skill: float
    ) -> None:
        predictions = made(count, classes, skill)

        def by_scikit_learn(log_temperature: float) -> float:
            divided = predictions.logits.astype(float) / math.exp(log_temperature)
            probabilities = np.exp(log_softmax(divided, axis=1))
            return float(log_loss(predictions.labels, probabilities, labels=range(classes)))

        bounds = (math.log(LOWEST_TEMPERATURE), math.log(HIGHEST_TEMPERATURE))
        best = minimize_scalar(by_scikit_learn, bounds=bounds, options={"xatol": 1e-8})
        found = fit_temperature(predictions)
        assert found.value == pytest.approx(math.exp(best.x), rel=1e-4)
        assert found.count == count
        assert not found.at_bound

    def test_closed_form_of_two_classes(self, made: Any) -> None:
        """Three of four right at a margin m: log loss is least where sigmoid(m / T) is 3 / 4."""
        logits = np.tile([4.0, 0.0], (400, 1))
        labels = np.tile([0, 0, 0, 1], 100)
        found = fit_temperature(made(400, 2, logits=logits, labels=labels))
        assert found.value == pytest.approx(4 / math.log(3), rel=1e-5)

    def test_stretched_logits_stretch_it(self, made: Any) -> None:
        predictions = made()
        stretched = made(logits=predictions.logits * 3)
        ratio = fit_temperature(stretched).value / fit_temperature(predictions).value
        assert ratio == pytest.approx(3, rel=1e-5)

    @pytest.mark.parametrize(
        ("sign", "bound"), [(1, LOWEST_TEMPERATURE), (-1, HIGHEST_TEMPERATURE)]
    )
    def test_all_right_and_all_wrong_stay_within_bounds(
        self, made: Any, sign: int, bound: float
    ) -> None:
        labels = np.arange(60) % 3
        found = fit_temperature(made(60, 3, labels=labels, logits=sign * np.eye(3)[labels]))
        assert found.value == pytest.approx(bound)
        assert found.at_bound

    @pytest.mark.parametrize("loss", ["cross-entropy", "bce"])
    def test_every_kind_of_probabilities(self, made: Any, loss: str) -> None:
        predictions = made(loss=loss)
        log_p = log_probabilities(predictions)
        assert np.exp(log_p) == pytest.approx(predictions.probabilities(), abs=1e-12)
        after = scaled(log_p, fit_temperature(predictions).value)
        truth = (np.arange(len(predictions)), predictions.labels)
        assert -after[truth].mean() <= -log_p[truth].mean()
        assert np.array_equal(after.argmax(axis=1), log_p.argmax(axis=1)), "no answer changes"

    def test_scores_have_no_temperature(self, made: Any) -> None:
        with pytest.raises(DataError, match="mse gives scores, not probabilities"):
            fit_temperature(made(loss="mse"))

    def test_outputs_that_are_not_finite(self, made: Any) -> None:
        with pytest.raises(DataError, match="not finite"):
            fit_temperature(made(2, 2, logits=np.array([[0.0, math.nan], [0.0, 1.0]])))


class TestCrossFitted:
    def test_no_image_is_scaled_by_a_temperature_that_saw_it(self, made: Any) -> None:
        predictions = made(200)
        log_p, labels = log_probabilities(predictions), predictions.labels
        before = cross_fitted(log_p, labels)
        for image in range(0, 200, 40):
            changed = labels.copy()
            changed[image] = (labels[image] + 1) % 5
            after = cross_fitted(log_p, changed)
            assert np.array_equal(before[image], after[image])
            assert not np.array_equal(before, after), "the others did see it"

    def test_a_single_image_stays_as_it_is(self, made: Any) -> None:
        predictions = made(1)
        log_p = log_probabilities(predictions)
        assert np.array_equal(cross_fitted(log_p, predictions.labels), log_p)


class TestReliability:
    def test_bins_as_scikit_learn_has_them(self, made: Any) -> None:
        predictions = made(2000)
        log_p = log_probabilities(predictions)
        found = reliability(log_p, predictions.labels, predictions.predicted())
        predicted = predictions.predicted()
        confidences, right = confidence_of(log_p, predicted), predicted == predictions.labels
        accuracies, means = calibration_curve(right, confidences, n_bins=BINS)
        filled = [one for one in found.bins if one.count]
        assert [one.accuracy for one in filled] == pytest.approx(accuracies)
        assert [one.confidence for one in filled] == pytest.approx(means)
        assert sum(one.count for one in found.bins) == 2000
        for one in filled:
            assert one.low < one.confidence <= one.high
            assert one.interval[0] <= one.accuracy <= one.interval[1]

    def test_error_by_hand(self) -> None:
        """Three of four right at 0.9, none of one at 0.5: (4 |0.75 - 0.9| + |0 - 0.5|) / 5."""
        confidences = np.array([0.9, 0.9, 0.9, 0.9, 0.5])
        right = np.array([True, True, True, False, False])
        assert calibration_error(confidences, right) == pytest.approx((4 * 0.15 + 0.5) / 5)

    def test_log_loss_as_scikit_learn_has_it(self, made: Any) -> None:
        predictions = made()
        log_p = log_probabilities(predictions)
        found = reliability(log_p, predictions.labels, predictions.predicted())
        expected = log_loss(predictions.labels, predictions.probabilities())
        assert found.log_loss == pytest.approx(expected, rel=1e-6)
        low, high = found.log_loss_interval
        assert low < found.log_loss < high

    def test_a_calibrated_classifier_is_within_chance_and_a_boaster_is_not(self) -> None:
        random = np.random.default_rng(0)
        within = 0
        for _ in range(20):
            confidences = random.uniform(0.5, 1, 400)
            labels = (random.uniform(size=400) > confidences).astype(int)
            log_p = np.log(np.stack([confidences, 1 - confidences], axis=1))
            found = reliability(log_p, labels, np.zeros(400, int))
            within += found.ece <= found.ece_by_chance
        assert within >= 16, "it is, 95 % of the time"
        boaster = reliability(np.log(np.tile([0.99, 0.01], (400, 1))), labels, np.zeros(400, int))
        assert boaster.ece > 2 * boaster.ece_by_chance

    def test_what_chance_gives_is_what_drawing_every_image_gives(self) -> None:
        """The distribution of each bin's sum against images drawn one by one."""
        random = np.random.default_rng(2)
        confidences = random.beta(6, 2, 301)
        right = random.uniform(size=(4000, 301)) < confidences
        drawn = np.array([calibration_error(confidences, row) for row in right])
        found = errors_by_chance(confidences)
        assert len(found) == 5000
        assert found.mean() == pytest.approx(drawn.mean(), rel=0.02)
        assert np.quantile(found, 0.95) == pytest.approx(np.quantile(drawn, 0.95), rel=0.03)


class TestGap:
    def test_it_is_confidence_minus_accuracy_and_decides_the_verdict(self) -> None:
        labels = np.array([0] * 80 + [1] * 20)
        found = {
            confidence: reliability(
                np.log(np.tile([confidence, 1 - confidence], (100, 1))), labels, np.zeros(100, int)
            )
            for confidence in (0.95, 0.82, 0.6)
        }
        assert found[0.95].gap == pytest.approx(0.15)
        assert [one.verdict for one in found.values()] == ["overconfident", None, "underconfident"]
        for one in found.values():
            low, high = one.gap_interval
            assert low < one.gap < high

    def test_of_equal_confidences_it_is_wilsons_interval_of_the_accuracy(self) -> None:
        right = np.arange(50) % 5 > 0
        low, high = wilson(40, 50)
        found = gap_interval(np.full(50, 0.9), right)
        assert found == pytest.approx((0.9 - high, 0.9 - low))

    def test_where_every_image_is_right_nothing_is_claimed_for_little(self) -> None:
        """96 of 96 right at 99.9 %: the bootstrap of the gap would call that underconfident."""
        low, high = gap_interval(np.linspace(0.998, 1, 96), np.ones(96, bool))
        assert low < 0 < high

    def test_it_covers_the_truth_as_often_as_it_says(self) -> None:
        random = np.random.default_rng(7)
        hits = 0
        for _ in range(500):
            confidences = random.beta(30, 1, 60)
            low, high = gap_interval(confidences, random.uniform(size=60) < confidences)
            hits += low <= 0 <= high
        assert 0.925 <= hits / 500 <= 0.985

    def test_a_single_image(self) -> None:
        low, high = gap_interval(np.array([0.9]), np.array([True]))
        assert -1 <= low < -0.1 < high <= 1
