"""Pictures unlike their class: strangers among clusters of features."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sartor.data.dataset import Dataset
from sartor.inspection.check.outliers import LISTED, likeness_to_class
from sartor.inspection.check.running import run_checks
from sartor.inspection.check.subject import Subject

from .conftest import Found, subject_of

STRANGERS = np.array([7, 200, 391])


class Seen:
    name = "a backbone"

    def __init__(self, features: np.ndarray) -> None:
        self.of_all = features.astype(np.float32)


@pytest.fixture
def subject() -> Subject:
    """Four classes of 100 images; the features of three images are of no class."""
    random = np.random.default_rng(0)
    labels = np.arange(400) % 4
    features = 2 * random.normal(0, 1, (4, 24))[labels] + random.normal(0, 1, (400, 24))
    features[STRANGERS] = random.normal(0, 2, (3, 24))
    images = random.integers(0, 256, (400, 1, 8, 8), np.uint8)
    subject = subject_of(Dataset(images, labels, ("a", "b", "c", "d")))
    return replace(subject, features=Seen(features))


def test_strangers_come_first(found: Found, subject: Subject) -> None:
    finding = found(subject, "outliers")["unlike their class"]
    assert {item.index for item in finding.items[:3]} == set(STRANGERS.tolist())
    assert finding.count == min(LISTED, 12)
    assert finding.severity == "note"
    likeness = [item.figures["likeness"] for item in finding.items]
    assert likeness == sorted(likeness)
    assert [item.figures["far"] for item in finding.items[:3]] == [True] * 3
    assert finding.figures["far"] <= 4
    assert finding.items[0].about.startswith("likeness ")


def test_likeness_is_that_of_brute_force(subject: Subject) -> None:
    assert subject.features is not None
    labels = subject.dataset.labels
    judged, likeness = likeness_to_class(subject.features.of_all, labels)
    assert judged.tolist() == list(range(400))
    vectors = subject.features.of_all.astype(float)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = vectors @ vectors.T
    for row in range(0, 400, 40):
        others = np.flatnonzero((labels == labels[row]) & (np.arange(400) != row))
        assert likeness[row] == pytest.approx(np.sort(cosines[row, others])[-10:].mean(), abs=1e-5)


def test_small_classes_are_not_judged(subject: Subject) -> None:
    assert subject.features is not None
    labels = subject.dataset.labels.copy()
    labels[labels == 3] = 2
    labels[:8] = 3
    judged, _ = likeness_to_class(subject.features.of_all, labels)
    assert judged.tolist() == list(range(8, 400))


def test_without_a_backbone_it_is_left_out(subject: Subject) -> None:
    report = run_checks(replace(subject, features=None), ["outliers"])
    assert report.left_out == {
        "outliers": "needs a pretrained backbone and picture files of more than 40 pixels"
    }
