"""Run checks on a set."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module

from ...data.splits.split import PARTS
from ...errors import MissingExtraError
from .classes import counts_by_part
from .finding import SEVERITIES, Finding
from .report import CheckReport
from .subject import NotApplicableError, Subject
from .table import CHECKS


def run_checks(subject: Subject, names: Iterable[str]) -> CheckReport:
    """Run the named checks, one after the other.

    A check that cannot say anything of the set, or lacks a library, is left out and named so.
    """
    findings: list[Finding] = []
    checked: dict[str, float] = {}
    left_out: dict[str, str] = {}
    for name in names:
        began = time.perf_counter()
        try:
            findings += _function(name)(subject)
        except NotApplicableError as reason:
            left_out[name] = str(reason)
        except MissingExtraError as error:
            left_out[name] = str(error)
        else:
            checked[name] = time.perf_counter() - began
    return CheckReport(
        source=subject.dataset.name,
        images=len(subject.dataset),
        parts={name: len(subject.split.part(name)) for name in PARTS},
        classes=_classes(subject),
        findings=by_severity(findings),
        checked=checked,
        left_out=left_out,
        dataset=subject.dataset,
    )


def _classes(subject: Subject) -> tuple[tuple[str, tuple[int, ...]], ...]:
    counts = counts_by_part(subject).T.tolist()
    return tuple(
        (name, tuple(each)) for name, each in zip(subject.dataset.classes, counts, strict=True)
    )


def by_severity(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The gravest first; otherwise in the order in which they came."""
    return tuple(sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity)))


def _function(name: str) -> Callable[[Subject], Iterator[Finding]]:
    module, _, function = CHECKS[name].function.partition(":")
    found: Callable[[Subject], Iterator[Finding]] = getattr(
        import_module(f".{module}", __package__), function
    )
    return found
