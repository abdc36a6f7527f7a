"""What is said of a picture: labels, sets, novelty, and when a label is withheld."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest

from sartor.errors import DataError
from sartor.inference.answers import Prediction, Unreadable, answers
from sartor.inference.calibration import Calibration, NoveltyScore

CLASSES = ("cat", "dog", "eel")
SCORE = NoveltyScore(
    method="energy",
    layer="",
    table=np.array([0.0, 1.0, 1.0, 2.0], np.float32),
    threshold=1.5,
    false_alarms=0.01,
    images=4,
    separation={"energy": {"noise": 0.9}},
)
FITTED = Calibration(
    temperature=2.0, coverage=0.9, set_threshold=0.6, novelty=SCORE, images=4, remarks=("One.",)
)
PROBABILITIES = np.array([[0.5, 0.2, 0.3], [0.1, 0.9, 0.0]], np.float32)


def answered(scores: list[float], **changes: Any) -> list[Prediction]:
    found = answers(
        ["a", "b"],
        PROBABILITIES,
        np.array(scores, np.float32),
        dataclasses.replace(FITTED, **changes),
        CLASSES,
    )
    return [one for one in found if isinstance(one, Prediction)]


def test_every_part_of_an_answer() -> None:
    first, second = answered([1.0, 1.6])
    assert first.to_json() == {
        "file": "a",
        "label": "cat",
        "probability": 0.5,
        "probabilities": dict(zip(CLASSES, PROBABILITIES[0].tolist(), strict=True)),
        "set": ["cat", "eel"],
        "novelty": 1.0,
        "novelty_percentile": 75.0,
        "unknown": False,
        "unlike_training": [],
    }
    assert (second.label, second.set, second.unknown) == ("dog", ("dog",), True)
    assert second.novelty_percentile == 75.0


def test_what_was_not_fitted_is_null() -> None:
    (bare,) = answers(["a"], PROBABILITIES[:1], None, Calibration(), CLASSES)
    document = bare.to_json()
    assert [document[name] for name in ("set", "novelty", "novelty_percentile", "unknown")] == [
        *[None] * 4
    ]
    without_threshold = dataclasses.replace(SCORE, threshold=None)
    scored, _ = answered([9.0, 0.0], novelty=without_threshold)
    assert (scored.novelty, scored.novelty_percentile, scored.unknown) == (9.0, 100.0, None)


@pytest.mark.parametrize("score", [np.nan, np.inf])
def test_a_novelty_that_is_no_number_is_unknown(score: float) -> None:
    first, _ = answered([score, 0.0])
    assert (first.novelty, first.unknown) == (None, True)
    json.dumps(first.to_json(), allow_nan=False)


def test_outputs_that_are_not_finite_have_no_prediction() -> None:
    rows = np.array([[np.nan] * 3, PROBABILITIES[1].tolist()], np.float32)
    first, second = answers(["a", "b"], rows, None, FITTED, CLASSES)
    assert isinstance(first, Unreadable)
    assert first.to_json() == {
        "file": "a",
        "error": "The network's outputs are not finite, so there is no prediction.",
    }
    assert isinstance(second, Prediction)
    assert second.label == "dog"


def test_no_pictures_and_a_single_class() -> None:
    assert answers([], np.empty((0, 3)), None, FITTED, CLASSES) == []
    (one,) = answers(["a"], np.ones((1, 1)), None, FITTED, ("only",))
    assert isinstance(one, Prediction)
    assert (one.label, one.set) == ("only", ("only",))


def test_the_class_that_the_outputs_prefer_is_in_the_set_although_probabilities_are_equal() -> None:
    rows = np.array([[0.5, 0.5, 0.0]])
    sets = dataclasses.replace(FITTED, set_threshold=0.0)
    (one,) = answers(["a"], rows, None, sets, CLASSES, predicted=np.array([1]))
    assert isinstance(one, Prediction)
    assert (one.label, one.set) == ("dog", ("dog",))


@pytest.mark.parametrize(
    ("when", "withheld"), [("off", [0, 0]), ("novelty", [0, 1]), ("set", [1, 0])]
)
def test_abstaining(when: str, withheld: list[int]) -> None:
    for one, gone in zip(answered([1.0, 1.6]), withheld, strict=True):
        kept = one.abstaining(when)
        assert kept.abstained == bool(gone)
        document = kept.to_json(1)
        assert (document["label"] is None, document["probability"] is None) == (gone, gone)
        assert document["probabilities"] == {one.label: one.probability}, "told all the same"


class TestDocument:
    def test_comes_back_equal(self) -> None:
        document = json.loads(json.dumps(FITTED.to_json(), allow_nan=False))
        found = Calibration.from_json(document, FITTED.arrays())
        assert found.to_json() == FITTED.to_json()
        assert found.novelty_threshold == 1.5

    @pytest.mark.parametrize(
        ("change", "says"),
        [
            ({"temperature": 0}, "temperature"),
            ({"temperature": "hot"}, "temperature"),
            ({"temperature": float("nan")}, "temperature"),
            ({"coverage": 1.5}, "coverage"),
            ({"set_threshold": None}, "only one"),
            ({"images": -1}, "whole numbers"),
            ({"remarks": "none"}, "remarks"),
            ({"novelty": []}, "novelty"),
            ({"novelty.method": "guess"}, "guess"),
            ({"novelty.method": "mahalanobis"}, "missing"),
            ({"novelty.threshold": "high"}, "threshold"),
            ({"novelty.table": []}, "table"),
            ({"novelty.table": [2.0, 1.0]}, "ascend"),
            ({"novelty.images": None}, "images"),
            ({"novelty.layer": 3}, "layer"),
        ],
    )
    def test_a_damaged_one_is_refused(self, change: dict[str, Any], says: str) -> None:
        document = FITTED.to_json()
        for name, value in change.items():
            *outer, last = name.split(".")
            table = document[outer[0]] if outer else document
            table[last] = value
        with pytest.raises(DataError, match=says):
            Calibration.from_json(document, {})

    @pytest.mark.parametrize("document", [None, [], "text", {}, {"temperature": 1.0}])
    def test_something_else_is_refused(self, document: Any) -> None:
        with pytest.raises(DataError, match="it is not a table"):
            Calibration.from_json(document, {})
