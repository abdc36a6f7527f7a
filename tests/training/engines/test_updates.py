"""Compiled and recorded steps: the same updates as the plain one makes."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sartor.errors import SartorWarning
from sartor.training.engines import hardware, updates
from sartor.training.job import Job
from sartor.training.loop import train, update
from sartor.training.optim import Optimizer
from sartor.training.state import Progress

MakeJob = Callable[..., Job]
COMPILER = pytest.mark.skipif(
    hardware.problem("compiled", "cpu") is not None, reason="needs a C++ compiler: install g++"
)


class Rerun:
    """Stands for a CUDA graph where there is none: replaying makes the recorded step again.

    As there, recording changes nothing, so what it did is taken back.
    """

    def __init__(self, step: Callable[[], None], job: Job) -> None:
        self._step = step
        kept = copy.deepcopy((job.model.state_dict(), job.optimizer.tensors))
        with torch.random.fork_rng(devices=[]):
            step()
        job.model.load_state_dict(kept[0])
        job.optimizer.load(kept[1])

    def replay(self) -> None:
        self._step()


def trained(job: Job) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    """Weights and history after the job's epochs."""
    progress = Progress()
    with hardware.tuned(job.settings):
        for _ in train(job, progress, lambda: False):
            pass
    return job.model.state_dict(), progress.history


def assert_close(found: Any, expected: Any) -> None:
    """Weights and figures but for rounding."""
    for name, tensor in expected[0].items():
        torch.testing.assert_close(found[0][name], tensor, rtol=1e-4, atol=1e-5)
    for one, other in zip(found[1], expected[1], strict=True):
        assert one["train_loss"] == pytest.approx(other["train_loss"], rel=1e-4)
        assert one["train_accuracy"] == other["train_accuracy"]


def without_idle_bias(network: Any) -> nn.Module:
    """Normalization takes a bias away again; its gradient is only rounding, which Adam enlarges."""
    network.conv.bias.requires_grad_(False)
    return network  # type: ignore[no-any-return]


OPTIMIZERS = [
    {"opt": "sgd", "momentum": 0.9},
    {"opt": "adam"},
    {"opt": "adamw", "weight_decay": 0.1},
    {"opt": "rmsprop"},
]


class TestRecorded:
    @pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda one: one["opt"])
    @pytest.mark.parametrize(
        "more",
        [
            {},
            {"class_weights": "balanced"},
            {"grad_accum_steps": 2, "batch_size": 4, "clip_grad": 0.5},
            {"augment": "mixup=1.0"},
            {"memory_format": "channels-last"},
        ],
        ids=str,
    )
    def test_trains_as_the_plain_step_does(
        self,
        make_job: MakeJob,
        everything: Callable[[], nn.Module],
        optimizer: dict[str, Any],
        more: dict[str, Any],
    ) -> None:
        """With a schedule, dropout, batch statistics, and an odd batch at the end of an epoch."""
        settings = {"batch_size": 8, "epochs": 4, "sched": "cosine", "lr": 0.01}
        plain, job = (
            make_job(without_idle_bias(everything()), **settings | optimizer | more)
            for _ in range(2)
        )
        made = []

        def record(step: Callable[[], None]) -> Rerun:
            made.append(Rerun(step, job))
            return made[0]

        graphed = replace(job, engine_update=updates.Graphed(job, record))
        assert_close(trained(graphed), trained(plain))
        assert len(made) == 1, "recorded once"

    def test_what_a_step_saw_outlives_the_next(self, make_job: MakeJob) -> None:
        job = make_job(model="mlp", batch_size=10, class_weights="balanced")
        graphed = updates.Graphed(job, lambda step: Rerun(step, job))
        seen = [graphed(job, job.batches.batch(0, k % 3), 0.01) for k in range(7)]
        kept = copy.deepcopy(seen)
        graphed(job, job.batches.batch(0, 1), 0.01)
        for one, other in zip(seen, kept, strict=True):
            for tensor, copied in zip(one, other, strict=True):
                assert torch.equal(torch.as_tensor(tensor), torch.as_tensor(copied))

    def test_one_that_cannot_be_recorded_goes_on_plain_and_says_so(self, make_job: MakeJob) -> None:
        def record(_: Callable[[], None]) -> Rerun:
            raise RuntimeError("operation not permitted when stream is capturing.\nmore")

        settings = {"model": "mlp", "batch_size": 8, "epochs": 3, "engine": "plain"}
        job = make_job(**settings)
        expected = trained(make_job(**settings))
        with pytest.warns(SartorWarning, match=r"cannot be a CUDA graph \(operation not perm.*\)"):
            found = trained(replace(job, engine_update=updates.Graphed(job, record)))
        for name, tensor in expected[0].items():
            assert torch.equal(found[0][name], tensor)

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
    def test_on_a_gpu(self, make_job: MakeJob, everything: Callable[[], nn.Module]) -> None:
        settings = {"batch_size": 8, "epochs": 6, "device": "cuda", "sched": "cosine"}
        plain = trained(make_job(without_idle_bias(everything()), engine="plain", **settings))
        assert_close(
            trained(make_job(without_idle_bias(everything()), engine="graph", **settings)), plain
        )


@COMPILER
class TestCompiled:
    def test_makes_the_same_step(self, make_job: MakeJob, everything: Any) -> None:
        """The contract over all models is in test_race; here, dropout and odd batches."""
        settings = {"batch_size": 8, "epochs": 2, "opt": "sgd", "lr": 0.1}
        plain = make_job(everything(), **settings)
        found = trained(make_job(everything(), engine="compiled", **settings))
        assert_close(found, trained(plain))

    def test_state_keeps_its_names(self, make_job: MakeJob) -> None:
        job = make_job(model="mlp", engine="compiled")
        assert job.engine_update is not None
        assert list(job.model.state_dict()) == list(make_job(model="mlp").model.state_dict())
        assert isinstance(job.optimizer, Optimizer)


class TestWhatIsMissing:
    def test_a_compiler(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("CXX", raising=False)
        monkeypatch.setattr(shutil, "which", lambda _: None)
        assert "needs a C++ compiler" in str(hardware.problem("compiled", "cpu"))
        assert hardware.problem("compiled", "cuda") is None

    @pytest.mark.parametrize(
        ("name", "device", "says"),
        [
            ("graph", "cpu", "CUDA graph"),
            ("graph", "mps", "CUDA graph"),
            ("native", "cuda", "runs on the CPU"),
            ("native", "mps", "runs on the CPU"),
            ("compiled", "mps", "cpu and cuda"),
        ],
    )
    def test_a_device(self, name: str, device: str, says: str) -> None:
        assert says in str(hardware.problem(name, device))

    def test_nothing_for_the_plain_one(self) -> None:
        for device in ("cpu", "cuda", "mps"):
            assert hardware.problem("plain", device) is None
            assert hardware.problem("auto", device) is None
        assert hardware.problem("graph", "cuda") is None


def test_the_plain_engine_makes_steps_by_update_itself(make_job: MakeJob) -> None:
    assert make_job(engine="plain").engine_update is None
    job = make_job(engine="plain")
    assert update(job, job.batches.batch(0, 0), 0.1).loss.isfinite()
