"""Classes that only a network or only the data has: named and counted, never matched by place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_NAMED = 8


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """The images of a class that the network does not know; no figure counts them."""

    class_name: str
    count: int
    unknown: int | None
    """How many of them are called unknown; None where nothing was fitted that says so."""


@dataclass(frozen=True, kw_only=True)
class Unmatched:
    """What the two sides do not share."""

    left_out: tuple[LeftOut, ...]
    absent: tuple[str, ...]
    """Classes of the network without an image in the data."""

    @property
    def count(self) -> int:
        """Images that are left out."""
        return sum(one.count for one in self.left_out)

    def sentences(self) -> Iterator[str]:
        """What is not shared, and how it counts."""
        if self.left_out:
            named = [f"{one.class_name} ({one.count:,})" for one in self.left_out]
            yield (
                f"Left out of all figures: {self.count:,} image{'s' * (self.count != 1)} of "
                f"{_classes(len(named))} that the network does not know: {_listed(named)}."
            )
            told = [one.unknown for one in self.left_out if one.unknown is not None]
            if told:
                yield f"Of these, {sum(told):,} are called unknown, as they should be."
        if self.absent:
            yield (
                f"Without images in the data: {_classes(len(self.absent))} that the network knows "
                f"({_listed(self.absent)}); predictions of them are wrong."
            )

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "left_out": [
                {"class": one.class_name, "count": one.count, "unknown": one.unknown}
                for one in self.left_out
            ],
            "absent": list(self.absent),
        }


def _classes(count: int) -> str:
    return "1 class" if count == 1 else f"{count:,} classes"


def _listed(names: list[str] | tuple[str, ...]) -> str:
    more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
