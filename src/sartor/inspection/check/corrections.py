"""What the findings would change, for a person to edit and for `sartor fit --fixes FILE`.

Pictures to leave out are those of the quarantine, with its rules. Beside them stand the labels that
are probably wrong, each with the class that it looks like. A test image is listed with the label
that it has: what a model is judged on is changed by a person only, who looked.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ...data.fixes import EXCLUDE, Fix
from .finding import Finding, Item
from .quarantine import quarantine


def corrections(findings: Iterable[Finding]) -> tuple[Fix, ...]:
    """One fix per picture, those that leave something out first; otherwise as they were found."""
    findings = tuple(findings)
    excluded = quarantine(findings)
    labels = {item.file: item.label for finding in findings for item in finding.items if item.label}
    fixes = {
        file: Fix(file=file, given=labels[file], suggested=EXCLUDE, reason=reason)
        for file, reason in excluded.items()
        if file in labels
    }
    for fix in _labels(findings):
        fixes.setdefault(fix.file, fix)
    return tuple(fixes.values())


def _labels(findings: Iterable[Finding]) -> Iterator[Fix]:
    for finding in findings:
        if finding.check == "labels":
            yield from (_label(item) for item in finding.items if item.figures["probably_wrong"])


def _label(item: Item) -> Fix:
    judged = item.part == "test"
    return Fix(
        file=item.file,
        given=item.label,
        suggested=item.label if judged else item.figures["suggested"],
        reason=f"{item.about}; a test image: change it only after looking"
        if judged
        else item.about,
        confidence=item.figures["confidence"],
    )
