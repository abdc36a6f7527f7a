"""How far the work of a plan is; imports no torch, since it is asked often."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..shards.folder import MERGING, WorkFolder
from ..shards.lease import Worker
from ..shards.working import MOST_DEATHS

_LARGEST = 1e15


@dataclass(frozen=True, kw_only=True)
class WorkStatus:
    """How far the work of a plan is."""

    folder: str
    task: str
    pictures: int
    shards: int
    shards_done: int
    pictures_done: int
    """Of the shards that are done."""
    complete: bool
    """Whether the results are joined, too."""
    workers: tuple[Mapping[str, Any], ...]
    """Those that hold a lease: name, host, shard, pictures_per_second, and whether they are alive
    as far as their leases tell."""
    given_up: tuple[int, ...]
    """Shards at which worker after worker ended."""
    seconds_left: float | None
    """At the pace of those workers; None where there are none."""
    summary: Mapping[str, Any] | None
    """What came of it, once it is complete."""

    def to_json(self) -> dict[str, Any]:
        """The keys of `sartor work --status --json`."""
        return {
            **vars(self),
            "workers": [dict(one) for one in self.workers],
            "given_up": list(self.given_up),
            "summary": None if self.summary is None else dict(self.summary),
        }


def work_status(folder: str | Path) -> WorkStatus:
    """How far the work of a plan is, whoever does it.

    Raises:
        UsageError: no plan. FileError: it cannot be read.
    """
    opened = WorkFolder.open(Path(folder))
    plan, summary = opened.plan, opened.summary()
    # What was joined may be deleted, and is done all the same.
    done = opened.finished() if summary is None else set(range(plan.shards))
    leases = opened.leases(Worker.here())
    found = leases.owners() if summary is None else {}
    held = {name: one for name, one in found.items() if name == MERGING or name.isdecimal()}
    told = {name: leases.told(name) for name in {str(one.get("name")) for one in held.values()}}
    workers = [
        {
            "worker": _told(owner, "name", str),
            "host": _told(owner, "host", str),
            "pid": _told(owner, "pid", int),
            "shard": shard,
            "pictures_per_second": _pace(told[str(owner.get("name"))]),
            "alive": not owner["over"],
        }
        for shard, owner in held.items()
    ]
    given_up = tuple(
        int(shard)
        for shard, owner in held.items()
        if shard.isdecimal()
        and (_told(owner, "taken", int) or 0) > MOST_DEATHS
        and int(shard) not in done
    )
    pictures_done = sum(map(plan.rows_of, done))
    paces = [_pace(told[str(owner.get("name"))]) for owner in held.values() if not owner["over"]]
    pace = sum(one or 0.0 for one in paces)
    return WorkStatus(
        folder=str(opened.path),
        task=plan.task,
        pictures=plan.pictures,
        shards=plan.shards,
        shards_done=len(done),
        pictures_done=pictures_done,
        complete=summary is not None,
        workers=tuple(workers),
        given_up=given_up,
        seconds_left=(plan.pictures - pictures_done) / pace if pace else None,
        summary=summary,
    )


def _told(owner: Mapping[str, Any], name: str, kind: type) -> Any:
    """What a lease says, which anybody may have written; None where it is of another kind."""
    value = owner.get(name)
    return value if type(value) is kind else None


def _pace(told: Mapping[str, Any]) -> float | None:
    """Pictures per second of a worker since it began, as far as it told."""
    pictures, seconds = _number(told, "pictures"), _number(told, "seconds")
    return pictures / seconds if pictures and seconds else None


def _number(told: Mapping[str, Any], name: str) -> float:
    """A number above 0 that a worker told; 0 where it told none."""
    value = told.get(name)
    is_number = isinstance(value, int | float) and 0 < value < _LARGEST
    return float(value) if is_number else 0.0  # type: ignore[arg-type]
