"""Predictions made up for the tests of this room."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from sartor.evaluation.predictions import Predictions

Made = Callable[..., Predictions]


@pytest.fixture
def made() -> Made:
    """Predictions of `count` images and `classes` classes; the higher `skill`, the more right."""

    def make(count: int = 300, classes: int = 5, skill: float = 2.0, **changes: Any) -> Predictions:
        random = np.random.default_rng(count + classes)
        labels = random.integers(0, classes, count)
        logits = random.normal(size=(count, classes)) * 1.5
        logits[np.arange(count), labels] += skill
        fields: dict[str, Any] = {
            "logits": logits.astype(np.float32),
            "labels": labels,
            "indices": np.arange(count),
            "classes": tuple(f"c{place}" for place in range(classes)),
            "split": "val",
            "loss": "cross-entropy",
            "weights_sha256": "w",
            "dataset_fingerprint": "d",
        }
        return Predictions(**fields | changes)

    return make
