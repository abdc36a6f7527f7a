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
    fit_temperature,
    log_probabilities,
    reliability,
    scaled,
)


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

    @pytest.mark.parametrize("loss", ["cross-entropy", "bce", "mse"])
    def test_every_kind_of_output(self, made: Any, loss: str) -> None:
        predictions = made(loss=loss)
        log_p = log_probabilities(predictions)
        assert np.exp(log_p) == pytest.approx(predictions.probabilities(), abs=1e-12)
        after = scaled(log_p, fit_temperature(predictions).value)
        truth = (np.arange(len(predictions)), predictions.labels)
        assert -after[truth].mean() <= -log_p[truth].mean()
        assert np.array_equal(after.argmax(axis=1), log_p.argmax(axis=1)), "no answer changes"

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
        found = reliability(log_p, predictions.labels)
        confidences, right = confidence_of(log_p, predictions.labels)
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
        error = calibration_error(confidences, right)(np.ones((1, 5)))
        assert error[0] == pytest.approx((4 * 0.15 + 0.5) / 5)

    def test_log_loss_as_scikit_learn_has_it(self, made: Any) -> None:
        predictions = made()
        found = reliability(log_probabilities(predictions), predictions.labels)
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
            found = reliability(log_p, labels)
            within += found.ece <= found.ece_by_chance
        assert within >= 16, "it is, 95 % of the time"
        boaster = reliability(np.log(np.tile([0.99, 0.01], (400, 1))), labels)
        assert boaster.ece > 2 * boaster.ece_by_chance
