"""Where a run changed its engine while it trained, so that it can be made again."""

from __future__ import annotations

import functools
import itertools
import re
from typing import Any, NamedTuple

from .settings import (
    BFLOAT16_INSTRUCTIONS,
    ENGINES,
    MEMORY_FORMATS,
    PRECISIONS,
    RETIRED_ENGINES,
    ResolvedTraining,
)

_CHANGE = re.compile(
    r"(?P<engine>[a-z]+), (?P<amp_dtype>[a-z0-9]+), (?P<memory_format>[a-z-]+), "
    r"(?P<threads>[1-9]\d{0,4}) threads?(?:, (?P<instructions>[a-z0-9-]+))? "
    r"until step (?P<step>[1-9]\d{0,11})"
)
_SHAPE = '"native, float32, contiguous, 2 threads until step 90"'


class EngineChange(NamedTuple):
    """A run went on with another engine."""

    step: int
    """Updates done by then: whole epochs, unless the run went on in the middle of one on a machine
    without its engine."""
    plan: dict[str, str | int]
    """What it trained with until then: memory_format, amp_dtype, threads, engine; of the engine
    native in bfloat16, instructions too, which decide the rounding."""


@functools.cache
def parsed_engine_changes(texts: tuple[str, ...]) -> tuple[EngineChange, ...]:
    """The setting `engine_changes`, read.

    Raises:
        ValueError: with what is wrong.
    """
    found = []
    for text in texts:
        match = _CHANGE.fullmatch(text)
        if not match or not _known(match):
            raise ValueError(f'engine_changes must be like {_SHAPE}, not "{text}"')
        plan: dict[str, str | int] = {
            name: match[name] for name in ("engine", "amp_dtype", "memory_format")
        }
        plan |= {"threads": int(match["threads"])}
        if match["instructions"]:
            plan |= {"instructions": match["instructions"]}
        found.append(EngineChange(int(match["step"]), plan))
    if any(one.step >= other.step for one, other in itertools.pairwise(found)):
        raise ValueError("engine_changes must be in the order of their steps")
    return tuple(found)


def plan_at(settings: ResolvedTraining, step: int) -> dict[str, str | int]:
    """What makes the update number `step`: memory_format, amp_dtype, threads and engine, and
    instructions where they decide its rounding."""
    changes = parsed_engine_changes(settings.engine_changes)
    return next((one.plan for one in changes if step < one.step), _present(settings))


def next_change(settings: ResolvedTraining, step: int) -> int | None:
    """The step after which the engine changes, of those that are still to come."""
    changes = parsed_engine_changes(settings.engine_changes)
    return next((one.step for one in changes if step < one.step), None)


def with_engine_change(settings: ResolvedTraining, step: int) -> tuple[str, ...]:
    """The setting `engine_changes` of a run that goes on with another engine after `step`."""
    before = settings.engine_changes
    if step == 0 or any(one.step == step for one in parsed_engine_changes(before)):
        return before
    plan = _present(settings)
    threads = f"{plan['threads']} thread{'' if plan['threads'] == 1 else 's'}"
    shown = [plan["engine"], plan["amp_dtype"], plan["memory_format"], threads]
    shown += [plan[name] for name in ("instructions",) if name in plan]
    return (*before, f"{', '.join(map(str, shown))} until step {step}")


def cut_at(settings: ResolvedTraining, step: int) -> dict[str, Any]:
    """Settings of a run that goes on after `step` with the engine of then, without the changes that
    were still to come."""
    past = [
        text for text in settings.engine_changes if parsed_engine_changes((text,))[0].step <= step
    ]
    return {"engine_changes": tuple(past), **plan_at(settings, step)}


def plans_from(settings: ResolvedTraining, step: int) -> list[dict[str, str | int]]:
    """What makes all updates after `step`, in their order."""
    changes = parsed_engine_changes(settings.engine_changes)
    return [*(one.plan for one in changes if step < one.step), _present(settings)]


def _present(settings: ResolvedTraining) -> dict[str, str | int]:
    rounds = settings.engine == "native" and settings.amp_dtype == "bfloat16"
    plan: dict[str, str | int] = {"instructions": settings.instructions} if rounds else {}
    return plan | {
        "memory_format": settings.memory_format,
        "amp_dtype": settings.amp_dtype,
        "threads": settings.threads,
        "engine": settings.engine,
    }


def _known(match: re.Match[str]) -> bool:
    return (
        match["engine"] in (*ENGINES, *RETIRED_ENGINES)
        and match["amp_dtype"] in PRECISIONS
        and match["memory_format"] in MEMORY_FORMATS
        and match["instructions"] in (None, *BFLOAT16_INSTRUCTIONS)
        and "auto" not in match.groups()
    )
