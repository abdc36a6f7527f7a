"""Groups on both sides of a split."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sartor.data.dataset import Dataset
from sartor.data.splits.split import Split
from sartor.inspection.check.running import run_checks
from sartor.inspection.check.subject import Subject

from .conftest import Found, subject_of

IMAGES = np.arange(20 * 16, dtype=np.uint8).reshape(20, 4, 4)


def subject(*groups: str) -> Subject:
    """Images 0 to 9 for training, 10 to 13 for validation, 14 to 19 for testing."""
    dataset = Dataset(IMAGES, np.arange(20) % 2, groups=groups)
    parts = np.split(np.arange(20), [10, 14])
    return Subject(dataset=dataset, split=Split(*parts))


def test_groups_on_one_side_are_fine(found: Found) -> None:
    assert not found(subject(*["a"] * 10, *["b"] * 4, *["c"] * 6), "groups")


def test_groups_without_a_name_are_none(found: Found) -> None:
    assert not found(subject(*[""] * 20), "groups")


def test_a_group_in_training_and_test(found: Found) -> None:
    groups = ["a"] * 10 + ["b"] * 4 + ["c"] * 4 + ["a"] * 2
    findings = found(subject(*groups), "groups")
    assert list(findings) == ["groups in train and test"]
    finding = findings["groups in train and test"]
    assert finding.severity == "error"
    assert [item.index for item in finding.items] == [*range(10), 18, 19]
    assert finding.figures["groups"] == ["a"]
    assert finding.figures["share"] == 2 / 6


def test_each_group_is_a_cluster(found: Found) -> None:
    groups = ["a", "b"] * 5 + ["c"] * 4 + ["a", "b"] + ["d"] * 4
    finding = found(subject(*groups), "groups")["groups in train and test"]
    clusters = {item.index: item.cluster for item in finding.items}
    assert len({clusters[index] for index in (0, 2, 14)}) == 1
    assert clusters[0] != clusters[1]


def test_a_source_without_groups_is_said_to_have_none(digits: Dataset) -> None:
    report = run_checks(replace(subject_of(digits)), ["groups"])
    assert report.left_out == {"groups": "the source names no groups"}
    assert not report.checked
