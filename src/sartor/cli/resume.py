"""`sartor resume`: continue a run. Its flags, its call, its printing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from .arguments import DeviceName
from .output import print_run, progress_shown


@dataclass(frozen=True, kw_only=True)
class Resume:
    """Resume a run where it stopped, as if nothing had happened, or train it longer."""

    run: Positional[str]
    """A run's folder, its name in runs/, or latest."""
    epochs: int | None = None
    """Train until the run has N epochs in total."""
    data: Path | None = None
    """The run's data, where it moved."""
    device: DeviceName | None = None
    """Device to compute on; by default that of the training if it is here, else what is here."""
    trust: bool = False
    """Use the run's own Python file, whoever wrote it, and a recipe that was changed by hand."""
    quiet: bool = False
    """Show no progress."""
    json: bool = False
    """Print the result as one line of JSON."""


def resume(given: Resume) -> int:
    """Go on."""
    from .. import api

    with progress_shown(given.quiet) as progress:
        run = api.resume(
            given.run,
            epochs=given.epochs,
            data=given.data,
            device=given.device,
            trust=given.trust,
            on_event=progress,
        )
    return print_run(run, given.json)
