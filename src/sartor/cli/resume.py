"""`sartor resume`: continue a run. Its flags, its call, its printing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from ..errors import RunError, UsageError
from ..events import Event
from .arguments import DeviceName
from .output import note, print_json, print_run, progress_shown


@dataclass(frozen=True, kw_only=True)
class Resume:
    """Resume a run where it stopped, as if nothing had happened, or train it longer."""

    run: Positional[str]
    """A run's folder, its name in runs/, or latest."""
    epochs: int | None = None
    """Train until the run has N epochs in total."""
    data: Path | None = None
    """Where the run's data is now, if it moved."""
    device: DeviceName | None = None
    """Device to compute on; by default the one used in training if available, else the best one."""
    trust: bool = False
    """Run the run's own Python file, whoever wrote it, and accept a recipe edited by hand."""
    prove: bool = False
    """Train nothing further, but prove on a small copy that it could be: train it undisturbed, and
    killed and resumed several times, and compare the two bit for bit. Takes a minute or so."""
    quiet: bool = False
    """Show no progress."""
    json: bool = False
    """Print the result as one line of JSON."""


def resume(given: Resume) -> int:
    """Go on."""
    from .. import api

    if given.prove:
        return _prove(given)
    with progress_shown(given.quiet) as progress:
        run = api.resume(
            given.run,
            progress=False,
            epochs=given.epochs,
            data=given.data,
            device=given.device,
            trust=given.trust,
            on_event=progress or _nothing,
        )
    return print_run(run, given.json)


def _prove(given: Resume) -> int:
    from .. import api

    if given.epochs is not None:
        raise UsageError(
            "--prove trains a small copy, for which --epochs means nothing.",
            "Leave one of them out.",
        )
    say = None if given.quiet else note
    proof = api.prove(given.run, data=given.data, device=given.device, trust=given.trust, say=say)
    if given.json:
        print_json(proof.to_json())
    elif proof.is_equal:
        print(proof.sentence)
    if not proof.is_equal:
        raise RunError(proof.sentence, proof.hint)
    return 0


def _nothing(_event: Event) -> None:
    """Quiet: the jump of a learning rate is a note here, not a warning."""
