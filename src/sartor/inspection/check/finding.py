"""A finding: what is wrong with a data set or worth knowing about it, where, and what to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")

SERIOUS_SHARE = 0.01
"""From this share of the pictures concerned on, what is a warning below becomes an error."""


@dataclass(frozen=True, kw_only=True)
class Item:
    """One picture that a finding is about."""

    file: str
    """Its file as the source names it; for sets without files, the number of the image."""
    index: int | None = None
    """Its number in the dataset; None where it cannot be read and is not in it."""
    part: str = ""
    """train, val or test; "" where the picture is in none."""
    label: str = ""
    """Name of its class."""
    about: str = ""
    """What was found of this one."""
    cluster: int | None = None
    """Pictures of a finding that belong together have the same number."""
    figures: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Everything, under the same names."""
        return vars(self) | {"figures": dict(self.figures)}


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was found, by one check."""

    check: str
    """The check that found it: a name that `--only` and `--skip` take."""
    kind: str
    """What it is, in one or two words that do not change between versions: "unreadable"."""
    severity: Severity
    """error: training fails, or its figures would be wrong. warning: it probably costs something.
    note: worth knowing."""
    summary: str
    """One or two sentences with the numbers."""
    remedy: str
    """What to do."""
    items: tuple[Item, ...] = ()
    """The pictures concerned, the worst first; none where it concerns the set as a whole."""
    figures: Mapping[str, Any] = field(default_factory=dict)
    """The numbers behind the summary."""

    @property
    def count(self) -> int:
        """Number of pictures concerned; 0 where it concerns the set as a whole."""
        return len(self.items)

    def to_json(self) -> dict[str, Any]:
        """Everything, fit for JSON."""
        return self.in_short(len(self.items)) | {
            "items": [item.to_json() for item in self.items],
            "figures": dict(self.figures),
        }

    def in_short(self, files: int) -> dict[str, Any]:
        """What a report of a run shows: at most so many `files`, by name."""
        return {
            "check": self.check,
            "kind": self.kind,
            "severity": self.severity,
            "summary": self.summary,
            "remedy": self.remedy,
            "count": self.count,
            "files": [item.file for item in self.items[:files]],
        }


def pictures(count: int, what: str = "image") -> str:
    """A number of images in words: "1 image", "12,345 images"."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def graver(share: float) -> Severity:
    """A warning, or an error from `SERIOUS_SHARE` on."""
    return "error" if share >= SERIOUS_SHARE else "warning"


def lighter(share: float) -> Severity:
    """A note, or a warning from `SERIOUS_SHARE` on."""
    return "warning" if share >= SERIOUS_SHARE else "note"
