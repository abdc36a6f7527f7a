"""How many times as fast as others sartor is to be."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Goal:
    """Of one training, against one contender."""

    training: str
    against: str
    """Name in `CONTENDERS`."""
    ratio: float


GOALS: tuple[Goal, ...] = (
    Goal(training="fashion-cnn", against="loop", ratio=3),
    Goal(training="fashion-cnn", against="lightning", ratio=4),
    Goal(training="fashion-cnn", against="fastai", ratio=3),
    Goal(training="fashion-cnn", against="keras-torch", ratio=2.3),
    Goal(training="fashion-cnn", against="keras-jax", ratio=2.3),
    Goal(training="fashion-cnn", against="skorch", ratio=1.7),
    Goal(training="mnist-mlp", against="loop", ratio=4),
    Goal(training="mnist-logistic", against="loop", ratio=20),
    Goal(training="fashion-mlp", against="loop", ratio=12),
)
