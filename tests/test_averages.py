"""Averages over classes against scikit-learn, and where there is nothing to average."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import sklearn.metrics as oracle
from hypothesis import given
from hypothesis import strategies as st

from sartor.averages import balanced_accuracy, macro_f1


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=50))
def test_equal_those_of_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    labels, predicted = np.array(pairs).T
    columns = labels, labels[labels == predicted], predicted
    counts, correct, said = (np.bincount(column, minlength=5).tolist() for column in columns)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = oracle.balanced_accuracy_score(labels, predicted)
    assert balanced_accuracy(counts, correct) == pytest.approx(expected)
    expected = oracle.f1_score(labels, predicted, average="macro")
    assert macro_f1(counts, correct, said) == pytest.approx(expected)


def test_of_nothing_are_no_number() -> None:
    assert math.isnan(balanced_accuracy([0, 0], [0, 0]))
    assert math.isnan(macro_f1([0, 0], [0, 0], [0, 0]))
