"""The judgement of a split: everything together, against scikit-learn."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import sklearn.metrics

from sartor.errors import UsageError
from sartor.evaluation.calibration import fit_temperature
from sartor.evaluation.judgement import ScoredPredictions, judge
from sartor.evaluation.metrics import evaluate


class TestJudge:
    def test_it_says_what_evaluate_says_and_more(self, made: Any) -> None:
        predictions = made(split="test")
        document = judge(predictions, made(200)).to_json()
        plain = evaluate(predictions).to_json()
        assert {key: document[key] for key in plain if key != "per_class"} == {
            key: plain[key] for key in plain if key != "per_class"
        }
        for row, expected in zip(document["per_class"], plain["per_class"], strict=True):
            assert row | expected == row
        labels, predicted = predictions.labels, predictions.predicted()
        expected = sklearn.metrics.f1_score(labels, predicted, average="macro")
        assert document["macro_f1"] == pytest.approx(expected)
        expected = sklearn.metrics.balanced_accuracy_score(labels, predicted)
        assert document["balanced_accuracy"] == pytest.approx(expected)
        json.dumps(document, allow_nan=False)

    def test_every_interval_holds_its_number(self, made: Any) -> None:
        document = judge(made(), made()).to_json()
        for part in (document, *document["per_class"]):
            for name, limits in part.items():
                if name.endswith("_interval"):
                    low, high = limits
                    assert low <= part[name.removesuffix("_interval")] <= high, name

    def test_the_temperature_comes_from_the_validation_split_alone(self, made: Any) -> None:
        test, val = made(split="test"), made(250, logits=made(250).logits * 4)
        calibration = judge(test, val).calibration
        assert calibration.temperature == fit_temperature(val)
        assert calibration.temperature.value != fit_temperature(test).value
        assert not calibration.cross_fitted
        with pytest.raises(UsageError, match="validation split of the same weights"):
            judge(test, test)
        with pytest.raises(UsageError, match="validation split of the same weights"):
            judge(test, made(weights_sha256="other"))

    def test_judged_on_its_own_split_it_is_cross_fitted(self, made: Any) -> None:
        boasting = made(800, logits=made(800).logits * 4)
        calibration = judge(boasting, boasting).calibration
        assert calibration.cross_fitted
        assert calibration.after.ece < calibration.before.ece
        assert calibration.after.log_loss < calibration.before.log_loss

    def test_without_a_validation_split_it_says_why(self, made: Any) -> None:
        calibration = judge(made(split="test"), None).calibration
        assert calibration.temperature is calibration.after is None
        assert "no validation split" in calibration.reason
        assert calibration.before.ece > 0

    def test_outputs_that_are_not_finite(self, made: Any) -> None:
        logits = made().logits.copy()
        logits[3, 1] = math.nan
        judgement = judge(made(logits=logits), made(logits=logits))
        assert judgement.calibration is judgement.coverage is judgement.loss is None
        document = judgement.to_json()
        assert document["loss"] is document["loss_interval"] is None
        json.dumps(document, allow_nan=False)
        broken = judge(made(split="test"), made(logits=logits)).calibration
        assert broken.temperature is None
        assert "not finite" in broken.reason

    def test_where_nothing_is_wrong_doubt_remains(self, made: Any) -> None:
        labels = np.arange(50) % 5
        document = judge(made(50, labels=labels, logits=9 * np.eye(5)[labels]), None).to_json()
        assert document["accuracy"] == 1
        for name in ("macro_f1", "balanced_accuracy"):
            low, high = document[f"{name}_interval"]
            # Wilson of 50 of 50, as for the accuracy: every class has ten.
            assert (low, high) == pytest.approx(document["accuracy_interval"])
        for row in document["per_class"]:
            assert row["f1"] == 1
            low, high = row["f1_interval"]
            assert high == 1
            # Wilson of 10 of 10 is 0.7225; F1 = 2 s / (1 + s).
            assert low == pytest.approx(2 * 0.72246 / 1.72246, abs=1e-4)

    def test_outputs_that_are_not_finite_count_as_wrong(self, made: Any) -> None:
        """Also where the truth is the first class, which is what argmax says of NaN."""
        logits = 9 * np.eye(3)[[0, 0, 0, 1, 2]]
        logits[0], logits[1, 0] = math.nan, math.inf
        predictions = made(5, 3, labels=np.array([0, 0, 0, 1, 2]), logits=logits)
        assert predictions.predicted().tolist() == [-1, -1, 0, 1, 2]
        document = judge(predictions, None).to_json()
        assert document["not_finite"] == 2
        assert document["accuracy"] == 3 / 5
        assert [row["count"] for row in document["per_class"]] == [3, 1, 1]
        assert document["per_class"][0]["accuracy"] == 1 / 3
        assert np.sum(document["confusion"]) == 3
        truth, answers = predictions.labels, [-1, -1, 0, 1, 2]
        expected = sklearn.metrics.f1_score(truth, answers, average=None, labels=[0, 1, 2])
        assert [row["f1"] for row in document["per_class"]] == pytest.approx(expected)
        assert ScoredPredictions.of(predictions).mistakes().tolist()[:2] == [0, 1], "the worst"

    def test_a_class_that_the_network_rules_out_is_an_answer(self, made: Any) -> None:
        logits = np.array([[2.0, -math.inf], [-math.inf, 1.0], [-math.inf, -math.inf]])
        predictions = made(3, 2, labels=np.array([0, 1, 0]), logits=logits)
        assert predictions.predicted().tolist() == [0, 1, -1]

    def test_scores_are_not_judged_as_probabilities(self, made: Any) -> None:
        """Of mse: clipped at 1, two outputs are equal; the label is that of the higher one."""
        logits = np.array([[1.1, 1.4], [1.4, 1.1], [0.2, 0.9], [-0.3, -0.1]])
        predictions = made(4, 2, labels=np.array([1, 0, 1, 1]), logits=logits, loss="mse")
        assert predictions.predicted().tolist() == [1, 0, 1, 1]
        judgement = judge(predictions, predictions)
        assert judgement.evaluation.accuracy == 1
        assert judgement.calibration is None
        assert "mse" in judgement.no_calibration
        assert judgement.coverage.points[0].accuracy == 1, "ranked and judged by the outputs"
        assert judgement.coverage.points[-1].threshold > 1

    def test_the_weakest_class_allows_for_being_picked(self, made: Any) -> None:
        document = judge(made(), None).to_json()
        weakest = min(document["per_class"], key=lambda row: row["accuracy"])
        found = document["weakest"]
        assert found["class"] == weakest["class"]
        low, high = found["interval"]
        assert low < weakest["interval"][0] < weakest["interval"][1] < high

    def test_the_interval_of_the_best_epoch_allows_for_the_choice(self, made: Any) -> None:
        predictions = made()
        plain, chosen = judge(predictions, None), judge(predictions, None, choices=40)
        low, high = plain.evaluation.accuracy_interval
        assert chosen.evaluation.accuracy_interval[0] < low
        assert chosen.evaluation.accuracy_interval[1] == high

    @pytest.mark.parametrize("count", [1, 2, 7])
    def test_few_images(self, made: Any, count: int) -> None:
        json.dumps(judge(made(count), made(count)).to_json(), allow_nan=False)


class TestScoredPredictions:
    def test_orders(self, made: Any) -> None:
        predictions = made()
        scored = ScoredPredictions.of(predictions)
        mistakes = scored.mistakes()
        assert set(mistakes) == set(np.flatnonzero(predictions.predicted() != predictions.labels))
        losses = predictions.example_losses()[mistakes]
        assert (np.diff(losses) <= 0).all()
        surest = scored.confidences[scored.most_confident()]
        assert (np.diff(surest) <= 0).all()
        assert scored.most_confident()[0] == scored.confidences.argmax()
        assert scored.least_confident()[0] == scored.confidences.argmin()
        probabilities = predictions.probabilities()
        assert scored.confidences == pytest.approx(probabilities.max(axis=1))
