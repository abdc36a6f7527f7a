"""Learning rates as pure functions of the step."""

from __future__ import annotations

import functools
import itertools
import math
import re
from typing import Literal, NamedTuple

from .settings import ResolvedTraining

_IMAGES_SEEN, _FEWEST_EPOCHS, _MOST_EPOCHS = 60_000, 10, 100
_ONECYCLE_START, _ONECYCLE_END, _ONECYCLE_RISE = 25.0, 1e4, 0.3
_EXTENSION = re.compile(r"(\d+) epochs? until step (\d+)")


def learning_rate(settings: ResolvedTraining, step: int, steps_per_epoch: int) -> float:
    """The learning rate of `step`, counted from 0 over the whole training.

    Before a step at which the run was extended, it is that of the epochs planned until then.
    """
    total = planned_epochs(settings, step) * steps_per_epoch
    warmup = round(settings.warmup_epochs * steps_per_epoch)
    if settings.sched == "onecycle":
        return _onecycle(settings.lr, step, total, warmup)
    if step < warmup:
        return settings.lr * (step + 1) / (warmup + 1)
    if settings.sched == "cosine":
        done = (step - warmup) / max(total - warmup, 1)
        return (
            settings.min_lr + (settings.lr - settings.min_lr) * (1 + math.cos(math.pi * done)) / 2
        )
    if settings.sched == "step":
        decays = step // max(round(settings.decay_epochs * steps_per_epoch), 1)
        return settings.lr * settings.decay_rate**decays
    return settings.lr


def learning_rates(
    settings: ResolvedTraining, first: int, count: int, steps_per_epoch: int
) -> list[float]:
    """`learning_rate` of so many steps from `first` on."""
    warmed_up = first >= round(settings.warmup_epochs * steps_per_epoch)
    if settings.sched == "constant" and warmed_up:
        return [settings.lr] * count
    steps = range(first, first + count)
    return [learning_rate(settings, step, steps_per_epoch) for step in steps]


def chosen_epochs(wish: int | Literal["auto"], count: int) -> int:
    """For "auto": as many epochs of `count` images as see 60,000 images, from 10 to 100.

    What small sets need is steps: 1,200 pictures get 50 epochs, 50,000 get 10.
    """
    if wish != "auto":
        return wish
    return min(max(round(_IMAGES_SEEN / count), _FEWEST_EPOCHS), _MOST_EPOCHS)


class Extension(NamedTuple):
    """A run was given another number of epochs."""

    step: int
    """Updates done by then."""
    epochs: int
    """How many epochs were planned until then."""


@functools.cache
def parsed_extensions(texts: tuple[str, ...]) -> tuple[Extension, ...]:
    """The setting `extensions`, read.

    Raises:
        ValueError: with what is wrong.
    """
    found = []
    for text in texts:
        match = _EXTENSION.fullmatch(text)
        if not match or "0" in match.groups():
            raise ValueError(f'extensions must be like "3 epochs until step 90", not "{text}"')
        found.append(Extension(step=int(match[2]), epochs=int(match[1])))
    if any(one.step >= other.step for one, other in itertools.pairwise(found)):
        raise ValueError("extensions must be in the order of their steps")
    return tuple(found)


def with_extension(settings: ResolvedTraining, step: int) -> tuple[str, ...]:
    """The setting `extensions` of a run that is given another number of epochs after `step`.

    The same as before where no step was made since the last time, and where it changes nothing: no
    rate depends on the number of epochs, and there is no patience that counts anew.
    """
    before, epochs = settings.extensions, settings.epochs
    changes_nothing = settings.sched in ("constant", "step") and settings.patience is None
    if step == 0 or changes_nothing or extended_at(before, step):
        return before
    return (*before, f"{epochs} epoch{'' if epochs == 1 else 's'} until step {step}")


def extended_at(texts: tuple[str, ...], step: int) -> bool:
    """Whether a run was extended when it had made so many steps; there patience counts anew."""
    return bool(texts) and any(one.step == step for one in parsed_extensions(texts))


def planned_epochs(settings: ResolvedTraining, step: int) -> int:
    """How many epochs the training was to have when `step` was made."""
    if not settings.extensions:
        return settings.epochs
    extensions = parsed_extensions(settings.extensions)
    return next((one.epochs for one in extensions if step < one.step), settings.epochs)


def _onecycle(peak: float, step: int, total: int, warmup: int) -> float:
    """Up from peak/25 and down to peak/250,000, both along a cosine (Smith and Topin, 2018).

    The learning rate only: their cycle of momentum, opposite to it, is left out.
    """
    top = (warmup or _ONECYCLE_RISE * total) - 1
    start = peak / _ONECYCLE_START
    if step <= top:
        return _along_cosine(start, peak, step / top if top > 0 else 1.0)
    return _along_cosine(peak, start / _ONECYCLE_END, (step - top) / max(total - 1 - top, 1))


def _along_cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2
