import json
import subprocess
import sys
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as oracle

from sartor.errors import DataError
from sartor.evaluation.intervals import wilson
from sartor.evaluation.metrics import confusion_matrix, evaluate, evaluate_sums
from sartor.evaluation.predictions import Predictions

NUM_CLASSES = 5
CLASSES = ("a", "b", "c", "d", "e")

# Few images and five classes: most draws leave classes out, as truth, as prediction or as both.
pairs = st.lists(
    st.tuples(st.integers(0, NUM_CLASSES - 1), st.integers(0, NUM_CLASSES - 1)),
    min_size=1,
    max_size=40,
)


def predictions_of(pairs, classes=CLASSES, seed=0, **changes):
    """Predictions whose highest output is the second of each (label, predicted) pair."""
    labels, predicted = np.array(pairs, np.int64).reshape(-1, 2).T
    logits = np.random.default_rng(seed).uniform(-1, 1, (len(labels), len(classes)))
    logits[np.arange(len(labels)), predicted] = 1.5
    fields = {
        "logits": logits.astype(np.float32),
        "labels": labels,
        "indices": np.arange(len(labels)),
        "classes": classes,
        "split": "test",
        "loss": "cross-entropy",
        "weights_sha256": "ab" * 32,
        "dataset_fingerprint": "cd" * 32,
    }
    return Predictions(**fields | changes)


def without_none(values):
    return np.array([np.nan if value is None else value for value in values])


@given(pairs=pairs)
def test_confusion_and_accuracy_equal_scikit_learn(pairs):
    predictions = predictions_of(pairs)
    labels, predicted = predictions.labels, predictions.predicted()
    evaluation = evaluate(predictions)
    expected = oracle.confusion_matrix(labels, predicted, labels=range(NUM_CLASSES))
    np.testing.assert_array_equal(evaluation.confusion, expected)
    assert evaluation.confusion.dtype == np.int64
    assert evaluation.count == len(pairs)
    assert evaluation.accuracy == pytest.approx(oracle.accuracy_score(labels, predicted))
    correct = sum(label == guess for label, guess in pairs)
    assert evaluation.accuracy_interval == wilson(correct, len(pairs))


@given(pairs=pairs)
def test_precision_recall_and_f1_equal_scikit_learn_and_are_none_where_it_has_0_of_0(pairs):
    labels, predicted = np.array(pairs).T
    precision, recall, f1, count = oracle.precision_recall_fscore_support(
        labels, predicted, labels=range(NUM_CLASSES), zero_division=np.nan
    )
    per_class = evaluate(predictions_of(pairs)).per_class
    assert [entry.count for entry in per_class] == count.tolist()
    for name, expected in (("precision", precision), ("recall", recall), ("f1", f1)):
        found = without_none(getattr(entry, name) for entry in per_class)
        np.testing.assert_allclose(found, expected, rtol=1e-12, err_msg=name)
    for entry in per_class:
        assert entry.accuracy == entry.recall
        assert entry.interval == wilson(entry.correct, entry.count)


@given(pairs=pairs)
def test_averages_over_classes_equal_scikit_learn(pairs):
    labels, predicted = np.array(pairs).T
    evaluation = evaluate(predictions_of(pairs))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of predicted classes without images
        balanced = oracle.balanced_accuracy_score(labels, predicted)
    assert evaluation.balanced_accuracy == pytest.approx(balanced)
    macro = oracle.f1_score(labels, predicted, average="macro", zero_division=0)
    assert evaluation.macro_f1 == pytest.approx(macro)


@given(pairs=pairs)
def test_loss_equals_scikit_learn(pairs):
    predictions = predictions_of(pairs)
    expected = oracle.log_loss(
        predictions.labels, predictions.probabilities(), labels=range(NUM_CLASSES)
    )
    assert evaluate(predictions).loss == pytest.approx(expected)


@given(pairs=pairs, cut=st.integers(0, 40))
def test_sums_of_two_parts_give_the_judgement_of_the_whole(pairs, cut):
    whole = predictions_of(pairs)
    parts = (slice(None, cut), slice(cut, None))
    confusion = sum(
        confusion_matrix(whole.labels[part], whole.predicted()[part], NUM_CLASSES) for part in parts
    )
    loss_sum = sum(whole.example_losses()[part].sum() for part in parts)
    summed = evaluate_sums(
        split="test", classes=CLASSES, confusion=confusion, loss_sum=float(loss_sum)
    ).to_json()
    expected = evaluate(whole).to_json()
    assert summed.pop("loss") == pytest.approx(expected.pop("loss"))
    assert summed == expected


def test_json_has_the_keys_of_the_contract_and_plain_numbers():
    written = json.dumps(evaluate(predictions_of([(0, 0), (0, 1), (1, 1)])).to_json())
    evaluation = json.loads(written)
    assert list(evaluation) == [
        "split",
        "count",
        "loss",
        "accuracy",
        "accuracy_interval",
        "balanced_accuracy",
        "macro_f1",
        "per_class",
        "confusion",
        "not_finite",
        "choices",
        "groups",
        "interval_method",
        "weakest",
        "as_given",
        "sets",
        "novelty",
    ]
    assert evaluation["confusion"][0] == [1, 1, 0, 0, 0]
    assert evaluation["accuracy_interval"] == list(wilson(2, 3))
    assert evaluation["per_class"][0] == {
        "class": "a",
        "count": 2,
        "correct": 1,
        "accuracy": 0.5,
        "interval": list(wilson(1, 2)),
        "precision": 1.0,
        "recall": 0.5,
        "f1": pytest.approx(2 / 3),
    }
    absent = evaluation["per_class"][4]
    assert absent["interval"] == [0.0, 1.0]
    assert [absent[key] for key in ("accuracy", "precision", "recall", "f1")] == [None] * 4


def test_a_class_without_images_that_was_predicted_has_a_precision_of_0():
    entry = evaluate(predictions_of([(0, 1), (0, 0)])).per_class[1]
    assert (entry.accuracy, entry.precision, entry.f1) == (None, 0.0, 0.0)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_loss_that_is_not_finite_is_null_in_strict_json(value):
    logits = np.zeros((2, 5), np.float32)
    logits[0, 2] = value
    evaluation = evaluate(predictions_of([(0, 0), (1, 1)], logits=logits))
    written = json.dumps(evaluation.to_json(), allow_nan=False)
    assert json.loads(written)["loss"] is None


def test_predictions_of_no_image_are_not_judged():
    with pytest.raises(DataError, match="no predictions"):
        evaluate(predictions_of([]))


@pytest.mark.parametrize("value", [-1, 3])
def test_a_value_that_is_no_class_is_refused(value):
    good, bad = np.array([0, 1]), np.array([0, value])
    for labels, predicted in ((good, bad), (bad, good)):
        with pytest.raises(DataError, match="0 to 2"):
            confusion_matrix(labels, predicted, 3)


def test_arrays_of_different_length_are_refused():
    with pytest.raises(DataError):
        confusion_matrix(np.array([0, 1]), np.array([0]), 2)


def test_repr_says_the_numbers_and_the_weakest_class():
    low, high = wilson(2, 3)
    shown = repr(evaluate(predictions_of([(0, 0), (0, 1), (1, 1)])))
    assert shown.startswith("<Evaluation of test: 3 images, accuracy 66.67 %")
    assert f"({100 * low:.2f} to {100 * high:.2f} %)" in shown
    assert "weakest class: a, 50.00 %" in shown


def test_html_shows_every_class_and_escapes_its_name():
    classes = ("<script>alert(1)</script>", "a & b", "c")
    shown = evaluate(predictions_of([(0, 0), (1, 1)], classes))._repr_html_()
    assert "<script>" not in shown
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in shown
    assert "a &amp; b" in shown
    assert shown.count("<tr>") == 1 + len(classes)


def test_judging_imports_nothing_heavy():
    program = (
        "import sys, sartor.evaluation.metrics, sartor.reports.text;"
        "print({'torch', 'scipy', 'sklearn', 'matplotlib'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stderr
