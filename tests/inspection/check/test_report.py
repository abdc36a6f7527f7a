"""Reports, the table of checks, and the list of what to leave out."""

from __future__ import annotations

import json

import numpy as np
import pytest

from sartor.data.dataset import Dataset
from sartor.data.splits.split import Split
from sartor.errors import UsageError
from sartor.inspection.check.finding import Finding, Item, graver, lighter
from sartor.inspection.check.quarantine import quarantine
from sartor.inspection.check.report import CheckReport
from sartor.inspection.check.running import run_checks
from sartor.inspection.check.subject import Subject
from sartor.inspection.check.table import CHECKS, FAST, chosen

from .conftest import subject_of


def finding(severity: str, *items: Item, **more: object) -> Finding:
    described = {"check": "classes", "kind": "odd", "summary": "Odd.", "remedy": "Look."}
    return Finding(severity=severity, items=items, **(described | more))


def report(*severities: str) -> CheckReport:
    return CheckReport(
        source="cats",
        images=5,
        parts={"train": 3, "val": 0, "test": 2},
        findings=tuple(map(finding, severities)),
        checked={"classes": 0.25, "groups": 0.5},
    )


class TestChosen:
    def test_everything_by_default(self) -> None:
        assert chosen() == tuple(CHECKS)

    def test_the_fast_ones_are_few_and_need_no_training(self) -> None:
        assert chosen(fast=True) == FAST
        assert not {"labels", "near-duplicates", "shortcuts"} & set(FAST)

    def test_only_and_skip(self) -> None:
        assert chosen(["groups", "files"]) == ("files", "groups")
        assert chosen(["groups", "files"], ["files"]) == ("groups",)
        assert set(chosen(skip=["labels"])) == set(CHECKS) - {"labels"}
        assert chosen(["labels"], fast=True) == ("labels",)

    def test_an_unknown_name_is_refused_with_the_nearest(self) -> None:
        with pytest.raises(UsageError, match='did you mean "labels"'):
            chosen(["label"])
        with pytest.raises(UsageError, match="No checks are left"):
            chosen(["labels"], ["labels"])


class TestReport:
    @pytest.mark.parametrize(
        ("severities", "code", "strict"),
        [((), 0, 0), (("note",), 0, 0), (("warning", "note"), 0, 1), (("error",), 1, 1)],
    )
    def test_exit_codes(self, severities: tuple[str, ...], code: int, strict: int) -> None:
        assert report(*severities).exit_code() == code
        assert report(*severities).exit_code(strict=True) == strict

    def test_counts_in_words(self) -> None:
        assert report("error", "note", "note").verdict() == "1 error, 0 warnings, 2 notes"
        assert repr(report()) == "<CheckReport of cats: 0 errors, 0 warnings, 0 notes>"

    def test_json_holds_everything(self, digits: Dataset) -> None:
        images = np.concatenate([digits.images, digits.images[:2]])
        labels = np.concatenate([digits.labels, (digits.labels[:2] + 1) % 10])
        dataset = Dataset(images, labels, digits.classes)
        document = run_checks(subject_of(dataset), chosen(fast=True)).to_json()
        assert json.loads(json.dumps(document)) == document
        (contradiction,) = (
            one for one in document["findings"] if one["kind"] == "equal, labels differ"
        )
        assert contradiction["count"] == len(contradiction["files"]) == 4
        assert {item["index"] for item in contradiction["items"]} == {0, 1, 1797, 1798}
        assert document["warnings"] >= 1
        assert sum(one["train"] + one["val"] + one["test"] for one in document["classes"]) == 1799

    def test_the_gravest_come_first(self, digits: Dataset) -> None:
        subject = subject_of(Dataset(digits.images[:200], digits.labels[:200], digits.classes))
        ranks = {"error": 0, "warning": 1, "note": 2}
        findings = run_checks(subject, ["shortcuts", "classes", "duplicates"]).findings
        assert [ranks[one.severity] for one in findings] == sorted(
            ranks[one.severity] for one in findings
        )

    def test_a_notebook_shows_names_as_they_are(self) -> None:
        odd = finding("error", Item(file="<b>.png"), summary="<script>")
        page = CheckReport(
            source="<i>", images=1, parts={}, findings=(odd,), checked={}
        )._repr_html_()
        assert "&lt;b&gt;.png" in page
        assert not {"<b>", "<i>", "<script>"} & set(page.replace(">", "> ").split())

    def test_severities_by_share(self) -> None:
        assert [graver(0.009), graver(0.01)] == ["warning", "error"]
        assert [lighter(0.009), lighter(0.01)] == ["note", "warning"]


class TestQuarantine:
    def reasons(self, *copies: tuple[int, int], labels: dict[int, int] | None = None) -> list[str]:
        """What is listed of images 0 to 59 train, 60 to 79 val, 80 to 99 test."""
        images = np.random.default_rng(0).integers(0, 256, (100, 8, 8), np.uint8)
        kinds = np.arange(100) % 2
        for original, copy in copies:
            images[copy], kinds[copy] = images[original], kinds[original]
        for index, label in (labels or {}).items():
            kinds[index] = label
        split = Split(*np.split(np.arange(100), [60, 80]))
        subject = Subject(dataset=Dataset(images, kinds), split=split)
        return list(run_checks(subject, ["duplicates", "near-duplicates"]).quarantine())

    def test_all_but_one_of_equal_pictures(self) -> None:
        assert self.reasons((5, 20), (5, 21)) == ["20", "21"]

    def test_the_training_copy_of_a_test_picture(self) -> None:
        assert self.reasons((5, 85)) == ["5"]
        assert sorted(self.reasons((5, 85), (5, 65))) == ["5", "65"]

    def test_no_test_picture(self) -> None:
        assert self.reasons((81, 85)) == []
        assert self.reasons((81, 85), labels={85: 0}) == []

    def test_every_copy_that_has_two_labels(self) -> None:
        assert sorted(self.reasons((5, 20), labels={20: 0})) == ["20", "5"]
        assert self.reasons((5, 85), labels={85: 0}) == ["5"]

    def test_label_errors_where_they_are_asked_for(self) -> None:
        items = [
            Item(file="a", part="train", label="cat", figures={"probably_wrong": True}),
            Item(file="b", part="train", label="cat", figures={"probably_wrong": False}),
            Item(file="c", part="test", label="cat", figures={"probably_wrong": True}),
        ]
        found = [finding("note", *items, check="labels", kind="probably wrong")]
        assert quarantine(found) == {}
        assert list(quarantine(found, labels=True)) == ["a"]

    def test_unreadable_files_and_blank_pictures(self) -> None:
        broken = finding("error", Item(file="x", about="is empty"), kind="unreadable")
        blank = finding("warning", Item(file="y", part="val"), Item(file="z", part="test"))
        blank = Finding(**(vars(blank) | {"kind": "blank", "check": "appearance"}))
        assert quarantine([broken, blank]) == {"x": "is empty", "y": "blank"}
