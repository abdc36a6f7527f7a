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
        assert document["macro_f1_interval"] is None, "draws cannot tell"
        for row in document["per_class"]:
            assert row["f1"] == 1
            low, high = row["f1_interval"]
            assert high == 1
            # Wilson of 10 of 10 is 0.7225; F1 = 2 s / (1 + s).
            assert low == pytest.approx(2 * 0.72246 / 1.72246, abs=1e-4)

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
