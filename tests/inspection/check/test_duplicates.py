"""Equal pictures: against brute force, and planted."""

from __future__ import annotations

import numpy as np
import pytest

from sartor.data.dataset import Dataset
from sartor.data.splits.split import Split
from sartor.inspection.check.duplicates import clusters_of
from sartor.inspection.check.subject import Subject

from .conftest import Found, subject_of

COUNT = 400


def planted(*copies: tuple[int, int], labels: dict[int, int] | None = None) -> Subject:
    """Random images: 0 to 199 train, 200 to 299 val, 300 to 399 test; some are copies of others."""
    images = np.random.default_rng(0).integers(0, 256, (COUNT, 8, 8), np.uint8)
    kinds = np.arange(COUNT) % 2
    for original, copy in copies:
        images[copy], kinds[copy] = images[original], kinds[original]
    for index, label in (labels or {}).items():
        kinds[index] = label
    parts = np.split(np.arange(COUNT), [200, 300])
    return Subject(dataset=Dataset(images, kinds), split=Split(*parts))


def indices(found: dict, kind: str) -> list[int]:
    return [item.index for item in found[kind].items]


def test_no_copy_no_finding(found: Found, digits: Dataset) -> None:
    assert not found(planted(), "duplicates")
    assert not found(subject_of(digits), "duplicates")


def test_clusters_are_those_of_brute_force() -> None:
    random = np.random.default_rng(1)
    representatives = random.integers(0, 30, 60)
    expected = {
        tuple(np.flatnonzero(representatives == one))
        for one in range(60)
        if (representatives == one).sum() > 1
    }
    assert {tuple(cluster) for cluster in clusters_of(representatives)} == expected


def test_one_leaked_picture_is_a_warning_and_one_in_a_hundred_an_error(found: Found) -> None:
    few = found(planted((5, 205)), "duplicates")
    assert list(few) == ["equal in train and val"]
    assert few["equal in train and val"].severity == "error"  # 1 of 100
    larger = planted((5, 305))
    everything = Split(larger.split.train, larger.split.val[:0], np.arange(200, COUNT))
    subject = Subject(dataset=larger.dataset, split=everything)
    leak = found(subject, "duplicates")["equal in train and test"]
    assert leak.severity == "warning"  # 1 of 200
    assert leak.figures["share"] == 1 / 200


def test_each_pair_of_parts_has_its_finding(found: Found) -> None:
    findings = found(planted((1, 201), (2, 302), (203, 303), (4, 6)), "duplicates")
    assert indices(findings, "equal in train and val") == [1, 201]
    assert indices(findings, "equal in train and test") == [2, 302]
    assert indices(findings, "equal in val and test") == [203, 303]
    assert indices(findings, "equal in one part") == [4, 6]
    assert len(findings) == 4


def test_different_labels(found: Found) -> None:
    finding = found(planted((0, 10), (0, 12), labels={12: 1}), "duplicates")["equal, labels differ"]
    assert [item.index for item in finding.items] == [0, 10, 12]
    assert [item.label for item in finding.items] == ["0", "0", "1"]
    assert '"0" and "1"' in finding.summary


def test_copies_of_one_picture_are_one_cluster(found: Found) -> None:
    finding = found(planted((0, 10), (0, 11), (1, 12)), "duplicates")["equal in one part"]
    assert [item.cluster for item in finding.items] == [0, 0, 0, 1, 1]
    assert finding.figures["spare"] == 3


@pytest.mark.parametrize("where", [10, 210, 310])
def test_files_are_named(found: Found, where: int) -> None:
    subject = planted((5, where))
    files = tuple(f"{index}.png" for index in range(COUNT))
    dataset = Dataset(subject.dataset.images, subject.dataset.labels, files=files)
    (finding,) = found(Subject(dataset=dataset, split=subject.split), "duplicates").values()
    assert [item.file for item in finding.items] == ["5.png", f"{where}.png"]
