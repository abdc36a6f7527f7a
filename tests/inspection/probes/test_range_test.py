"""The range test: finds where training works, and leaves everything as it was."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import nn

from sartor.inspection.probes.range_test import HIGHEST, LOWEST, range_test
from sartor.training.loop import Job

MakeJob = Callable[..., Job]


def test_rates_rise_geometrically_and_losses_are_those_of_the_batches(make_job: MakeJob) -> None:
    job = make_job(model="linear", opt="sgd")
    test = range_test(job, steps=9)
    ratios = [high / low for low, high in zip(test.rates, test.rates[1:], strict=False)]
    assert test.rates[0] == LOWEST
    assert ratios == pytest.approx([(HIGHEST / LOWEST) ** (1 / 8)] * len(ratios))
    images, labels = job.batches.batch(0, 0)
    expected = nn.functional.cross_entropy(job.model(images), labels)
    assert test.losses[0] == pytest.approx(expected.item(), rel=1e-5)


def test_nothing_else_changes(make_job: MakeJob) -> None:
    job = make_job(model="mlp", model_kwargs={"dropout": 0.5})
    weights = {name: tensor.clone() for name, tensor in job.model.state_dict().items()}
    state = {name: tensor.clone() for name, tensor in job.optimizer.tensors.items()}
    random = torch.random.get_rng_state()
    range_test(job, steps=20)
    assert all(torch.equal(weights[name], now) for name, now in job.model.state_dict().items())
    assert all(torch.equal(state[name], now) for name, now in job.optimizer.tensors.items())
    assert torch.equal(random, torch.random.get_rng_state())
    assert all(parameter.grad is None for parameter in job.model.parameters())


def test_the_suggestion_is_a_rate_that_trains_and_lies_below_the_one_that_breaks(
    make_job: MakeJob,
) -> None:
    test = range_test(make_job(model="mlp", opt="sgd"))
    assert test.suggestion is not None
    assert 1e-3 < test.suggestion < 10
    assert test.blew_up_at is None or test.suggestion < test.blew_up_at


def test_a_running_mean_of_one_loss_is_that_loss_and_of_equal_losses_the_same(
    make_job: MakeJob,
) -> None:
    test = range_test(make_job(model="mlp"), steps=2)
    assert test.smoothed[0] == test.losses[0]
    # Weights 0.9 and 1, divided by their sum.
    expected = (0.9 * test.losses[0] + test.losses[1]) / 1.9
    assert test.smoothed[1] == pytest.approx(expected)


def test_a_network_that_learns_nothing_gets_no_suggestion(make_job: MakeJob) -> None:
    class Deaf(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(3))

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.weight * 0 + images.flatten(1)[:, :3] * 0

    test = range_test(make_job(Deaf()))
    assert test.suggestion is None
    assert test.losses[0] == pytest.approx(math.log(3))


def test_ends_when_the_loss_leaves_the_numbers(make_job: MakeJob) -> None:
    test = range_test(make_job(model="mlp", opt="sgd", loss="mse", momentum=0.99))
    assert test.blew_up_at is not None
    assert len(test.rates) < 100
    assert all(map(math.isfinite, test.losses))
