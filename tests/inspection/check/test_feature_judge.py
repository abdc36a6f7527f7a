"""Judging labels by features: what it learns from, and what it must not."""

from __future__ import annotations

import numpy as np
import pytest

from sartor.inspection.check import kernel
from sartor.inspection.check.feature_judge import probabilities


def clustered(count: int, noise: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features float32 (N, 16) around a centre for each of four classes, and the classes."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % 4
    features = random.normal(0, 1, (4, 16))[labels] + random.normal(0, noise, (count, 16))
    return features.astype(np.float32), labels


@pytest.mark.parametrize("most", [kernel.MOST_IMAGES, 50], ids=["few", "many"])
def test_wrong_labels_are_trusted_least(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    monkeypatch.setattr(kernel, "MOST_IMAGES", most)
    features, labels = clustered(200, 0.5)
    given = labels.copy()
    wrong = np.arange(0, 200, 25)
    given[wrong] = (given[wrong] + 1) % 4
    held_out = probabilities(features, given, 4, units=None, seed=0)
    assert held_out.sum(axis=1) == pytest.approx(1, abs=1e-5)
    least = np.argsort(held_out[np.arange(200), given])[: len(wrong)]
    assert np.isin(least, wrong).mean() >= 0.8
    assert (held_out.argmax(axis=1) == labels).mean() > 0.9


def test_labels_without_meaning_are_not_predicted() -> None:
    random = np.random.default_rng(0)
    features = random.normal(0, 1, (200, 16)).astype(np.float32)
    labels = random.integers(0, 4, 200)
    held_out = probabilities(features, labels, 4, units=None, seed=0)
    assert (held_out.argmax(axis=1) == labels).mean() < 0.4


def test_copies_give_no_answer_away() -> None:
    """Each image has two copies of the same meaningless label; only as one unit is it not known."""
    random = np.random.default_rng(1)
    features = np.repeat(random.normal(0, 1, (80, 16)), 3, axis=0).astype(np.float32)
    labels = np.repeat(random.integers(0, 4, 80), 3)
    units = np.repeat(np.arange(80), 3)
    together = probabilities(features, labels, 4, units=units, seed=0)
    alone = probabilities(features, labels, 4, units=None, seed=0)
    assert (together.argmax(axis=1) == labels).mean() < 0.45
    assert (alone.argmax(axis=1) == labels).mean() > 0.9


def test_a_class_of_one_image_is_no_obstacle() -> None:
    features, labels = clustered(60, 0.3)
    labels[0] = 4
    held_out = probabilities(features, labels, 5, units=None, seed=0)
    assert held_out.shape == (60, 5)
    assert np.isfinite(held_out).all()
