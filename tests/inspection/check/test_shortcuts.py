"""Linear probes on what is beside the content."""

from __future__ import annotations

import numpy as np
import pytest

from sartor.data.dataset import Dataset
from sartor.inspection.check.running import run_checks
from sartor.inspection.check.shortcuts import probed

from .conftest import Found, subject_of

LABELS = np.arange(600) % 3


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def test_noise_has_no_shortcut(found: Found) -> None:
    assert not found(subject_of(Dataset(noise(600, 6, 6), LABELS)), "shortcuts")


@pytest.mark.parametrize("channels", [1, 3])
def test_brightness_that_gives_the_class_away(found: Found, channels: int) -> None:
    images = noise(600, channels, 6, 6) // 2 + (40 * LABELS[:, None, None, None]).astype(np.uint8)
    findings = found(subject_of(Dataset(images, LABELS)), "shortcuts")
    finding = findings[f"mean {'colour' if channels == 3 else 'brightness'} tells the class"]
    assert finding.severity == "warning"
    assert finding.figures["accuracy"] > 0.9
    assert finding.figures["chance"] == pytest.approx(1 / 3)


def test_a_border_that_gives_the_class_away(found: Found) -> None:
    images = noise(600, 1, 8, 8)
    images[:, :, 0] = (60 * LABELS[:, None, None]).astype(np.uint8)
    findings = found(subject_of(Dataset(images, LABELS)), "shortcuts")
    assert findings["border colour tells the class"].severity == "warning"


def test_a_probe_need_not_be_monotonous() -> None:
    values = np.random.default_rng(0).uniform(-1, 1, (900, 1))
    labels = (np.abs(values[:, 0]) > 0.5).astype(np.int64)
    assert probed(values, labels, 0).accuracy > 0.9


def test_a_constant_property_is_chance() -> None:
    probe = probed(np.ones((600, 1)), LABELS, 0)
    assert (probe.accuracy, probe.gain) == (probe.chance, 0)


def test_the_error_is_that_of_guessing() -> None:
    random = np.random.default_rng(0)
    probe = probed(random.normal(size=(600, 1)), LABELS, 0)
    recalls = [
        np.mean([(random.integers(0, 3, 200) == label).mean() for label in range(3)])
        for _ in range(2000)
    ]
    assert probe.error == pytest.approx(np.std(recalls), rel=0.1)


def test_too_few_pictures_are_left_out() -> None:
    dataset = Dataset(noise(6, 4, 4), np.array([0, 0, 0, 1, 1, 1]))
    report = run_checks(subject_of(dataset), ["shortcuts"])
    assert "needs two classes" in report.left_out["shortcuts"]
