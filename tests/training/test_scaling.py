"""The scale of gradients in float16, which needs no GPU to be looked at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from sartor.errors import RecipeError
from sartor.recipe import Recipe
from sartor.training.job import Job
from sartor.training.loop import update
from sartor.training.optim import Optimizer
from sartor.training.scaling import GradientScale

MakeJob = Callable[..., Job]
OPTIMIZERS = [{"opt": "sgd", "momentum": 0.9}, {"opt": "adam"}, {"opt": "adamw"}]


def half(job: Job) -> Job:
    """The job in float16, on the processor, where `fit` refuses it."""
    settings = replace(job.settings, amp_dtype="float16")
    return replace(job, settings=settings, optimizer=Optimizer(job.model, settings))


def test_unscaling_divides_and_grows_after_2000_steps() -> None:
    scaling = GradientScale(torch.device("cpu"))
    for step in range(2_000):
        assert float(scaling.scale) == 65_536
        gradient = torch.tensor([65_536.0, -32_768.0])
        scaling.unscale([gradient])
        assert gradient.tolist() == [1, -0.5], step
    assert float(scaling.scale) == 131_072


@pytest.mark.parametrize("bad", [float("inf"), float("nan")])
def test_an_overflow_halves_the_scale(bad: float) -> None:
    scaling = GradientScale(torch.device("cpu"))
    scaling.unscale([torch.ones(2), torch.tensor([1.0, bad])])
    assert (float(scaling.overflow), float(scaling.scale)) == (1, 32_768)
    scaling.unscale([torch.ones(2)])
    assert (float(scaling.overflow), float(scaling.scale)) == (0, 32_768)


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda one: one["opt"])
@pytest.mark.parametrize("more", [{}, {"clip_grad": 0.1}, {"class_weights": "balanced"}], ids=str)
def test_a_step_is_that_of_single_precision_but_for_rounding(
    make_job: MakeJob, optimizer: dict[str, Any], more: dict[str, Any]
) -> None:
    settings = {"model": "mlp", "batch_size": 16, "sched": "constant"} | optimizer | more
    plain, job = make_job(**settings), half(make_job(**settings))
    for k in range(3):
        lr = 0.01
        one = update(plain, plain.batches.batch(0, k % 2), lr)
        other = update(job, job.batches.batch(0, k % 2), lr)
        assert other.logits.dtype == torch.float16
        assert float(other.loss) == pytest.approx(float(one.loss), rel=0.01)
    grads = [torch.cat([p.grad.flatten() for p in j.model.parameters()]) for j in (plain, job)]
    assert float((grads[0] - grads[1]).norm() / grads[0].norm()) < 0.05


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda one: one["opt"])
def test_a_step_that_overflows_changes_nothing_but_the_scale(
    make_job: MakeJob, optimizer: dict[str, Any]
) -> None:
    job = half(make_job(model="mlp", batch_size=16, weight_decay=0.1, **optimizer))
    batch = job.batches.batch(0, 0)
    update(job, batch, 0.01)
    before = {name: t.clone() for name, t in job.model.state_dict().items()}
    state = {name: t.clone() for name, t in job.optimizer.tensors.items()}
    job.optimizer.tensors["scaling.scale"].fill_(float(2**120))
    update(job, batch, 0.01)
    for name, tensor in job.model.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    for name, tensor in job.optimizer.tensors.items():
        if not name.startswith("scaling."):
            assert torch.equal(tensor, state[name]), name
    assert float(job.optimizer.tensors["scaling.scale"]) == 2**119


def test_the_scale_is_part_of_the_state(make_job: MakeJob) -> None:
    one, other = half(make_job(model="mlp")), half(make_job(model="mlp"))
    one.optimizer.tensors["scaling.scale"].fill_(8.0)
    other.optimizer.load({name: t.clone() for name, t in one.optimizer.tensors.items()})
    assert float(other.optimizer.scaled(torch.ones(()))) == 8
    plain = make_job(model="mlp").optimizer
    assert not any(name.startswith("scaling") for name in plain.tensors)
    assert float(plain.scaled(torch.ones(()))) == 1


def test_the_processor_refuses_float16(make_job: MakeJob) -> None:
    with pytest.raises(RecipeError, match="float16 is for cuda; on cpu, use bfloat16"):
        make_job(amp_dtype="float16")


def test_rmsprop_refuses_float16() -> None:
    with pytest.raises(RecipeError, match="rmsprop"):
        Recipe().with_settings({"amp_dtype": "float16", "opt": "rmsprop"})


def test_frozen_parameters_have_no_scale_to_wait_for(make_job: MakeJob) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(36, 3))
    network[1].bias.requires_grad_(False)
    job = half(make_job(network))
    assert update(job, job.batches.batch(0, 0), 0.1).loss.isfinite()
