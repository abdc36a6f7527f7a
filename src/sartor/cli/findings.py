"""What `sartor check` found, for people: one block per finding, at most 80 columns wide."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.text import Text

from ..reports.text import fitted
from ..wording import one_line
from .tables import _console

if TYPE_CHECKING:
    from ..inspection.check.finding import Finding, Item
    from ..inspection.check.report import CheckReport

_WIDTH = 80
_SHOWN = 5
_INDENT = "  "
_COLOURS = {"error": "bold red", "warning": "yellow", "note": "blue"}


def print_report(report: CheckReport) -> None:
    """Every finding, the gravest first; what was looked at, and the counts."""
    out = _console()
    parts = ", ".join(f"{count:,} {name}" for name, count in report.parts.items())
    out.print(f"{report.source}: {report.images:,} pictures ({parts})\n")
    for finding in report.findings:
        head = Text(f"{finding.severity:<8} ", style=_COLOURS[finding.severity])
        out.print(head.append(f"{finding.check}: {finding.kind}", style="bold"))
        for line in _body(finding):
            out.print(line)
        out.print()
    for line in textwrap.wrap(f"Checked: {', '.join(report.checked)}.", _WIDTH):
        out.print(line)
    for reason, names in _by_reason(report).items():
        for line in textwrap.wrap(f"Skipped: {', '.join(names)}: {one_line(reason)}", _WIDTH):
            out.print(line)
    out.print(f"{report.verdict()} in {report.seconds:.1f} s")


def _by_reason(report: CheckReport) -> dict[str, list[str]]:
    reasons: dict[str, list[str]] = {}
    for name, reason in report.left_out.items():
        reasons.setdefault(reason, []).append(name)
    return reasons


def _body(finding: Finding) -> Iterator[str]:
    yield from _wrapped(finding.summary)
    shown = finding.items[:_SHOWN]
    columns = [[_cells(item)[number] for item in shown] for number in range(3)]
    widths = [max((len(cell) for cell in column), default=0) for column in columns]
    for cells in zip(*columns, strict=True):
        line = "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        yield fitted(f"{_INDENT}  {line}".rstrip(), _WIDTH)
    if finding.count > len(shown):
        yield f"{_INDENT}  and {finding.count - len(shown):,} more"
    yield from _wrapped(f"> {finding.remedy}")


def _cells(item: Item) -> tuple[str, str, str]:
    """Name, part and class, and what was found of a picture."""
    name = item.file if len(item.file) <= 30 else "…" + item.file[-29:]
    where = " ".join(filter(None, [item.part, item.label]))
    return fitted(name, 30), fitted(where, 22), item.about


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(
        one_line(text),
        _WIDTH,
        initial_indent=_INDENT,
        subsequent_indent=_INDENT,
        break_on_hyphens=False,
    )
