"""The result of checking a set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from typing import Any

from ...data.dataset import Dataset
from ...data.fixes import Fix
from ...wording import plain
from .corrections import corrections
from .finding import SEVERITIES, Finding, Severity
from .quarantine import quarantine

_SHOWN_FILES = 5


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class CheckReport:
    """Findings, gravest first, and the checks that ran."""

    source: str
    """What the set is called."""
    images: int
    """How many could be read."""
    parts: Mapping[str, int]
    """How many are for training, validation and testing."""
    classes: tuple[tuple[str, tuple[int, ...]], ...] = ()
    """Name of each class, and how many images of it each part has."""
    findings: tuple[Finding, ...]
    checked: Mapping[str, float]
    """The checks that ran, and the seconds that each took."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Checks that could not run, and why."""
    dataset: Dataset | None = None
    """What was looked at, to draw it; None where too little can be read to make one."""

    def __repr__(self) -> str:
        return plain(f"<CheckReport of {self.source}: {self.verdict()}>")

    @property
    def seconds(self) -> float:
        """What all the checks took."""
        return sum(self.checked.values())

    def with_severity(self, severity: Severity) -> tuple[Finding, ...]:
        """The findings of one severity."""
        return tuple(finding for finding in self.findings if finding.severity == severity)

    def exit_code(self, *, strict: bool = False) -> int:
        """0 where nothing stands in the way; 1 where there are errors, or if strict, warnings."""
        grave = self.with_severity("error") or (strict and self.with_severity("warning"))
        return 1 if grave else 0

    def verdict(self) -> str:
        """The counts in words: "1 error, 2 warnings, 0 notes"."""
        counts = [(len(self.with_severity(severity)), severity) for severity in SEVERITIES]
        return ", ".join(f"{count} {word}{'' if count == 1 else 's'}" for count, word in counts)

    def quarantine(self, *, labels: bool = False) -> dict[str, str]:
        """The pictures to leave out, each with the reason; see `quarantine.py` for the rules."""
        return quarantine(self.findings, labels=labels)

    def fixes(self) -> tuple[Fix, ...]:
        """What to change, for a person to edit; see `corrections.py` for the rules."""
        return corrections(self.findings)

    def to_json(self) -> dict[str, Any]:
        """Everything, fit for JSON."""
        return {
            "set": self.source,
            "images": self.images,
            "parts": dict(self.parts),
            "classes": [
                {"class": name, **dict(zip(self.parts, counts, strict=True))}
                for name, counts in self.classes
            ],
            "errors": len(self.with_severity("error")),
            "warnings": len(self.with_severity("warning")),
            "notes": len(self.with_severity("note")),
            "findings": [finding.to_json() for finding in self.findings],
            "checked": {name: round(seconds, 3) for name, seconds in self.checked.items()},
            "left_out": dict(self.left_out),
            "seconds": round(self.seconds, 3),
        }

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{finding.severity}</td><td style='text-align:left'>{escape(finding.summary)}"
            f"<br><small>{escape(_some_files(finding))}</small></td>"
            f"<td style='text-align:left'>{escape(finding.remedy)}</td></tr>"
            for finding in self.findings
        )
        head = "<tr><th></th><th>found</th><th>what to do</th></tr>"
        return f"<p>{escape(self.source)}: {self.verdict()}</p><table>{head}{rows}</table>"


def _some_files(finding: Finding) -> str:
    files = [item.file for item in finding.items[:_SHOWN_FILES]]
    return ", ".join(files) + (", ..." if finding.count > len(files) else "")
