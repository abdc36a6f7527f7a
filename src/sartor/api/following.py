"""One training by several processes: the side of those that the first one calls.

They write and print nothing: what fails here is told to the first process, or, where that does not
listen any more, said once with the number of this process.
"""

from __future__ import annotations

import functools
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch import nn

from .. import assembly, distributed
from ..assembly import Assembly, assemble
from ..distributed import Team
from ..errors import DataError, RunError, SartorError, TrainingError
from ..events import Ended
from ..files import make_folder, write_bytes
from ..interrupts import stop_requests
from ..runs.folder import RunFolder
from ..training.engine_changes import next_change
from ..training.engines import hardware
from ..training.loop import train
from ..training.state import Progress
from ..training.together import Dismissed, shared
from .calling import own_facts, unpacked
from .opened import OpenedRun
from .other_data import run_with
from .running import with_plan_of_now

_SECONDS_FOR_THE_FIRST = 3.0
"""How long an error is held back: mostly the first process has met the same one, and says it."""


def follow() -> int:
    """Do what the first process says until it ends; the exit code, which is the same."""
    team = _team()
    message = team.next_message()
    while message["do"] != "exit":
        if message["do"] == "load":
            message = _taken_part(team, message, None, None)
        if message["do"] != "exit":
            message = team.next_message()
    team.answer()
    return int(message["code"])


def follow_fit(data: Any, model: str | nn.Module | None) -> OpenedRun:
    """As `fit`, for a program of which every process calls it: take part in one training.

    Raises:
        TrainingError: the first process gave up, as its sentence says.
    """
    team = _team()
    message = team.next_message()
    network = model if isinstance(model, nn.Module) else None
    if message["do"] == "load":
        given = None if data is None or isinstance(data, str | Path) else data
        message = _taken_part(team, message, given, network)
    if "run" not in message:
        reason = message.get("error", "it ended")
        raise TrainingError(f"The first process stopped: {reason}", "See what it said.")
    return OpenedRun(RunFolder(Path(message["run"])), network=network)


def _team() -> Team:
    team = distributed.team()
    assert team is not None, "a process that follows is one of several"
    return team


def _taken_part(
    team: Team, called: dict[str, Any], data: Any, model: nn.Module | None
) -> dict[str, Any]:
    """Take part in a training from the call to its end; what the first process says then."""
    try:
        with tempfile.TemporaryDirectory(prefix="sartor-") as place:
            team.open(called["device"])
            mirror = _mirror(Path(place) / "run", team.spread())
            message = _trained(team, mirror, called["step"], data, model)
    except Exception as error:
        message = _last_words(team)
        if message is None:
            raise _numbered(error, team) from error
    finally:
        team.close()
    return message if message is not None else team.next_message()


def _last_words(team: Team) -> dict[str, Any] | None:
    """What the first process says of its end, where it soon says it."""
    with suppress(SartorError):
        while True:
            message = team.next_message(_SECONDS_FOR_THE_FIRST)
            if message["do"] in ("over", "exit"):
                return message
    return None


def _numbered(error: Exception, team: Team) -> TrainingError:
    """The error, with whose it is."""
    told, hint = _told(error)
    return TrainingError(f"Process {team.rank} of {team.size}: {told}", hint)


def _told(error: Exception) -> tuple[str, str]:
    """What is wrong, and what to do."""
    if isinstance(error, SartorError):
        return error.message, error.hint
    return f"{type(error).__name__}: {error}", ""


def _mirror(place: Path, packed: bytes) -> RunFolder:
    """The files of a run, from which it can be trained without its folder."""
    make_folder(place)
    for name, content in unpacked(packed).items():
        write_bytes(place / name, content)
    return RunFolder(place)


def _trained(
    team: Team, folder: RunFolder, step: int, data: Any, model: nn.Module | None
) -> dict[str, Any] | None:
    """Load and train; a message that ended it, None where it came to its end."""
    try:
        run = OpenedRun(folder, network=model, trust=True)
        run = run_with(run, data)
        recipe = run.recipe
        assembled = assemble(recipe, _data(run), run.split(), model, run.model_file())
        if assembled.recipe != recipe:
            raise RunError(
                "It would train otherwise than the recipe says.",
                "Are the same versions installed on every machine?",
            )
    except Exception as error:
        told = (
            error.message if isinstance(error, SartorError) else f"{type(error).__name__}: {error}"
        )
        hint = error.hint if isinstance(error, SartorError) else ""
        team.answer(**own_facts(), error=told, hint=hint)
        return team.next_message()
    team.answer(**own_facts())
    try:
        _make_steps(team, assembled, step)
    except Dismissed as dismissed:
        return dict(dismissed.message)
    return None


def _make_steps(team: Team, assembled: Assembly, step: int) -> None:
    """Train with one engine after the other, as `running` does.

    Raises:
        Dismissed: the first process makes no steps after all.
    """
    progress, job, ended = Progress(step=step), assembled.job, False
    with stop_requests() as request:
        while not ended:
            job = with_plan_of_now(assembled, job, progress)
            change = next_change(assembled.recipe.training, progress.step)
            with (
                hardware.tuned(job.settings),
                shared(job, team, request) as own,
                assembly.batches_ahead(own) as fed,
            ):
                pause = functools.partial(_is_at, progress, change)
                events = list(train(fed, progress, request.asked, pause))
                ended = isinstance(events[-1], Ended) if events else False


def _is_at(progress: Progress, step: int | None) -> bool:
    return step is not None and progress.step >= step


def _data(run: OpenedRun) -> Any:
    """The run's dataset, as it lies here.

    Raises:
        DataError: it is not at hand, or another one.
    """
    try:
        return run.dataset()
    except DataError as error:
        if "is not what" in error.message:
            raise DataError(
                f"its data {run.recipe.data.source} is not that of the first process.",
                "Copy the same files to every machine, or use a folder that all of them share.",
            ) from error
        raise
