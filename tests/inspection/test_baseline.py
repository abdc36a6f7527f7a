"""Baselines: what they reach on digits, what they say beside a network."""

from __future__ import annotations

import numpy as np
import pytest

import sartor
from sartor.api import baselining
from sartor.data.dataset import Dataset
from sartor.data.splits.split import make_split
from sartor.evaluation.overfitting import overfitting
from sartor.inspection.baseline import Baseline, baselines


def test_better_methods_are_better(digits: Dataset) -> None:
    split = make_split(digits, val_fraction=0.1, test_fraction=0.2, seed=0)
    found = baselines(digits, split.train, split.val)
    labels = digits.labels[split.val]
    accuracies = [float((one.predicted == labels).mean()) for one in found]
    assert [one.name.split(" on ")[0] for one in found] == [
        "most frequent class",
        "linear model",
        "kernel machine",
    ]
    assert accuracies[0] < 0.25 < 0.9 < min(accuracies[1:])


def test_labels_of_the_judged_images_are_not_seen(digits: Dataset) -> None:
    taught, asked = np.arange(300), np.arange(300, 400)
    changed = digits.labels.copy()
    changed[asked] = 0
    pairs = zip(
        baselines(digits, taught, asked),
        baselines(Dataset(digits.images, changed, digits.classes), taught, asked),
        strict=True,
    )
    assert all(np.array_equal(one.predicted, other.predicted) for one, other in pairs)


def test_beside_a_network() -> None:
    labels = np.zeros(200, np.int64)
    half = Baseline(name="half", predicted=np.arange(200) % 2, taught=10)
    good, same = np.arange(200) % 20 == 0, half.predicted
    better = half.beside(labels, good.astype(np.int64))
    assert (better["accuracy"], better["difference"]) == (0.5, pytest.approx(0.45))
    assert better["beaten"]
    assert not half.beside(labels, same)["beaten"]


def test_are_computed_once(digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    taught, asked = np.arange(300), np.arange(300, 377)
    first = baselining.kept(digits, taught, asked)
    monkeypatch.setattr(baselining, "baselines", None)
    second = baselining.kept(digits, taught, asked)
    assert [one.to_json() for one in first] == [one.to_json() for one in second]


def test_check_names_what_to_beat(digits: Dataset) -> None:
    (finding,) = sartor.check(digits, only=["baselines"]).findings
    assert (finding.check, finding.severity, finding.items) == ("baselines", "note", ())
    assert "most frequent class" in finding.summary
    assert all(one["accuracy"] <= 1 for one in finding.figures["baselines"])
    few = Dataset(digits.images[:100], digits.labels[:100], digits.classes)
    assert "baselines" in sartor.check(few, only=["baselines"]).left_out


@pytest.mark.parametrize(
    ("train", "val", "said"), [(0.997, 0.627, True), (0.7, 0.65, False), (None, 0.6, False)]
)
def test_overfitting(train: float | None, val: float, said: bool) -> None:
    rows = [{"epoch": 1, "train_accuracy": train, "val_accuracy": val}]
    sentence = overfitting(rows, 1, 200)
    assert (sentence is not None) is said
    assert not said or "99.7%, validation accuracy 62.7%" in str(sentence)


def test_a_gap_that_few_images_explain_is_not_overfitting() -> None:
    rows = [{"epoch": 1, "train_accuracy": 0.99, "val_accuracy": 0.8}]
    assert overfitting(rows, 1, 10) is None
    assert overfitting(rows, 1, 1_000) is not None


def test_the_remedy_for_a_head_on_features_is_one_that_it_can_take() -> None:
    rows = [{"epoch": 1, "train_accuracy": 1.0, "val_accuracy": 0.6}]
    sentence = overfitting(rows, 1, 200, on_features=True)
    assert sentence is not None
    assert "--augment flip)" in sentence
    # --transfer features refuses these.
    assert not any(flag in sentence for flag in ("crop", "--weight-decay", "--model"))
