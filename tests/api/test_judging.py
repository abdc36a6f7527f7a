"""Evaluations, held against scikit-learn and the saved predictions."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import sklearn.metrics

import sartor
from sartor.data.dataset import Dataset
from sartor.errors import (
    UsageError,
)
from sartor.evaluation.predictions import Predictions


@pytest.fixture(scope="module")
def run(trained: Path) -> sartor.Run:
    """The finished run; only read here, but for its predictions."""
    return sartor.Run.open(trained)


def test_equals_scikit_learn_on_the_saved_predictions(run: sartor.Run) -> None:
    evaluation = run.evaluate("test")
    saved = Predictions.load(run.path / "predictions" / "test.npz")
    labels, predicted = saved.labels, saved.logits.argmax(axis=1)
    assert evaluation.count == len(labels) == 359
    assert evaluation.accuracy == sklearn.metrics.accuracy_score(labels, predicted)
    assert evaluation.loss == pytest.approx(
        sklearn.metrics.log_loss(labels, saved.probabilities()), rel=1e-9
    )
    assert np.array_equal(evaluation.confusion, sklearn.metrics.confusion_matrix(labels, predicted))
    columns = sklearn.metrics.precision_recall_fscore_support(
        labels, predicted, zero_division=np.nan
    )
    for name, column in zip(("precision", "recall", "f1", "count"), columns, strict=True):
        own = [getattr(row, name) for row in evaluation.per_class]
        assert [math.nan if value is None else value for value in own] == pytest.approx(
            column.tolist(), nan_ok=True
        )


def test_the_saved_predictions_say_where_they_come_from(run: sartor.Run, digits: Dataset) -> None:
    for split in ("test", "val", "train"):
        evaluation = run.evaluate(split)
        saved = Predictions.load(run.path / "predictions" / f"{split}.npz")
        assert saved.split == evaluation.split == split
        assert np.array_equal(saved.indices, run.split().part(split))
        assert np.array_equal(saved.labels, digits.labels[saved.indices])
        assert saved.dataset_fingerprint == digits.fingerprint
        assert saved.classes == digits.classes == run.classes


def test_validation_as_in_the_history(run: sartor.Run) -> None:
    last = run.evaluate("val", checkpoint="last")
    assert last.accuracy == run.history[-1]["val_accuracy"]
    assert last.loss == pytest.approx(run.history[-1]["val_loss"], rel=1e-5)
    best = run.evaluate("val", checkpoint="best")
    assert best.accuracy == max(row["val_accuracy"] for row in run.history)


def test_unknown_split_and_checkpoint(run: sartor.Run) -> None:
    with pytest.raises(UsageError, match='There is no split "tets"'):
        run.evaluate("tets")
    with pytest.raises(UsageError, match='There is no checkpoint "first"'):
        run.evaluate(checkpoint="first")
