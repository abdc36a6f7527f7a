"""What is said of a training while it runs, besides its figures."""

from __future__ import annotations

from ..events import Event, StepDone
from ..inspection.probes import hidden_state
from ..training.loop import Job
from .notes import Sink, note, warn


class Remarks:
    """Looks at the events of a training; each thing is said once."""

    def __init__(self, job: Job, sink: Sink | None) -> None:
        """Before the first step.

        Args:
            sink: told as notes; None to warn.
        """
        self._job = job
        self._sink = sink
        self._marks: hidden_state.Marks | None = hidden_state.marks_of(job.model)

    def look(self, event: Event) -> None:
        """Say what an event of the training gives reason to say."""
        if isinstance(event, StepDone):
            self._name_hidden_state()

    def _name_hidden_state(self) -> None:
        if self._marks is None:
            return
        names = hidden_state.changed(self._marks, hidden_state.marks_of(self._job.model))
        self._marks = None
        if names:
            self._say(hidden_state.sentence(names))

    def _say(self, text: str) -> None:
        if self._sink is None:
            warn([text])
        else:
            note(self._sink, text)
