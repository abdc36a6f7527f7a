"""Learning one batch by heart: who can, does; who cannot, is told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from sartor.inspection.probes import overfit
from sartor.inspection.probes.overfit import OverfitResult, overfit_batch
from sartor.training.loop import Job, Outcome

MakeJob = Callable[..., Job]


def tried(job: Job, lr: float = 0.02) -> tuple[OverfitResult, list[tuple[int, float, float]]]:
    said: list[tuple[int, float, float]] = []
    result = overfit_batch(job, job.batches.batch(0, 0), lr, lambda *one: said.append(one))
    return result, said


@pytest.mark.parametrize(
    "settings",
    [
        {"model": "mlp"},
        {"model": "lenet"},
        {"model": "mlp", "smoothing": 0.2},
        {"model": "mlp", "class_weights": (1.0, 50.0, 0.01)},
        {"model": "mlp", "loss": "mse"},
        {"model": "mlp", "loss": "bce"},
        {"model": "mlp", "model_kwargs": {"dropout": 0.2}},
        {"model": "mlp", "grad_accum_steps": 2, "batch_size": 8},
        {"model": "mlp", "amp_dtype": "bfloat16"},
    ],
    ids=str,
)
def test_a_network_that_can_learns(make_job: MakeJob, settings: dict[str, Any]) -> None:
    job = make_job(**settings, seed=1)
    result, said = tried(job, 0.005)
    assert result.learnt
    assert result.accuracy == 1
    assert result.loss <= 0.05 * result.first_loss
    assert result.images == len(job.batches.batch(0, 0).labels)
    assert [step for step, _, _ in said] == list(range(1, result.steps + 1))
    assert said[0][1] == result.first_loss
    assert said[-1][1:] == (result.loss, result.accuracy)


def test_a_learning_rate_that_moves_nothing_is_reported(
    make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overfit, "MAX_STEPS", 30)
    result, said = tried(make_job(model="mlp", opt="sgd"), 1e-9)
    assert not result.learnt
    assert result.steps == len(said) == 30
    assert result.loss == pytest.approx(result.first_loss, rel=1e-3)


def test_a_learning_rate_that_breaks_it_ends_at_once(make_job: MakeJob) -> None:
    result, said = tried(make_job(model="mlp", opt="sgd", loss="mse"), 1e6)
    assert not result.learnt
    assert len(said) < 20


def test_a_network_that_sees_nothing_is_reported(
    make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its input multiplied by 0, as by a mistake in the preparation."""

    class Blind(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(36, 3)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.linear(images.flatten(1) * 0)

    monkeypatch.setattr(overfit, "MAX_STEPS", 200)
    result, _ = tried(make_job(Blind()))
    assert not result.learnt
    assert result.accuracy < 1


@pytest.mark.parametrize(
    ("losses", "rights", "steps"),
    [
        ([1.0, 0.5, 0.06, 0.049], [0, 8, 8, 8], 4),
        ([1.0, 0.01, 0.01, 0.04], [0, 7, 7, 8], 4),
        ([1.0, 0.01, 0.01, 0.04], [0, 7, 8, 8], 3),
        ([1.0, 0.5, 0.06, 0.06], [0, 8, 8, 8], None),
        ([1.0, 0.01, 0.01, 0.01], [0, 7, 7, 7], None),
        ([0.01, 0.01, 0.01, 0.01], [8, 8, 8, 8], None),
    ],
)
def test_learnt_is_every_image_right_and_a_twentieth_of_the_loss(
    make_job: MakeJob,
    monkeypatch: pytest.MonkeyPatch,
    losses: list[float],
    rights: list[int],
    steps: int | None,
) -> None:
    coming = iter(zip(losses, rights, strict=True))

    def scripted(*_: object) -> Outcome:
        loss, right = next(coming)
        logits = torch.eye(3)[[0] * right + [1] * (8 - right)]
        return Outcome(torch.tensor(loss * 8), 8, logits, torch.zeros(8, dtype=torch.int64))

    monkeypatch.setattr(overfit, "MAX_STEPS", 4)
    monkeypatch.setattr(overfit, "update", scripted)
    result, _ = tried(make_job(batch_size=8))
    assert result.learnt == (steps is not None)
    assert result.steps == (steps or 4)


def test_is_the_same_every_time(make_job: MakeJob) -> None:
    settings = {"model": "mlp", "model_kwargs": {"dropout": 0.3}}
    first, second = (tried(make_job(**settings), 0.005)[1] for _ in range(2))
    assert first == second
