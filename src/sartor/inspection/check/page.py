"""The page of `sartor check`: each finding with its images."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from markupsafe import Markup, escape

from ...data.dataset import Dataset
from ...reports.page import Sheet, count, make_sheet, render
from .finding import Finding, Item
from .report import CheckReport
from .table import CHECKS

MOST_PICTURES = 48
"""Drawn of one finding, unless those that belong together are a few more."""
MOST_LABELS = 100
"""Drawn of probable label errors, which are for looking at one by one."""
MOST_LISTED = 500
_MOST_OF_A_CLUSTER = 8
_FLAG = re.compile("--[a-z-]+")


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A finding as the page shows it."""

    id: str
    finding: Finding
    about: str
    """What stands beside the heading."""
    sheet: Sheet | None
    clusters: Sequence[Sequence[Item]]
    """Pictures that belong together; none where each stands alone."""
    items: Sequence[Item]
    """Pictures that stand alone."""
    listed: Sequence[Item]
    """What is named besides, or instead."""

    @property
    def drawn(self) -> int:
        """Number of pictures that the page draws."""
        return sum(map(len, self.clusters)) or len(self.items)

    @property
    def remedy(self) -> Markup:
        """The remedy, in which no flag is broken between lines."""
        text = str(escape(self.finding.remedy))
        return Markup(_FLAG.sub(r'<span class="flag">\g<0></span>', text))

    @property
    def listed_about(self) -> str:
        """What the list is called."""
        if len(self.listed) < self.finding.count:
            return f"The first {count(len(self.listed))} of {count(self.finding.count)} names"
        return "The name" if len(self.listed) == 1 else f"All {count(len(self.listed))} names"


def check_page(report: CheckReport) -> str:
    """One HTML file, under 3 MB, that opens anywhere."""
    findings = [
        _shown(f"finding-{number}", finding, report.dataset)
        for number, finding in enumerate(report.findings, 1)
    ]
    return render(
        "check.html",
        sheets=[shown.sheet for shown in findings if shown.sheet],
        report=report,
        findings=findings,
        sections=_sections(findings),
        parts=[(name, count(number), "images") for name, number in report.parts.items()],
        classes=report.classes,
        looks_for={name: entry.looks_for for name, entry in CHECKS.items()},
    )


def _sections(findings: Iterable[Shown]) -> list[tuple[str, str]]:
    named = [(shown.id, shown.finding.kind) for shown in findings]
    return [("set", "Data set"), *named, ("looked", "Checks")]


def _shown(id_: str, finding: Finding, dataset: Dataset | None) -> Shown:
    drawn = [item for item in finding.items if item.index is not None]
    together = bool(drawn) and drawn[0].cluster is not None
    clusters = _some_clusters(drawn) if together else []
    most = MOST_LABELS if finding.check == "labels" else MOST_PICTURES
    items = [] if together else drawn[:most]
    seen = [item for cluster in clusters for item in cluster] or items
    return Shown(
        id=id_,
        finding=finding,
        about=f"{count(finding.count)} images" if finding.count > 1 else "",
        sheet=_sheet(id_, seen, dataset),
        clusters=clusters,
        items=items,
        listed=finding.items[:MOST_LISTED] if len(seen) < finding.count else (),
    )


def _some_clusters(items: Iterable[Item]) -> list[list[Item]]:
    """The first clusters, a few pictures of each."""
    chosen: list[list[Item]] = []
    for _, cluster in groupby(items, key=lambda item: item.cluster):
        if sum(map(len, chosen)) >= MOST_PICTURES:
            break
        chosen.append(list(cluster)[:_MOST_OF_A_CLUSTER])
    return chosen


def _sheet(name: str, items: Iterable[Item], dataset: Dataset | None) -> Sheet | None:
    indices = dict.fromkeys(item.index for item in items if item.index is not None)
    if dataset is None or not indices:
        return None
    return make_sheet({index: np.asarray(dataset.images[index]) for index in indices}, name=name)
