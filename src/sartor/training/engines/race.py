"""Measures which engine trains a model fastest, and leaves no trace in it.

Every contestant trains a copy of the model on the first batches of the real training, from the same
weights. They take turns, so that what disturbs the machine disturbs all of them, and each is
compared with the default in the same round. A contestant that fails, or whose first loss is not
that of the default, is out, with its reason.
"""

from __future__ import annotations

import itertools
import math
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace

from torch import nn

from ... import native_module
from ...data.feed.ahead import chosen_workers, prepared_ahead
from ...data.feed.batches import Batches
from ...device import synchronize
from ...machine import involuntary_switches, seconds_of_others
from ...models.custom import reason_of
from ..job import Figures, Job, Outcome
from ..loop import update
from ..schedule import learning_rate
from ..seeding import may_draw_elsewhere, seed_random_numbers
from ..state import Progress
from . import hardware, native
from .hardware import ExecutionPlan

CLEARLY = 1.07
"""So many times as fast must an engine be to take the place of a plainer one."""
FEWEST_ROUNDS = 3
MOST_ROUNDS = 60
_SECONDS_A_TURN = 0.01
_HOPELESS = 0.75
_UNSTEADY = 3.0
FAR = 2.0
"""So many times as fast, in three rounds of four, is believed even of a busy machine."""
_INTERRUPTED = 80.0
"""So often a second do other programs take a core away on a busy machine: 150 to 270 times beside
two of them, 2 to 30 where there are none."""
_OTHERS_CORES = 0.15
"""Other programs that use less than this many cores are not what threads lose theirs to: PyTorch's
threads stay awake for a while after a step, and take cores from each other and from native's."""
_STEPS_TO_RECORD = 4
# Wide, for some networks draw other random numbers in another layout; the contract of the tests is
# narrow.
_TOLERANCE = 0.1

JobOf = Callable[[ExecutionPlan], Job]
"""The job of an engine, on a copy of the model with its first weights."""


@dataclass(frozen=True, kw_only=True)
class Timing:
    """How fast an engine is."""

    engine: ExecutionPlan
    seconds_a_step: float
    """Median over the rounds, batch included."""
    times_as_fast: float
    """As the default; the median over the rounds of the ratio within a round."""
    at_least: float
    """The lower quartile of the same ratios."""
    quickest: float
    """Seconds of a step in the quickest round."""
    rounds: int

    @property
    def steady(self) -> bool:
        """Whether no other program disturbed it in most of its rounds."""
        return self.seconds_a_step <= _UNSTEADY * self.quickest


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What a race came to."""

    timings: tuple[Timing, ...]
    """The default first."""
    left_out: tuple[tuple[ExecutionPlan, str], ...]
    """Engines that cannot run here, each with its reason."""
    seconds: float
    """What measuring took."""
    interruptions: float
    """How often a second another program took a core away; 0 where the system does not say, or no
    other program did much."""

    @property
    def busy(self) -> bool:
        """Whether other programs had a say in it; it holds for now, and must not be kept."""
        return self.interruptions > _INTERRUPTED or not self.timings[0].steady

    @property
    def choice(self) -> Timing:
        """The fastest, as far as it can be believed."""
        return fastest(self.timings, busy=self.busy)


def choices(
    default: ExecutionPlan, free: Iterable[str], model: nn.Module, device: str = "cpu"
) -> list[ExecutionPlan]:
    """Engines with as many threads as the default, the default first; `free` names what may vary.

    The number of threads is looked at afterwards, for the fastest of these.
    """
    free = set(free)
    has_convolutions = hardware.has_convolutions(model)
    formats = [default.memory_format]
    if hardware.against_channels_last(model, device) is not None:
        formats = ["contiguous"]
    elif "memory_format" in free and has_convolutions:
        formats = ["channels-last", "contiguous"]
    precisions = ["float32", "bfloat16"] if "amp_dtype" in free else [default.amp_dtype]
    if default.engine == "native" and not has_convolutions:
        # In the same precision, linear layers by themselves are never faster in PyTorch.
        precisions.remove("float32")
    kinds = ["plain", "graph"] if device == "cuda" else ["plain"]
    engines = [
        replace(default, memory_format=layout, amp_dtype=precision, engine=kind)
        for layout, precision, kind in itertools.product(formats, precisions, kinds)
    ]
    rounds = native_module.bfloat16_sets() and native.may_multiply_bfloat16(model)
    if default.engine == "native" and rounds and "instructions" in free:
        engines += [replace(default, amp_dtype=precision) for precision in precisions]
    return [default, *(one for one in engines if one != default)]


def duel(
    default: ExecutionPlan, free: Iterable[str], model: nn.Module, device: str
) -> list[ExecutionPlan]:
    """What a training of few steps measures: native against products of bfloat16, by itself and by
    PyTorch, at twice the rate or more; nothing where the processor has none."""
    if default.engine != "native" or not hardware.multiplies_bfloat16(device):
        return []
    others: dict[str, ExecutionPlan] = {}
    for one in choices(default, free, model, device)[1:]:
        if one.amp_dtype == "bfloat16":
            others.setdefault(one.engine, one)
    return [default, *others.values()] if others else []


def fewer_threads(default: ExecutionPlan, free: Iterable[str]) -> list[int]:
    """Halves of the default's threads down to one, at most three of them."""
    if "threads" not in set(free):
        return []
    halves = [default.threads >> shift for shift in range(1, default.threads.bit_length())]
    return halves if len(halves) <= 3 else [*halves[:2], halves[-1]]


def measure(
    engines: Sequence[ExecutionPlan], threads: Sequence[int], job_of: JobOf, seconds: float
) -> Measurement:
    """Race the engines (the default first), then the fastest with fewer threads.

    Takes about `seconds`, and more where so little time holds too few steps.

    Raises:
        Exception: whatever the default engine fails with.
    """
    first = race(engines, job_of, seconds * (0.6 if threads else 1))
    if not threads:
        return first
    default, best = engines[0], first.choice.engine
    contestants = dict.fromkeys([default, best, *(replace(best, threads=n) for n in threads)])
    second = race(list(contestants), job_of, seconds * 0.4)
    again = {timing.engine for timing in second.timings}
    return Measurement(
        timings=(
            *second.timings,
            *(timing for timing in first.timings if timing.engine not in again),
        ),
        left_out=first.left_out + second.left_out,
        seconds=first.seconds + second.seconds,
        interruptions=max(first.interruptions, second.interruptions),
    )


def race(engines: Sequence[ExecutionPlan], job_of: JobOf, seconds: float) -> Measurement:
    """Let the engines (the default first) train in turns for about `seconds`.

    Raises:
        Exception: whatever the default engine fails with.
    """
    began, switches, others = time.perf_counter(), involuntary_switches(), seconds_of_others()
    default = _Contestant(engines[0], job_of)
    contestants, left_out = [default], []
    for one in engines[1:]:
        try:
            contestants.append(_Contestant(one, job_of, default.loss))
        except Exception as error:  # whatever an engine may leave with that cannot run here
            left_out.append((one, reason_of(error)))
    steps = max(1, math.ceil(_SECONDS_A_TURN / default.turn(2)))
    running = contestants
    for done in range(MOST_ROUNDS):
        if done >= FEWEST_ROUNDS and time.perf_counter() - began >= seconds:
            break
        for contestant in running:
            contestant.seconds.append(contestant.turn(steps))
        if done + 1 == FEWEST_ROUNDS:
            running = [one for one in running if one.times_as_fast(default) > _HOPELESS]
    took = time.perf_counter() - began
    return Measurement(
        timings=tuple(one.timing(default) for one in contestants),
        left_out=tuple(left_out),
        seconds=took,
        interruptions=_interruptions(switches, others, took),
    )


def _interruptions(switches: int, others: float | None, seconds: float) -> float:
    """How often a second other programs took a core, since these were counted so long ago."""
    now = seconds_of_others()
    if others is not None and now is not None and now - others < _OTHERS_CORES * seconds:
        return 0.0
    return (involuntary_switches() - switches) / seconds


def with_compiled(measured: Measurement, job_of: JobOf, seconds: float) -> Measurement:
    """The same with the fastest of PyTorch's compiled, raced against the choice and the default."""
    default, best = measured.timings[0].engine, measured.choice.engine
    ours = [one for one in measured.timings if one.engine.engine != "native"]
    if not ours:
        return measured
    plain = best if best.engine != "native" else fastest_of(ours).engine
    contestants = dict.fromkeys([default, best, replace(plain, engine="compiled")])
    more = race(list(contestants), job_of, seconds)
    return Measurement(
        timings=(*measured.timings, *more.timings[len(contestants) - 1 :]),
        left_out=measured.left_out + more.left_out,
        seconds=measured.seconds + more.seconds,
        interruptions=max(measured.interruptions, more.interruptions),
    )


def fastest(timings: Sequence[Timing], *, busy: bool = False) -> Timing:
    """The choice: the default (the first), unless another is clearly faster.

    An engine that differs more from the default must be clearly faster than those that differ less.
    Of a busy machine only what is far faster is believed: where two threads wait for each other
    because a third program has the core of one, one thread is the right choice for as long.
    """
    default = chosen = timings[0]
    others = [one for one in timings[1:] if not busy or one.at_least >= FAR]
    for _, alike in _by_difference(others, default.engine):
        best = fastest_of(alike)
        if best.times_as_fast >= CLEARLY * chosen.times_as_fast:
            chosen = best
    return chosen


def fastest_of(timings: Sequence[Timing]) -> Timing:
    """The one with the highest figure, be it by chance."""
    return max(timings, key=lambda timing: timing.times_as_fast)


def differing(one: ExecutionPlan, other: ExecutionPlan) -> list[str]:
    """Names of the settings in which two engines differ."""
    return [
        field.name
        for field in fields(ExecutionPlan)
        if getattr(one, field.name) != getattr(other, field.name)
    ]


def seconds_a_step(job: Job) -> float:
    """The pace of a job that is trained on a copy; for a guess of how long training will take."""
    contestant = _Contestant(ExecutionPlan.of(job.settings), lambda _: job)
    return contestant.turn(2)


def _by_difference(
    timings: Sequence[Timing], default: ExecutionPlan
) -> Iterator[tuple[int, list[Timing]]]:
    def difference(timing: Timing) -> int:
        return len(differing(timing.engine, default))

    for count, alike in itertools.groupby(sorted(timings, key=difference), difference):
        yield count, list(alike)


class _Contestant:
    """A job that trains in turns."""

    def __init__(
        self, one: ExecutionPlan, job_of: JobOf, expected_loss: float | None = None
    ) -> None:
        self._engine = one
        self._job = job_of(one)
        self._job.model.train()
        self._everywhere = may_draw_elsewhere(self._job.model)
        self._step = 0
        self.seconds: list[float] = []
        """Of a step, one number per round."""
        with hardware.tuned(self._job.settings):
            self.loss = self._update()
            if self._job.engine_update is not None:
                # Until all is recorded that is going to be.
                self._make_steps(_STEPS_TO_RECORD)
        if expected_loss is not None and not math.isclose(
            self.loss, expected_loss, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE
        ):
            raise ArithmeticError(f"the first loss is {self.loss:g}, not {expected_loss:g}")

    def turn(self, steps: int) -> float:
        """Make some steps; seconds of each."""
        settings = self._job.settings
        device = settings.device
        with hardware.tuned(settings), self._batches_ahead():
            # Not timed: threads that were asleep, and caches that others filled.
            self._update()
            synchronize(device)
            began = time.perf_counter()
            self._make_steps(steps)
            synchronize(device)
            return (time.perf_counter() - began) / steps

    def times_as_fast(self, default: _Contestant) -> float:
        return statistics.median(self._ratios(default))

    def _ratios(self, default: _Contestant) -> list[float]:
        """How many times as fast as the default, one number per round."""
        pairs = zip(default.seconds, self.seconds, strict=False)
        return [theirs / own for theirs, own in pairs]

    def timing(self, default: _Contestant) -> Timing:
        return Timing(
            engine=self._engine,
            seconds_a_step=statistics.median(self.seconds),
            times_as_fast=self.times_as_fast(default),
            at_least=statistics.quantiles(self._ratios(default), n=4, method="inclusive")[0],
            quickest=min(self.seconds),
            rounds=len(self.seconds),
        )

    @contextmanager
    def _batches_ahead(self) -> Iterator[None]:
        """Batches as the training gets them: where a core is idle, from a thread of its own."""
        batches, settings = self._job.batches, self._job.settings
        if not isinstance(batches, Batches):
            yield
            return
        native = self._job.engine_steps is not None
        workers = chosen_workers(settings.workers, batches, settings.threads, yielding=native)
        with prepared_ahead(batches, workers) as ahead:
            self._job = replace(self._job, batches=ahead)
            try:
                yield
            finally:
                self._job = replace(self._job, batches=batches)

    def _update(self) -> float:
        """One step; its loss."""
        made = self._make_steps(1)
        if isinstance(made, Figures):
            return made.losses[0] / made.weights[0]
        return float(made.loss) / float(made.weight)

    def _make_steps(self, count: int) -> Outcome | Figures:
        """So many steps of the first epoch, again and again; what the last of them computed."""
        job, per_epoch = self._job, len(self._job.batches)
        stop, lr = self._step + count, learning_rate(job.settings, 0, per_epoch)
        while True:
            # The last batch of an epoch may be smaller.
            position = self._step % max(1, per_epoch - 1)
            if job.engine_steps is not None:
                most = min(stop - self._step, max(1, per_epoch - 1) - position)
                made = job.engine_steps(job, Progress(step=self._step, position=position), most)
                self._step += len(made.losses) if isinstance(made, Figures) else 1
            else:
                seed_random_numbers(job.settings.seed, self._step, everywhere=self._everywhere)
                made = (job.engine_update or update)(job, job.batches.batch(0, position), lr)
                self._step += 1
            if self._step >= stop:
                return made
