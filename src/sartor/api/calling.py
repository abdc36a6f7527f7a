"""One training by several processes: the side of the first one, which calls the others.

It alone reads the command, writes the run and prints. The others are given what a run's folder
holds, read the data themselves, and take part in the steps: see `following`.
"""

from __future__ import annotations

import base64
import json
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from .. import distributed
from ..assembly import Assembly
from ..distributed import Team
from ..errors import SartorError, TrainingError
from ..files import sha256_of
from ..recipe import ResolvedRecipe
from ..runs.folder import RunFolder
from ..runs.store import RUNS
from .notes import Sink, note


@contextmanager
def called_together(
    assembled: Assembly, content: Callable[[], bytes], step: int, on_event: Sink | None
) -> Iterator[Team | None]:
    """Call the other processes to a training; None where there are none, or none is needed.

    To be called before anything of the run is written: whoever cannot take part ends it here.

    Args:
        content: gives what the others need, as `packed`.
        step: updates done already.

    Raises:
        TrainingError: one of them cannot take part.
    """
    team = distributed.team()
    if team is None:
        yield None
        return
    training = assembled.recipe.training
    if training.transfer == "features":
        note(on_event, f"One of {team.size} processes works: a head is fitted in one step.")
        yield None
        return
    try:
        team.meet()
        packed = content()
        team.post(do="load", device=training.device, step=step)
        team.open(training.device)
        team.spread(packed)
        hosts = _refuse_unlike(team.answers())
        note(on_event, _sentence(team, hosts, assembled))
        yield team
    finally:
        team.close()


@contextmanager
def heard_by_all() -> Iterator[dict[str, Any]]:
    """A training of the first process, whose end all others are told, whatever it is; what is put
    into the table besides."""
    team = distributed.team()
    told: dict[str, Any] = {}
    try:
        yield told
    except BaseException as error:
        if team is not None:
            with suppress(TrainingError):
                team.post(do="over", error=_reason(error))
        raise
    if team is not None:
        team.post(do="over", **told)


def own_facts() -> dict[str, Any]:
    """What all processes of a training have to agree on, and where this one is."""
    return {
        "host": socket.gethostname(),
        "command": sha256_of(json.dumps(sys.argv[1:]).encode()),
        "sartor": metadata.version("sartor"),
        "torch": torch.__version__,
    }


def unpacked(content: bytes) -> dict[str, bytes]:
    """The files of a run, by their names."""
    return {name: base64.b64decode(text) for name, text in json.loads(content).items()}


def run_of_this_launch(out: Path | None) -> RunFolder | None:
    """The run that the processes before these began, where a launcher has started them again, or a
    launch of the same name has ended before it was finished.

    Args:
        out: the run's folder, where that was said.
    """
    number = distributed.count_fit()
    same_again = out is not None and distributed.has_name()
    if not (distributed.restarts() or same_again):
        return None
    wanted = {"launch": distributed.launch(), "fit": number}
    folders = [out] if out is not None else list(RUNS.iterdir()) if RUNS.is_dir() else []
    for folder in map(RunFolder, folders):
        said = folder.environment().get("processes")
        if isinstance(said, dict) and wanted.items() <= said.items():
            return folder if folder.recipe_path.is_file() else None
    return None


def packed(folder: RunFolder, recipe: ResolvedRecipe) -> bytes:
    """What another process needs of a run in order to read its data and build its network.

    Args:
        recipe: in place of the folder's own, if it has one.
    """
    paths = (
        folder.split_path,
        folder.excluded_path,
        folder.fixes_path,
        folder.model_source_path,
    )
    found = {path.name: path.read_bytes() for path in paths if path.is_file()}
    found[folder.recipe_path.name] = recipe.to_toml().encode()
    texts = {name: base64.b64encode(content).decode() for name, content in found.items()}
    return json.dumps(texts).encode()


def _refuse_unlike(answers: Mapping[int, Mapping[str, Any]]) -> list[str]:
    """The machines of all processes.

    Raises:
        TrainingError: a process cannot take part, or was started otherwise than this one.
    """
    own = own_facts()
    for rank, answer in answers.items():
        where = f"Process {rank} on {answer['host']}"
        if answer["command"] != own["command"]:
            raise TrainingError(
                f"{where} was started with other arguments than this one.",
                "Start the same command on every machine.",
            )
        for package in ("sartor", "torch"):
            if answer[package] != own[package]:
                raise TrainingError(
                    f"{where} has {package} {answer[package]}, and this one {own[package]}.",
                    "Install the same version on every machine.",
                )
        if "error" in answer:
            raise TrainingError(f"{where} cannot take part: {answer['error']}", answer["hint"])
    return [own["host"], *(str(answer["host"]) for answer in answers.values())]


def _sentence(team: Team, hosts: list[str], assembled: Assembly) -> str:
    """Who trains, and what each has to do."""
    training = assembled.recipe.training
    images = min(training.batch_size, len(assembled.material.split.train))
    low, high = images // team.size, -(-images // team.size)
    share = str(low) if low == high else f"{low} or {high}"
    machines, threads = len(set(hosts)), training.threads
    return (
        f"{team.size} processes on {machines} machine{'s' if machines > 1 else ''}, {threads} "
        f"thread{'s' if threads > 1 else ''} each: of the {images} images of a batch each takes "
        f"{share}."
    )


def _reason(error: BaseException) -> str:
    return error.message if isinstance(error, SartorError) else type(error).__name__
