"""Which pictures the findings speak against, for `sartor fit --exclude FILE`; nothing is deleted.

Rules, so that the list can be used as it is:

- A file that cannot be read is listed, wherever it is.
- Of equal pictures with one label, all but one are listed: the first of the test part stays, else
  of validation, else of training.
- Of equal pictures with different labels, all are listed: none of them can be trusted.
- Of almost equal pictures in two parts, those of the part that is not judged are listed, where
  they are copies for sure.
- Blank pictures are listed; probable label errors only where they are asked for.
- No readable picture of the test part is ever listed: what a model is judged on is not to be
  arranged. What is wrong there is for eyes, and for the source's owner.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby

from ...data.splits.split import PARTS
from .appearance import BLANK
from .duplicates import ALMOST_EQUAL, EQUAL
from .files import UNREADABLE
from .finding import Finding, Item

_LEAKS = {alike.check: alike.word for alike in (EQUAL, ALMOST_EQUAL)}

Listed = tuple[Item, str]
"""A picture, and why it is listed."""


def quarantine(findings: Iterable[Finding], *, labels: bool = False) -> dict[str, str]:
    """Reasons by the name of the picture, in the order of the findings.

    Args:
        labels: list probable label errors too.
    """
    reasons: dict[str, str] = {}
    for finding in findings:
        for item, reason in _against(finding, labels):
            if item.part != "test":
                reasons.setdefault(item.file, reason)
    return reasons


def _against(finding: Finding, labels: bool) -> Iterator[Listed]:
    what = finding.kind
    if what == UNREADABLE:
        yield from ((item, item.about) for item in finding.items)
    elif what == BLANK:
        yield from ((item, "blank") for item in finding.items)
    elif what == EQUAL.contradicting:
        for cluster in _clusters(finding):
            names = " and ".join(dict.fromkeys(f'"{item.label}"' for item in cluster))
            yield from ((item, f"identical images are labelled {names}") for item in cluster)
    elif what == EQUAL.repeating:
        for first, *others in _clusters(finding):
            yield from ((item, f"identical to {first.file}") for item in others)
    elif "part" in finding.figures and finding.check in _LEAKS:
        for cluster in _clusters(finding):
            kept = max(cluster, key=lambda item: PARTS.index(item.part))
            yield from (
                (item, f"{_LEAKS[finding.check]} to {kept.file} of the {kept.part} split")
                for item in cluster
                if item.part != kept.part and item.figures.get("sure", True)
            )
    elif finding.check == "labels" and labels:
        yield from (
            (item, f'labelled "{item.label}", {item.about}')
            for item in finding.items
            if item.figures["probably_wrong"]
        )


def _clusters(finding: Finding) -> Iterator[list[Item]]:
    for _, items in groupby(finding.items, key=lambda item: item.cluster):
        yield list(items)
