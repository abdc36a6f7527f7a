"""How a run is made once more."""

from __future__ import annotations

import shlex
from pathlib import Path

from .. import assembly
from ..data.named.catalogue import NAMES
from ..errors import SartorError
from ..models.custom import is_custom, source_of
from .opened import OpenedRun


def commands_to_repeat(run: OpenedRun) -> tuple[list[str], str]:
    """Commands that train the same weights again, and where they are to be called.

    For the shell; for Python where a program gave the run something that no command can name.
    """
    recipe = run.recipe
    model, source = recipe.model.model, recipe.data.source
    path = shlex.quote(str(run.folder.recipe_path))
    given = []
    if source not in NAMES and not Path(source).exists():
        given.append("the data")
    if model.startswith(assembly.IN_MEMORY):
        given.append("the network")
    if given:
        keywords = {"the data": "data", "the network": "model=network"}
        words = ", ".join([*(keywords[one] for one in given), f'recipe="{run.folder.recipe_path}"'])
        return [f"sartor.fit({words})"], (
            f"A Python program gave this run {' and '.join(given)}; call this in it."
        )
    ended = run.status["state"] in ("finished", "stopped early")
    note = "" if ended else "The run has not ended; this trains it to its end."
    return [*_restored_model(run, model), f"sartor fit --recipe {path}"], note


def _restored_model(run: OpenedRun, model: str) -> list[str]:
    """The command that puts the network's source back, where it is not what it was."""
    kept = run.folder.model_source_path
    if not is_custom(model) or not kept.is_file():
        return []
    try:
        if source_of(model) == kept.read_bytes():
            return []
    except SartorError:
        pass
    return [f"cp {shlex.quote(str(kept))} {shlex.quote(model.rpartition(':')[0])}"]
