"""What listens to the training loop's events and writes them into a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..errors import FileError, RunError
from ..events import CheckpointDue, EpochDone, Event, RungChosen
from ..files import append_json_line, sync, write_json
from .folder import RunFolder
from .place import Place


@dataclass(frozen=True)
class Recorder:
    """Keeps history and checkpoints in the run's folder."""

    place: Place
    sealed: Mapping[str, str] = field(default_factory=dict)
    """What each checkpoint says of the run's other files, as `seals.seals_of` gives it."""

    def __call__(self, event: Event) -> None:
        folder = self.place.now()
        try:
            self._record(event, folder)
        except (FileError, RunError):
            moved = self.place.now()
            if moved == folder:
                raise
            # Just now, between the look and the writing.
            self._record(event, moved)

    def _record(self, event: Event, folder: RunFolder) -> None:
        if isinstance(event, EpochDone):
            append_json_line(folder.history_path, event.row)
        elif isinstance(event, RungChosen):
            write_json(folder.transfer_path, dict(event.document))
        elif isinstance(event, CheckpointDue):
            # The best and the history first: once `last` knows of an epoch, that epoch's best and
            # its row must be on the disk.
            if event.best is not None:
                folder.save_best(event.best.to_bytes(self.sealed))
            sync(folder.history_path)
            folder.save_checkpoint(event.last.to_bytes(self.sealed))
