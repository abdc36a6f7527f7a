"""Training steps of linear layers in compiled code, against PyTorch's autograd and optimizers."""

from __future__ import annotations

import copy
import itertools
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from sartor import native_module
from sartor.inference.chain import array_of, layers_of, network_of
from sartor.models.dropout import Dropout
from sartor.training.objective import Objective
from sartor.training.optim import EPSILON, RMSPROP_DECAY, Optimizer
from sartor.training.settings import TrainingSettings

pytestmark = pytest.mark.skipif(
    native_module.missing() is not None, reason="the engine native was not built"
)

SCALE, SHIFT = 1 / 64, -1.5


class Case(NamedTuple):
    """A training of a few steps."""

    inputs: int = 20
    hidden: tuple[int, ...] = (17, 33)
    classes: int = 5
    dropout: float = 0.0
    batch: int = 19
    images: int = 50
    """Of all steps: the last one may have fewer than a batch."""
    threads: int = 2
    objective: Objective = Objective(loss="cross-entropy")
    training: TrainingSettings = TrainingSettings(opt="sgd", lr=0.1)
    mixed: bool = False
    instructions: str = "auto"
    bias: bool = True

    @property
    def steps(self) -> int:
        return -(-self.images // self.batch)


class Result(NamedTuple):
    weights: dict[str, Tensor]
    remembered: dict[str, Tensor]
    losses: list[float]
    divisors: list[float]
    correct: list[int]


def network(case: Case) -> nn.Sequential:
    """As `models.mlp` builds it."""
    torch.manual_seed(3)
    layers: list[nn.Module] = [nn.Flatten()]
    widths = (case.inputs, *case.hidden, case.classes)
    for number, (width, outputs) in enumerate(itertools.pairwise(widths)):
        layers.append(nn.Linear(width, outputs, bias=case.bias))
        if number < len(case.hidden):
            layers.append(nn.ReLU())
            if case.dropout:
                layers.append(Dropout(case.dropout))
    return nn.Sequential(*layers)


class Images(NamedTuple):
    pixels: Tensor
    """uint8 (N, 1, 1, inputs)."""
    labels: Tensor
    """int64 (N,), or float32 (M, K) in the order of the steps."""
    rows: Tensor
    """int64 (M,)."""


def images(case: Case) -> Images:
    rng = np.random.default_rng(7)
    pixels = torch.from_numpy(rng.integers(0, 256, (30, 1, 1, case.inputs), np.uint8))
    labels = torch.from_numpy(rng.integers(0, case.classes, 30))
    if case.mixed:
        shares = rng.dirichlet(np.ones(case.classes), case.images)
        labels = torch.from_numpy(shares.astype(np.float32))
    return Images(pixels, labels, torch.from_numpy(rng.integers(0, 30, case.images)))


def seeds_and_rates(case: Case) -> tuple[list[int], list[float]]:
    steps = range(case.steps)
    return [(123456789 + step) << 20 for step in steps], [
        case.training.lr / (1 + step) for step in steps
    ]


def by_autograd(case: Case, dtype: torch.dtype = torch.float32) -> Result:
    model, data = network(case).to(dtype), images(case)
    optimizer = Optimizer(model, case.training)
    losses, divisors, correct = [], [], []
    for step, (seed, rate) in enumerate(zip(*seeds_and_rates(case), strict=True)):
        torch.default_generator.manual_seed(seed)
        chosen = slice(step * case.batch, (step + 1) * case.batch)
        rows = data.rows[chosen]
        pixels = data.pixels[rows].to(dtype) * SCALE + SHIFT
        labels = data.labels[chosen] if case.mixed else data.labels[rows]
        weight = case.objective.weight(labels)
        optimizer.zero_grad()
        size = -(-len(labels) // case.training.grad_accum_steps)
        total, right = 0.0, 0
        for part, wanted in zip(torch.split(pixels, size), torch.split(labels, size), strict=True):
            logits = model(part)
            loss = case.objective.sum(logits, wanted)
            torch.autograd.backward(loss / weight)
            total += loss.item()
            truth = wanted.argmax(1) if case.mixed else wanted
            right += int((logits.argmax(1) == truth).sum())
        if case.training.clip_grad is not None:
            nn.utils.clip_grad_norm_(optimizer.parameters, case.training.clip_grad)
        optimizer.step(rate)
        losses.append(total)
        divisors.append(float(weight))
        correct.append(right)
    return Result(model.state_dict(), optimizer.tensors, losses, divisors, correct)


def by_native(case: Case, stretches: tuple[int, ...] | None = None) -> Result:
    """The same, in stretches of so many steps."""
    model, data = network(case), images(case)
    optimizer = Optimizer(model, case.training)
    shape = (1, 1, case.inputs)
    module = native_module.module()
    assert module is not None
    objective, training = case.objective, case.training
    trainer = module.Trainer(
        network_of(layers_of(model, shape), shape, case.classes, case.threads, case.instructions),
        {
            "kind": objective.loss,
            "smoothing": objective.smoothing,
            "weights": None
            if objective.class_weights is None
            else array_of(objective.class_weights),
        },
        {
            "kind": training.opt,
            "momentum": training.momentum,
            "nesterov": training.nesterov,
            "beta1": training.betas[0],
            "beta2": training.betas[1],
            "epsilon": EPSILON,
            "alpha": RMSPROP_DECAY,
            "parameters": [
                {
                    "parameter": array_of(one.parameter),
                    "decay": one.decay,
                    "factor": one.factor,
                    "step": array_of(one.step.view(1)),
                    **{kind: array_of(average) for kind, average in one.averages.items()},
                }
                for one in optimizer.kept()
            ],
        },
        training.grad_accum_steps,
        training.clip_grad or 0.0,
    )
    seeds, rates = seeds_and_rates(case)
    losses, divisors = np.empty(case.steps), np.empty(case.steps)
    correct = np.empty(case.steps, np.int64)
    first = 0
    for count in stretches or (case.steps,):
        rows = data.rows[first * case.batch : (first + count) * case.batch]
        here = slice(first, first + count)
        rest: list[Any] = [
            case.batch,
            np.array(rates[here]),
            np.array(seeds[here], np.uint64),
            losses[here],
            divisors[here],
            correct[here],
        ]
        if case.mixed:
            ready = data.pixels[rows].float() * SCALE + SHIFT
            labels = data.labels[first * case.batch : (first + count) * case.batch]
            trainer.steps_of_floats(array_of(ready), array_of(labels), *rest)
        else:
            scale, shift = (np.array([one], np.float32) for one in (SCALE, SHIFT))
            arrays = [array_of(one) for one in (data.pixels, data.labels, rows)]
            trainer.steps_of_bytes(*arrays, scale, shift, *rest)
        first += count
    return Result(
        copy.deepcopy(model.state_dict()),
        optimizer.tensors,
        losses.tolist(),
        divisors.tolist(),
        correct.tolist(),
    )


def assert_close(found: Result, expected: Result) -> None:
    assert found.losses == pytest.approx(expected.losses, rel=1e-4, abs=1e-4)
    assert found.divisors == pytest.approx(expected.divisors, rel=1e-6)
    assert found.correct == expected.correct
    for ours, theirs in (
        (found.weights, expected.weights),
        (found.remembered, expected.remembered),
    ):
        assert ours.keys() == theirs.keys()
        for name, tensor in theirs.items():
            torch.testing.assert_close(ours[name], tensor, rtol=2e-4, atol=2e-5, msg=name)


def same(one: Result, other: Result) -> bool:
    return (
        one.losses == other.losses
        and all(torch.equal(t, other.weights[name]) for name, t in one.weights.items())
        and all(torch.equal(t, other.remembered[name]) for name, t in one.remembered.items())
    )


OPTIMIZERS = [
    TrainingSettings(opt="sgd", lr=0.1),
    TrainingSettings(opt="sgd", lr=0.1, weight_decay=0.1, weight_decay_on="weights"),
    TrainingSettings(opt="sgd", lr=0.1, momentum=0.9, weight_decay=0.1),
    TrainingSettings(opt="sgd", lr=0.1, momentum=0.8, nesterov=True),
    TrainingSettings(opt="adam", lr=0.01, weight_decay=0.1),
    TrainingSettings(opt="adam", lr=0.01, betas=(0.3, 0.9)),
    TrainingSettings(opt="adamw", lr=0.01, weight_decay=0.5, weight_decay_on="weights"),
    TrainingSettings(opt="rmsprop", lr=0.01, weight_decay=0.1),
    TrainingSettings(opt="rmsprop", lr=0.01, momentum=0.9),
    TrainingSettings(opt="sgd", lr=0.1, clip_grad=0.2),
    TrainingSettings(opt="adamw", lr=0.01, grad_accum_steps=3),
    TrainingSettings(opt="sgd", lr=0.1, momentum=0.9, grad_accum_steps=2, clip_grad=0.2),
    TrainingSettings(opt="adamw", lr=0.01, layer_decay=0.5),
]
WEIGHTS = torch.tensor([0.5, 2.0, 1.0, 0.1, 3.0])
OBJECTIVES = [
    Objective(loss="cross-entropy"),
    Objective(loss="cross-entropy", smoothing=0.1),
    Objective(loss="cross-entropy", class_weights=WEIGHTS),
    Objective(loss="cross-entropy", smoothing=0.2, class_weights=WEIGHTS),
    Objective(loss="mse"),
    Objective(loss="mse", class_weights=WEIGHTS),
    Objective(loss="bce"),
    Objective(loss="bce", class_weights=WEIGHTS),
]


@pytest.mark.parametrize("training", OPTIMIZERS, ids=lambda one: one.opt)
@pytest.mark.parametrize("hidden", [(), (17, 33)], ids=["linear", "mlp"])
def test_optimizers(training: TrainingSettings, hidden: tuple[int, ...]) -> None:
    case = Case(training=training, hidden=hidden)
    assert_close(by_native(case), by_autograd(case))


@pytest.mark.parametrize("mixed", [False, True], ids=["labels", "shares"])
@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda one: one.loss)
def test_losses(objective: Objective, mixed: bool) -> None:
    case = Case(objective=objective, mixed=mixed)
    assert_close(by_native(case), by_autograd(case))


@pytest.mark.parametrize(
    ("opt", "lr", "shares"), [("sgd", 0.1, (0.5, 1)), ("adam", 0.001, (0.5, 0.999))]
)
def test_ten_steps_are_as_exact_as_those_of_pytorch(
    opt: str, lr: float, shares: tuple[float, float]
) -> None:
    """Adam divides by the size of a gradient: what becomes of a few tiny ones is chance."""
    case = Case(
        inputs=784,
        hidden=(128, 64, 32),
        classes=10,
        batch=128,
        images=1280,
        training=TrainingSettings(opt=opt, lr=lr),
    )
    exact = by_autograd(case, torch.float64).weights

    def errors(weights: dict[str, Tensor]) -> Tensor:
        every = torch.cat([(weights[name] - exact[name]).flatten() for name in exact])
        return every.abs().quantile(torch.tensor(shares, dtype=torch.float64))

    native, theirs = errors(by_native(case).weights), errors(by_autograd(case).weights)
    assert (native < 1.5 * theirs).all()


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_dropout_drops_what_it_drops_in_pytorch(threads: int) -> None:
    parts = TrainingSettings(opt="sgd", lr=0.1, grad_accum_steps=2)
    case = Case(hidden=(64, 50), dropout=0.3, batch=35, images=70, threads=threads, training=parts)
    assert_close(by_native(case), by_autograd(case))


sizes = st.integers(1, 70)


@settings(max_examples=60, deadline=None)
@given(
    inputs=sizes,
    hidden=st.lists(sizes, max_size=3),
    classes=st.integers(1, 40),
    batch=st.integers(1, 70),
    images_=st.integers(1, 100),
    threads=st.integers(1, 4),
    dropout=st.sampled_from([0.0, 0.0, 0.5]),
    bias=st.booleans(),
    # The others divide by the size of a gradient, and so enlarge the rounding of tiny ones.
    training=st.sampled_from([one for one in OPTIMIZERS if one.opt == "sgd"]),
)
def test_wild_shapes(
    inputs: int,
    hidden: list[int],
    classes: int,
    batch: int,
    images_: int,
    threads: int,
    dropout: float,
    bias: bool,
    training: TrainingSettings,
) -> None:
    training = replace(training, lr=training.lr / 10)
    case = Case(
        inputs=inputs,
        hidden=tuple(hidden),
        classes=classes,
        batch=min(batch, images_),
        images=min(images_, 4 * batch),
        threads=threads,
        dropout=dropout,
        bias=bias,
        training=training,
    )
    assert_close(by_native(case), by_autograd(case))


class TestBits:
    """What must not depend on how the work is cut."""

    CASE = Case(
        inputs=50,
        hidden=(64, 50),
        dropout=0.2,
        batch=35,
        images=350,
        training=TrainingSettings(opt="adamw", lr=0.01, clip_grad=0.5),
    )

    def test_stretches(self) -> None:
        whole = by_native(self.CASE)
        assert same(whole, by_native(self.CASE, (3, 1, 6)))

    def test_a_second_time(self) -> None:
        assert same(by_native(self.CASE), by_native(self.CASE))

    def test_threads_where_each_has_rows_of_its_own(self) -> None:
        case = self.CASE._replace(training=TrainingSettings(opt="adamw", lr=0.01))
        first = by_native(case._replace(threads=1))
        assert same(first, by_native(case._replace(threads=2)))
        assert same(first, by_native(case._replace(threads=3)))

    def test_fusing_instruction_sets(self) -> None:
        found = native_module.instruction_sets()
        fusing = [name for name in found if name != "generic"]
        results = [by_native(self.CASE._replace(instructions=name)) for name in fusing]
        assert all(same(results[0], other) for other in results)

    def test_generic_instructions(self) -> None:
        case = self.CASE._replace(instructions="generic")
        assert_close(by_native(case), by_autograd(case))


def test_not_a_number_goes_through() -> None:
    case = Case(training=TrainingSettings(opt="sgd", lr=1e30))
    found = by_native(case)
    assert not np.isfinite(found.losses[-1])
