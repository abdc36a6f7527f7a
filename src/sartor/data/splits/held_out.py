"""What is held out of a roster: for testing, then for validation, whatever units allow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ...arrays import Int64Array
from ...errors import DataError
from ...randomness import keys
from ..roster import Roster
from .draw import draw
from .smallest import smallest_parts
from .stable import chances_of, stable_draw

_VAL_STREAM, _TEST_STREAM, LIMIT_STREAM = 1, 2, 3


@dataclass(frozen=True, eq=False, kw_only=True)
class Chance:
    """How images are held out: by a draw among all, or each by what it is."""

    labels: Int64Array
    units: Int64Array | None
    grouped: bool
    """Whether some units are groups, and not only equal images."""
    identities: npt.NDArray[np.uint64] | None
    """None for the draw among all."""

    def draw(
        self,
        indices: Int64Array,
        fraction: float,
        *,
        seed: int,
        stream: int,
        reserve: int = 0,
        divided: bool = False,
    ) -> Int64Array:
        """What is held out of `indices`; with `divided`, as if there were no units."""
        units = None if divided else self.units
        if self.identities is None:
            return draw(indices, self.labels, fraction, seed=seed, stream=stream, units=units)
        return stable_draw(
            indices,
            self.labels,
            fraction,
            seed=seed,
            stream=stream,
            identities=self.identities,
            units=units,
            reserve=reserve,
        )

    def of_each(self, seed: int, stream: int) -> npt.NDArray[Any]:
        """A random number for each image."""
        if self.identities is None:
            return keys(len(self.labels), seed, stream)
        return chances_of(self.identities, seed, stream)


def held_out(
    roster: Roster, chance: Chance, fractions: tuple[float, float], seed: int
) -> tuple[Int64Array, Int64Array]:
    """The images for testing and for validation, in the roster's numbers, ascending."""
    given = [part for part in (roster.val, roster.test) if part is not None]
    rest = roster.usable
    if given:
        rest = np.setdiff1d(rest, np.concatenate(given), assume_unique=True)
    of_test = 0.0 if roster.test is not None else fractions[0]
    of_val = 0.0 if roster.val is not None else fractions[1]
    test = chance.draw(rest, of_test, seed=0, stream=_TEST_STREAM, reserve=int(of_val > 0))
    left = np.setdiff1d(rest, test, assume_unique=True)
    val = chance.draw(left, of_val, seed=seed, stream=_VAL_STREAM)
    test, val = _smallest(rest, chance, (of_test, of_val), (test, val))
    if roster.test is not None:
        test = np.intersect1d(roster.test, roster.usable, assume_unique=True)
    if roster.val is not None:
        val = np.intersect1d(roster.val, roster.usable, assume_unique=True)
    return np.sort(test), np.sort(val)


def _smallest(
    rest: Int64Array,
    chance: Chance,
    fractions: tuple[float, float],
    drawn: tuple[Int64Array, Int64Array],
) -> tuple[Int64Array, Int64Array]:
    """The same parts, or one unit for each, where units alone stand in the way of drawing any.

    Raises:
        DataError: units cannot be held out without taking all of a class.
    """
    if chance.units is None:
        return drawn
    missing = [
        bool(fraction)
        and not len(part)
        and len(chance.draw(rest, fraction, seed=0, stream=stream, divided=True)) > 0
        for fraction, part, stream in zip(
            fractions, drawn, (_TEST_STREAM, _VAL_STREAM), strict=True
        )
    ]
    if not any(missing):
        return drawn
    wanted = tuple(
        fraction if missed or len(part) else 0.0
        for fraction, missed, part in zip(fractions, missing, drawn, strict=True)
    )
    found = smallest_parts(rest, chance.labels, chance.units, (wanted[0], wanted[1]))
    if found is None:
        raise _indivisible(rest, chance, wanted)
    return found


def _indivisible(rest: Int64Array, chance: Chance, wanted: Sequence[float]) -> DataError:
    """What is in the way, and what would do."""
    assert chance.units is not None
    grouped = chance.grouped
    what = "group" if grouped else "set of equal pictures"
    flags = [
        f"--{part}-fraction" for part, share in zip(("test", "val"), wanted, strict=True) if share
    ]
    single = smallest_parts(rest, chance.labels, chance.units, (max(wanted), 0.0))
    if len(flags) == 2 and single is not None:
        return DataError(
            f"No two {what}s can be held out, for --test-fraction and for --val-fraction: together "
            "they have all of some class.",
            f"Set --val-fraction 0 or --test-fraction 0, or add {what}s.",
        )
    return DataError(
        f"No {what} can be held out for {' and '.join(flags)}: each has all that is left of some "
        "class.",
        f"Give each class more than one {what}, or set {' '.join(f'{one} 0' for one in flags)}.",
    )
