"""Names and sizes of classes."""

from __future__ import annotations

import numpy as np
import pytest

from sartor.data.dataset import Dataset
from sartor.data.splits.split import Split
from sartor.inspection.check.class_names import labels_in, same_to_the_eye
from sartor.inspection.check.subject import Subject

from .conftest import Found, subject_of


def dataset_of(counts: list[int], **more: object) -> Dataset:
    """Different images, so many of each class."""
    labels = np.repeat(np.arange(len(counts)), counts)
    images = np.random.default_rng(0).integers(0, 256, (len(labels), 4, 4), np.uint8)
    names = tuple(f"class {number}" for number in range(len(counts)))
    return Dataset(images, labels, **({"classes": names} | more))


class TestNames:
    @pytest.mark.parametrize(
        "other",
        ["Cat", "cat ", " cat", "c\u0430t", "ｃａｔ", "cat\u200b"],  # noqa: RUF001
    )
    def test_what_looks_the_same(self, other: str) -> None:
        assert same_to_the_eye(other) == same_to_the_eye("cat")

    @pytest.mark.parametrize("other", ["cats", "ca", "cut", "c at"])
    def test_what_does_not(self, other: str) -> None:
        assert same_to_the_eye(other) != same_to_the_eye("cat")

    def test_spaces_dashes_and_underscores_are_one(self) -> None:
        assert len({same_to_the_eye(f"T{mark}shirt") for mark in (" ", "-", "_", "  ")}) == 1

    @pytest.mark.parametrize(
        "name",
        [
            *("cat,dog", "dog, cat", "cat;dog", "cat|dog", "cat and Dog", "cat & dog", "cat_dog"),
            *("cat dog", "['cat', 'dog']", "cat+dog", "dog/cat"),
        ],
    )
    def test_several_labels_in_one_name(self, name: str) -> None:
        assert set(labels_in(name, ("cat", "dog", "cow", name))) == {"cat", "dog"}

    @pytest.mark.parametrize("name", ["cat,bird", "cat", "hot dog", "dogcat", ",", "cat,"])
    def test_a_name_that_is_one_label(self, name: str) -> None:
        assert labels_in(name, ("cat", "dog", name)) == ()

    @pytest.mark.parametrize(
        ("classes", "kind", "words"),
        [
            (("cat", "cat,dog", "dog"), "several labels in one", '"cat,dog" lists other classes'),
            (("cat", "cats", "dog"), "plural", '"cats" looks like the plural of "cat"'),
            (("box", "Boxes", "dog"), "plural", '"Boxes" looks like the plural of "box"'),
            (("cat", "dog", "NaN"), "no label as a class", 'called "NaN"'),
            (("cat", "dog", "n/a"), "no label as a class", 'called "n/a"'),
        ],
    )
    def test_odd_names_are_named(
        self, found: Found, classes: tuple[str, ...], kind: str, words: str
    ) -> None:
        finding = found(subject_of(dataset_of([300, 300, 300], classes=classes)), "classes")[kind]
        assert finding.severity == "warning"
        assert words in finding.summary

    def test_usual_names_are_not_odd(self, found: Found) -> None:
        for classes in (
            ("glass", "bus", "grass"),
            ("0", "1", "10"),
            ("T-shirt/top", "Shirt", "Top"),
        ):
            assert not found(subject_of(dataset_of([300, 300, 300], classes=classes)), "classes")

    def test_classes_that_look_the_same_are_named(self, found: Found) -> None:
        dataset = dataset_of([300, 300, 300], classes=("cat", "dog", "Cat "))
        finding = found(subject_of(dataset), "classes")["names alike"]
        assert finding.figures["classes"] == ["cat", "Cat "]
        assert finding.severity == "warning"

    def test_a_class_that_is_two_classes(self, found: Found) -> None:
        dataset = dataset_of([300, 300, 300], classes=("cat", "dog", "cat, dog"))
        finding = found(subject_of(dataset), "classes")["several labels in one"]
        assert finding.summary.startswith('The class "cat, dog" lists other classes')
        plain = found(subject_of(dataset_of([300, 300, 300])), "classes")
        assert "several labels in one" not in plain


class TestSizes:
    def test_a_balanced_set_has_no_finding(self, found: Found, digits: Dataset) -> None:
        assert not found(subject_of(digits), "classes")

    @pytest.mark.parametrize(("small", "severity"), [(200, None), (150, "note"), (50, "warning")])
    def test_imbalance(self, found: Found, small: int, severity: str | None) -> None:
        finding = found(subject_of(dataset_of([500, small, 500])), "classes").get("imbalance")
        assert (finding.severity if finding else None) == severity
        if finding:
            assert finding.figures["ratio"] == pytest.approx(500 / small)

    def test_a_class_that_cannot_be_learnt_is_an_error(self, found: Found) -> None:
        dataset = dataset_of([300, 300, 2], test=np.arange(400, 602))
        finding = found(subject_of(dataset), "classes")["not in training"]
        assert (finding.severity, finding.figures["classes"]) == ("error", ["class 2"])

    def test_a_class_that_is_never_tested_is_a_warning(self, found: Found) -> None:
        dataset = dataset_of([300, 300, 300], test=np.arange(500))
        findings = found(subject_of(dataset), "classes")
        assert findings["not in test"].figures["classes"] == ["class 2"]

    def test_a_class_without_pictures(self, found: Found) -> None:
        dataset = dataset_of([300, 300], classes=("a", "b", "c"))
        assert found(subject_of(dataset), "classes")["empty class"].figures["classes"] == ["c"]

    def test_a_test_part_that_tells_little(self, found: Found) -> None:
        finding = found(subject_of(dataset_of([50, 50])), "classes")["small test part"]
        low, high = finding.figures["interval"]
        assert low < 0.9 < high
        assert high - low > 0.1

    def test_a_class_of_which_little_is_tested(self, found: Found) -> None:
        finding = found(subject_of(dataset_of([600, 600, 30])), "classes")
        assert finding["few of a class to test"].figures["classes"] == ["class 2"]

    def test_no_test_part(self, found: Found) -> None:
        dataset = dataset_of([30, 30])
        nothing = np.array([], np.int64)
        split = Split(np.arange(60), nothing, nothing)
        assert "no test part" in found(Subject(dataset=dataset, split=split), "classes")
