"""Learning rates as pure functions of the step."""

from __future__ import annotations

import math
from typing import Literal

from .settings import ResolvedTraining

_IMAGES_SEEN, _FEWEST_EPOCHS, _MOST_EPOCHS = 60_000, 10, 100
_ONECYCLE_START, _ONECYCLE_END, _ONECYCLE_RISE = 25.0, 1e4, 0.3


def learning_rate(settings: ResolvedTraining, step: int, steps_per_epoch: int) -> float:
    """The learning rate of `step`, counted from 0 over the whole training."""
    total = settings.epochs * steps_per_epoch
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


def chosen_epochs(wish: int | Literal["auto"], count: int) -> int:
    """For "auto": as many epochs of `count` images as see 60,000 images, from 10 to 100.

    What small sets need is steps: 1,200 pictures get 50 epochs, 50,000 get 10.
    """
    if wish != "auto":
        return wish
    return min(max(round(_IMAGES_SEEN / count), _FEWEST_EPOCHS), _MOST_EPOCHS)


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
