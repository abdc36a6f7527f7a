"""How many times as fast as others sartor is to be."""

from __future__ import annotations

from dataclasses import dataclass

from .contenders import CONTENDERS
from .tasks import TASKS


@dataclass(frozen=True, kw_only=True)
class Goal:
    """Of one training, against one contender."""

    training: str
    against: str
    """Name in `CONTENDERS`."""
    ratio: float


_RATIOS = {
    ("fashion-cnn", "loop"): 7,
    ("fashion-cnn", "lightning"): 10,
    ("fashion-cnn", "keras-jax"): 6,
    ("mnist-mlp", "loop"): 5,
    ("mnist-mlp", "keras-jax"): 1.5,
    ("mnist-logistic", "loop"): 35,
    ("mnist-logistic", "keras-jax"): 2,
    ("fashion-mlp", "loop"): 14,
    ("fashion-mlp", "keras-jax"): 1.5,
}
"""Everywhere else sartor is to be the faster one."""

GOALS: tuple[Goal, ...] = tuple(
    Goal(training=task.name, against=name, ratio=_RATIOS.get((task.name, name), 1))
    for task in TASKS
    if task.table == "defaults"
    for name, contender in CONTENDERS.items()
    if "defaults" in contender.makers and contender.module != "with_sartor"
)
