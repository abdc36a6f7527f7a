"""Learning rates against `torch.optim.lr_scheduler`, and what holds for every setting."""

from __future__ import annotations

import dataclasses
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.optim import lr_scheduler

from sartor.training.schedule import chosen_epochs, learning_rate, learning_rates
from sartor.training.settings import SCHEDULES, ResolvedTraining

PEAK = 0.05
CHOICES: dict[str, Any] = {
    "epochs": 10,
    "batch_size": 64,
    "device": "cpu",
    "amp_dtype": "float32",
    "memory_format": "contiguous",
    "threads": 1,
    "engine": "plain",
}
"""Those that every resolved training makes."""


def ours(steps_per_epoch: int, **changes: Any) -> list[float]:
    """The learning rate of every step of a training."""
    chosen = ResolvedTraining(**CHOICES | {"lr": PEAK, **changes})
    return [
        learning_rate(chosen, step, steps_per_epoch)
        for step in range(chosen.epochs * steps_per_epoch)
    ]


@given(st.data())
@settings(deadline=None, max_examples=50)
def test_many_are_the_same_as_one_by_one(data: st.DataObject) -> None:
    steps_per_epoch = data.draw(st.integers(1, 20))
    chosen = ResolvedTraining(
        **CHOICES
        | {
            "lr": PEAK,
            "sched": data.draw(st.sampled_from(SCHEDULES)),
            "warmup_epochs": data.draw(st.sampled_from([0.0, 0.3, 2.0])),
        }
    )
    first, count = data.draw(st.integers(0, 100)), data.draw(st.integers(0, 60))
    assert learning_rates(chosen, first, count, steps_per_epoch) == [
        learning_rate(chosen, step, steps_per_epoch) for step in range(first, first + count)
    ]


def theirs(scheduler: type[lr_scheduler.LRScheduler], count: int, **options: Any) -> list[float]:
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=PEAK, momentum=0.9)
    schedule = scheduler(optimizer, **options)
    rates = []
    for _ in range(count):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if len(rates) < count:
            schedule.step()
    return rates


@pytest.mark.parametrize(("epochs", "steps_per_epoch"), [(1, 1), (3, 7), (10, 25)])
class TestTorch:
    def test_constant(self, epochs: int, steps_per_epoch: int) -> None:
        expected = theirs(lr_scheduler.ConstantLR, epochs * steps_per_epoch, factor=1.0)
        assert ours(steps_per_epoch, epochs=epochs, sched="constant") == expected

    @pytest.mark.parametrize("min_lr", [0.0, 0.004])
    def test_cosine_per_step(self, epochs: int, steps_per_epoch: int, min_lr: float) -> None:
        total = epochs * steps_per_epoch
        expected = theirs(lr_scheduler.CosineAnnealingLR, total, T_max=total, eta_min=min_lr)
        rates = ours(steps_per_epoch, epochs=epochs, sched="cosine", min_lr=min_lr)
        assert rates == pytest.approx(expected, rel=1e-9)

    @pytest.mark.parametrize("decay_epochs", [1, 2, 30])
    def test_step(self, epochs: int, steps_per_epoch: int, decay_epochs: int) -> None:
        expected = theirs(
            lr_scheduler.StepLR,
            epochs * steps_per_epoch,
            step_size=decay_epochs * steps_per_epoch,
            gamma=0.3,
        )
        chosen = {"sched": "step", "decay_epochs": decay_epochs, "decay_rate": 0.3}
        assert ours(steps_per_epoch, epochs=epochs, **chosen) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("epochs", "steps_per_epoch"), [(1, 3), (2, 5), (3, 7), (10, 25)])
def test_onecycle(epochs: int, steps_per_epoch: int) -> None:
    total = epochs * steps_per_epoch
    expected = theirs(lr_scheduler.OneCycleLR, total, max_lr=PEAK, total_steps=total)
    rates = ours(steps_per_epoch, epochs=epochs, sched="onecycle")
    assert rates == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("warmup_epochs", [1, 2.5, 4])
def test_onecycle_rises_for_as_long_as_the_warmup(warmup_epochs: float) -> None:
    expected = theirs(
        lr_scheduler.OneCycleLR, 50, max_lr=PEAK, total_steps=50, pct_start=warmup_epochs / 5
    )
    rates = ours(10, epochs=5, sched="onecycle", warmup_epochs=warmup_epochs)
    assert rates == pytest.approx(expected, rel=1e-9)
    assert rates.index(max(rates)) == 10 * warmup_epochs - 1


class TestWarmup:
    @pytest.mark.parametrize("sched", ["constant", "cosine", "step"])
    def test_rises_evenly_to_the_peak(self, sched: str) -> None:
        rates = ours(10, epochs=5, sched=sched, warmup_epochs=1.5)
        rises = [after - before for before, after in pairwise(rates[:16])]
        assert rises == pytest.approx([PEAK / 16] * 15)
        assert rates[0] == pytest.approx(PEAK / 16)
        assert rates[15] == pytest.approx(PEAK)

    def test_cosine_falls_over_the_rest(self) -> None:
        rates = ours(10, epochs=5, sched="cosine", warmup_epochs=1, min_lr=0.001)
        expected = theirs(lr_scheduler.CosineAnnealingLR, 40, T_max=40, eta_min=0.001)
        assert rates[10:] == pytest.approx(expected, rel=1e-9)

    def test_cosine_ends_close_to_min_lr(self) -> None:
        rates = ours(100, epochs=5, sched="cosine", min_lr=0.01)
        assert rates[-1] == pytest.approx(0.01, rel=1e-3)
        assert min(rates) == rates[-1] > 0.01


@st.composite
def wild_settings(draw: st.DrawFn) -> tuple[ResolvedTraining, int]:
    epochs = draw(st.integers(1, 200))
    lr = draw(st.floats(1e-9, 1_000))
    chosen = dataclasses.replace(
        ResolvedTraining(**CHOICES),
        epochs=epochs,
        lr=lr,
        min_lr=draw(st.just(0.0) | st.floats(0, lr)),
        sched=draw(st.sampled_from(SCHEDULES)),
        warmup_epochs=draw(st.just(0.0) | st.floats(0, epochs, exclude_max=True)),
        decay_epochs=draw(st.floats(1e-3, 1_000)),
        decay_rate=draw(st.floats(0.1, 1)),
    )
    return chosen, draw(st.integers(1, 500))


@settings(deadline=None, max_examples=300)
@given(wild_settings(), st.data())
def test_is_never_negative_never_above_lr_and_pure(
    wild: tuple[ResolvedTraining, int], data: st.DataObject
) -> None:
    chosen, steps_per_epoch = wild
    total = chosen.epochs * steps_per_epoch
    for step in {0, total - 1, *data.draw(st.lists(st.integers(0, total - 1), max_size=20))}:
        rate = learning_rate(chosen, step, steps_per_epoch)
        assert 0 <= rate <= chosen.lr * (1 + 1e-12)
        # Only so many decays that no float is left may come to 0.
        assert rate > 0 or chosen.sched == "step"
        assert learning_rate(chosen, step, steps_per_epoch) == rate


@pytest.mark.parametrize(
    ("count", "epochs"), [(1, 100), (600, 100), (1_200, 50), (2_000, 30), (6_000, 10), (10**6, 10)]
)
def test_epochs_of_auto_see_as_many_images_within_limits(count: int, epochs: int) -> None:
    assert chosen_epochs("auto", count) == epochs
    assert chosen_epochs(7, count) == 7
