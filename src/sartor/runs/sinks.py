"""What listens to the training loop's events and writes them into a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..events import CheckpointDue, EpochDone, Event
from ..files import append_json_line
from .folder import RunFolder


@dataclass(frozen=True)
class Recorder:
    """Keeps history and checkpoints in the run's folder."""

    folder: RunFolder
    sealed: Mapping[str, str] = field(default_factory=dict)
    """What each checkpoint says of the run's other files, as `seals.seals_of` gives it."""

    def __call__(self, event: Event) -> None:
        if isinstance(event, EpochDone):
            append_json_line(self.folder.history_path, event.row)
        elif isinstance(event, CheckpointDue):
            # The best first: once `last` knows of an epoch, that epoch's best must be on the disk.
            if event.best is not None:
                self.folder.save_best(event.best.to_bytes(self.sealed))
            self.folder.save_checkpoint(event.last.to_bytes(self.sealed))
