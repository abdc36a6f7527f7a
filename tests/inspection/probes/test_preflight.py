"""What is found before the first step: every error and every warning, and nothing else."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sartor.errors import ModelError
from sartor.inspection.probes.preflight import check_model, count_parameters
from sartor.training.loop import Job

MakeJob = Callable[..., Job]


class Lambda(nn.Module):
    """A network of one number and any function of it and the images."""

    def __init__(self, function: Callable[[Tensor, Tensor], Any]) -> None:
        super().__init__()
        self.number = nn.Parameter(torch.zeros(1))
        self.function = function

    def forward(self, images: Tensor) -> Any:
        return self.function(images, self.number)


def checked(make_job: MakeJob, function: Callable[[Tensor, Tensor], Any], **settings: Any) -> Any:
    job = make_job(Lambda(function), **settings)
    return check_model(job, job.batches.batch(0, 0))


def logits(images: Tensor, *columns: float) -> Tensor:
    return torch.tensor(columns or (0.0, 0.0, 0.0)).repeat(len(images), 1)


class TestErrors:
    def test_nothing_to_train(self, make_job: MakeJob) -> None:
        network = nn.Sequential(nn.Flatten(), nn.Linear(36, 3)).requires_grad_(False)
        job = make_job(network)
        with pytest.raises(ModelError, match="no trainable parameters"):
            check_model(job, job.batches.batch(0, 0))

    @pytest.mark.parametrize(
        ("function", "reason"),
        [
            (lambda x, w: logits(x, 1, 2) + w, r"the shape \(31, 2\).* \(31, 3\) was expected"),
            (lambda x, w: logits(x, 1, 2, 3, 4) + w, r"the shape \(31, 4\)"),
            (lambda x, w: (logits(x) + w)[:-1], r"the shape \(30, 3\)"),
            (lambda x, w: (logits(x) + w)[..., None], r"the shape \(31, 3, 1\)"),
            (lambda x, _: logits(x).argmax(1), "numbers of type int64"),
            (lambda x, _: logits(x).long(), "numbers of type int64"),
            (lambda x, w: (logits(x) + w, 1), "gives a tuple, not a tensor"),
            (lambda _, __: None, "gives a NoneType, not a tensor"),
        ],
    )
    def test_output(self, make_job: MakeJob, function: Any, reason: str) -> None:
        with pytest.raises(ModelError, match=reason) as caught:
            checked(make_job, function, batch_size="all")
        assert caught.value.hint

    @pytest.mark.parametrize(
        "error",
        [
            RuntimeError("mat1 and mat2 shapes cannot be multiplied\nand more"),
            ValueError("expected 4D input"),
            AttributeError("no attribute 'conf'"),
            KeyError("conv"),
            AssertionError(),
            ZeroDivisionError("division by zero"),
            NotImplementedError(""),
        ],
        ids=lambda error: type(error).__name__,
    )
    def test_whatever_a_network_leaves_with(self, make_job: MakeJob, error: Exception) -> None:
        def leave(_: Tensor, __: Tensor) -> None:
            raise error

        with pytest.raises(ModelError, match=r"cannot take images of shape \(1, 6, 6\)") as caught:
            checked(make_job, leave)
        assert "\n" not in caught.value.message
        assert caught.value.__cause__ is error

    def test_images_of_another_size(self, make_job: MakeJob) -> None:
        job = make_job(nn.Sequential(nn.Flatten(), nn.Linear(784, 3)))
        with pytest.raises(ModelError, match=r"cannot take images .*\(1, 6, 6\).* multiplied"):
            check_model(job, job.batches.batch(0, 0))


class TestWarnings:
    def test_none_for_a_fresh_network(self, make_job: MakeJob) -> None:
        for model in ("linear", "mlp", "lenet"):
            for loss in ("cross-entropy", "mse", "bce"):
                job = make_job(model=model, loss=loss)
                assert check_model(job, job.batches.batch(0, 0))[1] == []

    def test_outputs_after_a_softmax(self, make_job: MakeJob) -> None:
        _, warned = checked(make_job, lambda x, w: (logits(x, 1, 2, 1) + w).softmax(1))
        assert len(warned) == 1
        assert "as after a softmax" in warned[0]

    @pytest.mark.parametrize("columns", [(0.0, 0.5, 0.6), (-0.5, 1.0, 0.5), (1.0, 1.0, 1.0)])
    def test_no_softmax(self, make_job: MakeJob, columns: tuple[float, ...]) -> None:
        _, warned = checked(make_job, lambda x, w: logits(x, *columns) + w)
        assert not any("softmax" in text for text in warned)

    @pytest.mark.parametrize("columns", [(1000.0, -1000.0, 0.0), (float("nan"),) * 3])
    def test_a_loss_far_off(self, make_job: MakeJob, columns: tuple[float, ...]) -> None:
        loss, warned = checked(make_job, lambda x, w: logits(x, *columns) + w)
        assert len(warned) == 1
        assert f"loss before training is {loss:.3f}" in warned[0]
        assert "about 1.099" in warned[0]

    def test_a_network_that_knows_already(self, make_job: MakeJob, toys: Any) -> None:
        right = nn.functional.one_hot(torch.from_numpy(toys.labels[:31]), 3) * 5.0
        _, warned = checked(make_job, lambda _, w: right + w, shuffle=False, batch_size="all")
        assert len(warned) == 1
        assert "trained already" in warned[0]

    @pytest.mark.parametrize("scale", [0.1, 1.0, 2.5])
    def test_first_outputs_under_mse_may_be_of_any_usual_size(
        self, make_job: MakeJob, scale: float
    ) -> None:
        noise = scale * torch.randn(31, 3, generator=torch.Generator().manual_seed(0))
        _, warned = checked(make_job, lambda x, w: noise[: len(x)] + w, loss="mse")
        assert warned == []

    @pytest.mark.parametrize(("scale", "question"), [(40.0, "badly scaled"), (0.0, "already")])
    def test_mse_far_above_its_targets_or_better_than_any_constant(
        self, make_job: MakeJob, toys: Any, scale: float, question: str
    ) -> None:
        right = nn.functional.one_hot(torch.from_numpy(toys.labels[:31]), 3) + scale
        settings = {"loss": "mse", "shuffle": False, "batch_size": "all"}
        _, warned = checked(make_job, lambda _, w: right + w, **settings)
        assert len(warned) == 1
        assert question in warned[0]
        assert "chance" not in warned[0]


class TestLoneImages:
    """31 training images."""

    def network(self, size: int = 1) -> nn.Module:
        norm = nn.BatchNorm1d(36) if size == 1 else nn.BatchNorm2d(1)
        layers = [nn.Flatten(), norm] if size == 1 else [norm, nn.Flatten()]
        return nn.Sequential(*layers, nn.Linear(36, 3))

    @pytest.mark.parametrize(
        ("settings", "sentence", "advice"),
        [
            ({"batch_size": 30}, "The last step of an epoch takes one image", "--drop-last"),
            ({"batch_size": 1}, "A step takes one image at a time", "Raise --batch-size"),
            (
                {"batch_size": 7, "grad_accum_steps": 4},
                r"The last step .*\(3 images in 4 parts\)",
                "--drop-last",
            ),
        ],
    )
    def test_are_refused_before_the_first_step(
        self, make_job: MakeJob, settings: dict[str, Any], sentence: str, advice: str
    ) -> None:
        job = make_job(self.network(), **settings)
        with pytest.raises(ModelError, match=sentence) as caught:
            check_model(job, job.batches.batch(0, 0))
        assert advice in caught.value.hint

    @pytest.mark.parametrize(
        "settings", [{"batch_size": 30, "drop_last": True}, {"batch_size": 29}, {"batch_size": 8}]
    )
    def test_are_none_where_every_step_has_more(
        self, make_job: MakeJob, settings: dict[str, Any]
    ) -> None:
        job = make_job(self.network(), **settings)
        check_model(job, job.batches.batch(0, 0))

    def test_are_enough_where_they_have_many_pixels(self, make_job: MakeJob) -> None:
        for network in (self.network(size=6), None):
            job = make_job(network, batch_size=30, **({} if network else {"model": "resnet8"}))
            before = {name: t.clone() for name, t in job.model.state_dict().items()}
            check_model(job, job.batches.batch(0, 0))
            assert all(torch.equal(before[name], t) for name, t in job.model.state_dict().items())


class TestNoTrace:
    def test_is_left_in_the_network(
        self, make_job: MakeJob, everything: Callable[[], nn.Module]
    ) -> None:
        """Neither in the running figures of batch normalization nor in gradients or modes."""
        network = everything()
        job = make_job(network)
        before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        for training in (True, False):
            network.train(training)
            check_model(job, job.batches.batch(0, 0))
            assert network.training == training
        assert all(torch.equal(before[name], t) for name, t in network.state_dict().items())
        assert all(parameter.grad is None for parameter in network.parameters())

    def test_the_loss_is_that_of_evaluation(self, make_job: MakeJob) -> None:
        """Plain, without smoothing and weights, which would move it away from ln K."""
        figures = {"smoothing": 0.5, "class_weights": (0.01, 1.0, 100.0)}
        loss, warned = checked(make_job, lambda x, w: logits(x) + w, **figures)
        assert loss == pytest.approx(1.0986, abs=1e-4)
        assert warned == []

    def test_no_warning_escapes(self, make_job: MakeJob) -> None:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            job = make_job(amp_dtype="bfloat16")
            check_model(job, job.batches.batch(0, 0))
        assert caught == []


def test_count_parameters_counts_what_is_trained() -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    network[0].requires_grad_(False)
    assert count_parameters(network) == 4 + 4 + 8 + 2


def test_state_that_is_no_tensor_is_refused(make_job: MakeJob) -> None:
    class Extra(Lambda):
        def get_extra_state(self) -> dict[str, int]:
            return {"steps": 3}

    job = make_job(Extra(lambda images, number: logits(images) + number))
    with pytest.raises(ModelError, match="holds a dict as _extra_state"):
        check_model(job, job.batches.batch(0, 0))
