"""How much of the processor others took while something was measured."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import NamedTuple

ALLOWED_OTHERS = 0.05
"""Share of the processor beyond which a measurement is made again."""
_STAT = Path("/proc/stat")


class Moment(NamedTuple):
    """Clocks, in seconds."""

    wall: float
    busy: float | None
    """Of all cores together, whoever used them; None where the system does not tell."""
    own: float
    """Of this process."""


def now() -> Moment:
    """All three clocks."""
    return Moment(time.perf_counter(), _busy_seconds(), time.process_time())


def share_of_others(before: Moment, after: Moment) -> float:
    """Of all cores, in 0..1; 0 where the system does not tell."""
    if before.busy is None or after.busy is None:
        return 0.0
    others = (after.busy - before.busy) - (after.own - before.own)
    # The system counts in hundredths of a second: short measurements give a little below 0.
    return max(0.0, others) / ((after.wall - before.wall) * (os.cpu_count() or 1))


def _busy_seconds() -> float | None:
    try:
        words = _STAT.read_text().split("\n", 1)[0].split()[1:9]
    except OSError:
        return None
    user, nice, system, _idle, _waiting, *rest = map(int, words)
    return (user + nice + system + sum(rest)) / os.sysconf("SC_CLK_TCK")
