"""The page of what a check found."""

from __future__ import annotations

import re

import numpy as np
import pytest

from sartor.data.dataset import Dataset
from sartor.data.splits.split import make_split
from sartor.inspection.check.finding import Finding, Item
from sartor.inspection.check.page import MOST_LABELS, MOST_PICTURES, check_page
from sartor.inspection.check.report import CheckReport
from sartor.inspection.check.running import run_checks
from sartor.inspection.check.subject import Subject


@pytest.fixture(scope="module")
def report(digits: Dataset) -> CheckReport:
    """Digits with two copies, one of them labelled otherwise, under names that could be markup."""
    images = np.concatenate([digits.images, digits.images[:2]])
    labels = np.concatenate([digits.labels, digits.labels[:1], [9]])
    files = tuple(f"<b>{index}&.png" for index in range(len(labels)))
    dataset = Dataset(images, labels, digits.classes, files=files, name="<digits>")
    split = make_split(dataset, val_fraction=0.1, test_fraction=0.2, seed=0)
    return run_checks(Subject(dataset=dataset, split=split), ["classes", "duplicates", "groups"])


def test_says_what_was_found_and_what_was_looked_at(report: CheckReport) -> None:
    page = check_page(report)
    for finding in report.findings:
        assert finding.kind in page
    assert report.verdict() in page
    assert "the source names no groups" in page
    assert len(page) < 3_000_000


def test_names_are_escaped_and_nothing_is_fetched(report: CheckReport) -> None:
    page = check_page(report)
    assert "&lt;b&gt;1&amp;.png" in page
    assert "<b>1&" not in page
    assert "default-src 'none'" in page
    assert not re.search(r"""(src|href)\s*=\s*["']?(?!["']?(data:|#))""", page)


def test_copies_are_drawn_side_by_side(report: CheckReport) -> None:
    page = check_page(report)
    clusters = re.findall(r'<ul class="pictures cluster">(.*?)</ul>', page, re.DOTALL)
    drawn = {tuple(re.findall(r"&lt;b&gt;(\d+)&amp;\.png</span>", cluster)) for cluster in clusters}
    assert drawn == {("0", "1797"), ("1", "1798")} or drawn == {("1797", "0"), ("1798", "1")}


@pytest.mark.parametrize(
    ("check", "most"), [("labels", MOST_LABELS), ("appearance", MOST_PICTURES)]
)
def test_of_many_the_first_are_drawn_and_named(digits: Dataset, check: str, most: int) -> None:
    items = tuple(Item(file=f"file {index}", index=index) for index in range(200))
    finding = Finding(
        check=check, kind="odd", severity="note", summary="Odd.", remedy="Look.", items=items
    )
    page = check_page(
        CheckReport(
            source="digits", images=1797, parts={}, findings=(finding,), checked={}, dataset=digits
        )
    )
    assert page.count('role="img"') == most
    assert f"{most} of 200 are shown" in page
    assert "file 199" in page


def test_pictures_that_cannot_be_read_are_named_alone() -> None:
    finding = Finding(
        check="files",
        kind="unreadable",
        severity="error",
        summary="1 of 1.",
        remedy="Replace it.",
        items=(Item(file="broken.png", about="is empty"),),
    )
    page = check_page(
        CheckReport(source="x", images=0, parts={}, findings=(finding,), checked={"files": 0.1})
    )
    assert "broken.png" in page
    assert 'role="img"' not in page
