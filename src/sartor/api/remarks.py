"""What is said of a training while it runs, besides its figures."""

from __future__ import annotations

from ..events import Event, StepDone
from ..inspection.probes import hidden_state
from ..training.loop import Job
from ..training.pace import Pace
from ..training.state import Progress
from .notes import Sink, note, warn

_MOST_MEASUREMENTS = 3
_WORTH_SECONDS = 20.0
"""Measuring takes a tenth of it."""


class Remarks:
    """Looks at the events of a training; each thing is said once."""

    def __init__(
        self,
        job: Job,
        progress: Progress,
        on_event: Sink | None,
        *,
        steps_per_second: float,
        can_measure_again: bool,
    ) -> None:
        """Before the first step; `steps_per_second` as for `Pace`."""
        self._job = job
        self._progress = progress
        self._on_event = on_event
        self._marks: hidden_state.Marks | None = hidden_state.marks_of(job.model)
        self._pace = Pace(steps_per_second)
        self._measurements_left = _MOST_MEASUREMENTS if can_measure_again else 0
        self._said_slow = False
        self._seen = (progress.epoch, progress.position, progress.sums.seconds)

    def look(self, event: Event) -> None:
        """Say what an event of the training gives reason to say."""
        if isinstance(event, StepDone):
            self._name_hidden_state()
            self._add_to_pace()
            if self._pace.has_fallen and not self._said_slow:
                self._said_slow = True
                note(self._on_event, self._slow_sentence())

    @property
    def wants_another_engine(self) -> bool:
        """Whether engines should be measured again, because this one is far slower than it was."""
        if not (self._pace.has_fallen and self._measurements_left):
            return False
        steps_left = len(self._job.batches) * self._job.settings.epochs - self._progress.step
        return steps_left > _WORTH_SECONDS * self._pace.now

    def measured(self, sentence: str) -> None:
        """Engines were measured again, and came to what the sentence says."""
        self._measurements_left -= 1
        self._pace.begin_again()
        if sentence:
            note(self._on_event, sentence)

    def _name_hidden_state(self) -> None:
        if self._marks is None:
            return
        names = hidden_state.changed(self._marks, hidden_state.marks_of(self._job.model))
        self._marks = None
        if not names:
            return
        if self._on_event is None:
            warn([hidden_state.sentence(names)])
        else:
            note(self._on_event, hidden_state.sentence(names))

    def _add_to_pace(self) -> None:
        """The steps since the last look, validation and checkpoints left out."""
        progress = self._progress
        epoch, position, seconds = self._seen
        self._seen = (progress.epoch, progress.position, progress.sums.seconds)
        if progress.epoch != epoch:
            # What the last epoch had after the last look is not known any more.
            position, seconds = 0, 0.0
        self._pace.add(progress.position - position, progress.sums.seconds - seconds)

    def _slow_sentence(self) -> str:
        images = self._job.settings.batch_size * self._job.settings.grad_accum_steps
        now, best = (images * pace for pace in (self._pace.now, self._pace.best))
        again = (
            " The engine is measured again after this epoch." if self.wants_another_engine else ""
        )
        return (
            f"Training has slowed down to {now:,.0f} images/s, from {best:,.0f}: other programs "
            "probably keep the machine busy. End them, or stop with Ctrl-C and go on later with "
            f"`sartor resume`.{again}"
        )
