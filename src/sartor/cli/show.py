"""`sartor show`: one run. Its flags, its call, its printing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from ..errors import RunError
from . import tables
from .output import note, print_json


@dataclass(frozen=True, kw_only=True)
class Show:
    """Show one run: state, figures, history; with --recipe also its recipe."""

    run: Positional[str]
    """A run's folder, its name in runs/, or latest."""
    recipe: bool = False
    """Print the complete recipe, too."""
    plot: Path | None = None
    """Draw loss and accuracy over epochs into this file (.png, .svg or .pdf)."""
    json: bool = False
    """Print the result as one line of JSON."""


def show(given: Show) -> int:
    """Show a run."""
    from .. import api
    from ..runs.store import summarize_run

    run = api.Run.open(given.run)
    recipe = run.recipe
    for sentence in run.differences.sentences(run.folder.recipe_path):
        note(f"warning: {sentence}")
    weights = _hash_or_none(lambda: run.weights_sha256)
    if given.plot:
        from ..reports.figures import save_figure

        save_figure(run.plot(), given.plot)
        note(f"Wrote {given.plot}")
    description = {
        "run": str(run.path),
        "recipe": recipe.to_tables(),
        "status": run.status["state"],
        "history": run.history,
        "weights_sha256": weights,
        "split_sha256": _hash_or_none(lambda: run.split_sha256),
        "engine": run.folder.engine(),
        "transfer": run.folder.transfer(),
    }
    if given.json:
        print_json(description)
    else:
        text = recipe.to_toml() if given.recipe else None
        tables.print_run(description, summarize_run(run.folder), text)
    return 0


def _hash_or_none(read: Callable[[], str]) -> str | None:
    """A hash of something in a run; of a broken run the rest is shown all the same."""
    try:
        return read()
    except RunError as error:
        note(f"warning: {error}")
        return None
