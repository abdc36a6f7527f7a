"""One batch through a network, forward and back, and one step of the optimizer: all of it kept.

The network itself stays as it is, bit for bit: everything happens to a copy.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from ..data.batches import Batch
from ..errors import ModelError, SartorError, UsageError, unknown
from ..evaluation.predictions import probabilities_of
from ..models.custom import reason_of
from ..training import engine
from ..training.loop import Job, precision, seed_random_numbers, update
from ..training.objective import Objective, untrained_loss
from ..training.optim import Optimizer
from ..training.settings import TrainingSettings
from .recording import Call, Recording

Shape = tuple[int, ...]

RELUS = ("relu", "relu6", "threshold")
"""Operations, in lower case, that give 0 for all that is negative."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Plan:
    """How the step is to be made: what training would do next."""

    objective: Objective
    settings: TrainingSettings
    """Resolved: no "auto" left."""
    learning_rate: float
    step: int = 0
    """Updates done before; seeds what is random, such as dropout."""
    optimizer: Mapping[str, Tensor] = field(default_factory=dict)
    """The optimizer's state; empty where it begins afresh."""


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """What a tensor's numbers are like, over the whole batch."""

    mean: float
    spread: float
    """Standard deviation."""
    lowest: float
    highest: float
    zeros: float
    """Share of numbers that are exactly 0."""
    units: int
    """Features, or channels of feature maps."""
    silent_units: int
    """Units that are 0 for every image of the batch, everywhere."""
    finite: bool

    @classmethod
    def of(cls, values: Tensor) -> Statistics:
        """Of a tensor (B, ...) of floating-point numbers."""
        numbers = values.double().reshape(values.shape or (1,))
        zero = numbers == 0
        axis = _unit_axis(numbers)
        silent = zero.transpose(0, axis).reshape(zero.shape[axis], -1).all(dim=1)
        return cls(
            mean=float(numbers.mean()),
            spread=float(numbers.std(correction=0)),
            lowest=float(numbers.min()),
            highest=float(numbers.max()),
            zeros=float(zero.double().mean()),
            units=len(silent),
            silent_units=int(silent.sum()),
            finite=bool(numbers.isfinite().all()),
        )


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Product:
    """A linear layer as what it is: each row of weights times the vector, summed, plus bias."""

    weights: Tensor
    """(out, in)."""
    vector: Tensor
    """(in,)."""
    bias: Tensor | None = None
    """(out,)."""

    @property
    def terms(self) -> Tensor:
        """(out, in): every weight times the number that it meets."""
        return self.weights * self.vector

    @property
    def result(self) -> Tensor:
        """(out,)."""
        sums = self.weights @ self.vector
        return sums if self.bias is None else sums + self.bias

    def __repr__(self) -> str:
        rows = [
            [f"{number(w)}*{number(x)}" for w, x in zip(row, self.vector, strict=True)]
            for row in self.weights
        ]
        if self.bias is not None:
            rows = [[*row, number(one)] for row, one in zip(rows, self.bias, strict=True)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join(
            " + ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
            + f" = {number(total)}"
            for row, total in zip(rows, self.result, strict=True)
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class Layer:
    """One call of a module, or of a function between modules. Tensors lie on the processor."""

    name: str
    operation: str
    """The module's class, or the function's name."""
    input_shape: Shape
    output_shape: Shape
    """Of the batch that came out; of the first tensor if there were several."""
    input: Tensor | None
    output: Tensor
    gradient: Tensor | None
    """Of the loss with respect to the output; None where none came, or without a label."""
    statistics: Statistics
    """Of the output."""
    parameters: tuple[str, ...]
    """Names of those it used."""
    weight: Tensor | None
    bias: Tensor | None

    @property
    def gradient_norm(self) -> float | None:
        """Length of the gradient with respect to the output."""
        return None if self.gradient is None else float(self.gradient.double().norm())

    @property
    def is_relu(self) -> bool:
        """Whether it gives 0 for all that is negative."""
        return self.operation.lower().strip("_") in RELUS

    @property
    def is_linear(self) -> bool:
        """Whether it is the product of a matrix and one vector an image."""
        return (
            self.operation.lower().endswith("linear")
            and self.weight is not None
            and self.input is not None
            and self.weight.ndim == self.input.ndim == 2
            and self.weight.shape[1] == self.input.shape[1]
        )

    def as_product(self, image: int = 0) -> Product:
        """The layer's work on one image of the batch, as a product of a matrix and a vector.

        Raises:
            UsageError: it is no linear layer on vectors.
        """
        if not self.is_linear:
            raise UsageError(
                f"{self.name} ({self.operation}) is no product of a matrix and a vector.",
                "Ask a linear layer.",
            )
        assert self.weight is not None, "is_linear"
        assert self.input is not None, "is_linear"
        return Product(weights=self.weight, vector=self.input[image], bias=self.bias)


@dataclass(frozen=True, eq=False, kw_only=True)
class ParameterTrace:
    """One parameter: what it was, its gradient, and what the step made of it."""

    name: str
    also: tuple[str, ...]
    """Other names of the same parameter, where layers share it."""
    shape: Shape
    trainable: bool
    weight: Tensor
    """Before the step."""
    gradient: Tensor | None
    """As backward() left it, before any clipping; None where it took no part."""
    update: Tensor
    """Weight after the step minus weight before it."""

    @property
    def weight_norm(self) -> float:
        """Length of the weight before the step."""
        return float(self.weight.double().norm())

    @property
    def gradient_norm(self) -> float | None:
        """Length of the gradient."""
        return None if self.gradient is None else float(self.gradient.double().norm())

    @property
    def update_norm(self) -> float:
        """Length of the update."""
        return float(self.update.double().norm())

    @property
    def update_ratio(self) -> float | None:
        """Length of the update over that of the weight; None for a weight of zeros."""
        return self.update_norm / self.weight_norm if self.weight_norm else None


@dataclass(frozen=True, eq=False, kw_only=True)
class Loss:
    """What training makes small, and how it comes about."""

    name: str
    """cross-entropy, mse or bce."""
    value: float
    """Of the batch, with smoothing and class weights: what backward() starts from."""
    of_each: Tensor
    """(B,): of each image, without smoothing and class weights."""
    knowing_nothing: float
    """The loss of a network that knows nothing of the classes, such as ln 10."""
    smoothing: float
    weighted: bool
    """Classes have weights of their own."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Step:
    """One step of the optimizer, and the same batch before and after it."""

    optimizer: str
    learning_rate: float
    loss_before: float
    loss_after: float
    correct_before: int
    correct_after: int
    count: int
    """Images in the batch."""
    gradient_norm: float
    """Over all parameters, before any clipping."""
    clipped_to: float | None
    """The length it was cut to; None where it was not."""
    logits_after: Tensor
    probabilities_after: Tensor


@dataclass(frozen=True, eq=False, kw_only=True)
class Passage:
    """A batch's way through a network, forward and back. Tensors lie on the processor."""

    classes: tuple[str, ...]
    images: Tensor
    """(B, C, H, W), as the network got them."""
    labels: Tensor | None
    """(B,)."""
    training_mode: bool
    """Dropout drops, and batch normalisation uses this batch's figures."""
    layers: tuple[Layer, ...]
    """In the order of their calls."""
    parameters: tuple[ParameterTrace, ...]
    output: Tensor
    """What the network gives: logits (B, K) where it is a classifier."""
    probabilities: Tensor | None
    """(B, K); None where the output is no row of numbers an image."""
    loss: Loss | None
    """None without labels; so is `step`."""
    step: Step | None

    def __getitem__(self, name: str) -> Layer | ParameterTrace:
        """A layer by its name, such as "conv1", or a parameter, such as "conv1.weight"."""
        parts: list[Layer | ParameterTrace] = [*self.layers, *self.parameters]
        for one in parts:
            if one.name == name or (isinstance(one, ParameterTrace) and name in one.also):
                return one
        raise KeyError(unknown("layer or parameter", name, [one.name for one in parts]))

    def parameter(self, name: str) -> ParameterTrace:
        """A parameter by its name."""
        return next(one for one in self.parameters if one.name == name)

    @property
    def output_layer(self) -> Layer | None:
        """The last layer that has parameters."""
        return next((one for one in reversed(self.layers) if one.parameters), None)


def trace_batch(
    model: nn.Module,
    batch: Batch,
    plan: Plan,
    *,
    classes: Sequence[str],
    labelled: bool = True,
    training_mode: bool = False,
) -> Passage:
    """Send a batch through a copy of the network and, if it is labelled, make one step.

    Raises:
        ModelError: the network cannot be copied, cannot take the images, does not give one number
            a class, or lets no gradient through.
    """
    network = copied(model).train(training_mode)
    # With a gradient at the images, frozen layers pass theirs on for all to see.
    images = batch.images.detach().clone().requires_grad_(labelled)
    job = _job(network, Batch(images, batch.labels), plan, tuple(classes))
    before = {name: _kept(one) for name, one in network.named_parameters()}
    recording, gradients = Recording(network), _Gradients(network)
    with engine.tuned(plan.settings), _attention_in_parts(), _explained(recording, job, batch):
        seed_random_numbers(plan.settings.seed, plan.step)
        with recording.running(), gradients.kept(), _checked_output(job, len(images), labelled):
            if labelled:
                outcome = update(job, Batch(images, batch.labels), plan.learning_rate)
                output, value = outcome.logits, float(outcome.loss) / float(outcome.weight)
            else:
                output, value = _forward(job, images), None
        after = _again(job, batch, plan) if labelled else None
    parameters = tuple(_parameters(network, before, gradients.by_name))
    logits = _kept(output)
    return Passage(
        classes=tuple(classes),
        images=_kept(images),
        labels=_kept(batch.labels) if labelled else None,
        training_mode=training_mode,
        layers=tuple(_layer(call) for call in recording.calls),
        parameters=parameters,
        output=logits,
        probabilities=_probabilities(logits, plan.objective.loss),
        loss=None if value is None else _loss(plan.objective, value, logits, batch.labels),
        step=None
        if value is None or after is None
        else _step(plan, value, after, logits, batch.labels, parameters),
    )


def copied(model: nn.Module) -> nn.Module:
    """A copy without gradients, which nothing that happens to it can betray.

    Raises:
        ModelError: it holds something that cannot be copied.
    """
    try:
        network = copy.deepcopy(model)
    except Exception as error:  # whatever a network of the user's own may hold
        raise ModelError(
            f"The model cannot be copied: {reason_of(error)}.",
            "It is traced on a copy, to stay as it is; keep no results of its forward in it.",
        ) from error
    for parameter in network.parameters():
        parameter.grad = None
    return network


# ------------------------------------------------------------------------------------ running


class _Gradients:
    """The gradients as backward() leaves them, before clipping changes them in place."""

    def __init__(self, network: nn.Module) -> None:
        self._parameters = dict(network.named_parameters())
        self.by_name: dict[str, Tensor] = {}

    @contextmanager
    def kept(self) -> Iterator[None]:
        handles = [
            # Not typed in the stubs of torch.
            one.register_post_accumulate_grad_hook(self._keeper(name))  # type: ignore[no-untyped-call]
            for name, one in self._parameters.items()
            if one.requires_grad
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _keeper(self, name: str) -> Any:
        def keep(parameter: Tensor) -> None:
            assert parameter.grad is not None, "this hook runs when it is there"
            self.by_name[name] = _kept(parameter.grad)

        return keep


class _Once:
    """One batch as a source of batches."""

    def __init__(self, batch: Batch) -> None:
        self._batch = batch

    def __len__(self) -> int:
        return 1

    def batch(self, _epoch: int, _position: int) -> Batch:
        return self._batch


def _job(network: nn.Module, batch: Batch, plan: Plan, classes: tuple[str, ...]) -> Job:
    # In one part: gradients that accumulate are those of the whole batch.
    settings = replace(plan.settings, grad_accum_steps=1)
    optimizer = Optimizer(network, settings)
    if plan.optimizer:
        optimizer.load(dict(plan.optimizer))
    return Job(
        model=network,
        batches=_Once(batch),
        val=None,
        objective=plan.objective,
        optimizer=optimizer,
        settings=settings,
        classes=classes,
    )


def _forward(job: Job, images: Tensor) -> Any:
    with torch.no_grad(), precision(job.settings):
        return job.model(images)


def _again(job: Job, batch: Batch, plan: Plan) -> tuple[Tensor, float]:
    """The same batch after the step: logits and loss, with the same random numbers."""
    seed_random_numbers(plan.settings.seed, plan.step)
    logits = _forward(job, batch.images)
    loss = plan.objective.sum(logits, batch.labels) / plan.objective.weight(batch.labels)
    return _kept(logits), float(loss)


@contextmanager
def _checked_output(job: Job, count: int, labelled: bool) -> Iterator[None]:
    """Refuse, as soon as it is there, an output that no loss can take."""

    def check(_module: nn.Module, _inputs: Any, output: Any) -> None:
        if not isinstance(output, Tensor) or not output.is_floating_point():
            kind = type(output).__name__ if not isinstance(output, Tensor) else str(output.dtype)
            raise ModelError(
                f"The model gives a {kind.removeprefix('torch.')}, not a tensor of numbers.",
                "Return the logits alone.",
            )
        wanted = (count, job.num_classes)
        if labelled and tuple(output.shape) != wanted:
            raise ModelError(
                f"The model gives the shape {tuple(output.shape)} for a batch of {count} images; "
                f"{wanted} was expected, one number for each of {job.num_classes} classes.",
                "Give its last layer one output a class, or trace without a label.",
            )

    handle = job.model.register_forward_hook(check)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def _explained(recording: Recording, job: Job, batch: Batch) -> Iterator[None]:
    """What a network of the user's own raises becomes a sentence."""
    try:
        yield
    except (SartorError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        if recording.in_forward:
            raise ModelError(
                f"The model cannot take images of shape {tuple(batch.images.shape[1:])} "
                f"(channels, height, width): {reason_of(error)}{recording.place()}.",
                _forward_advice(job, batch),
            ) from error
        raise ModelError(
            f"The gradient cannot be computed: {reason_of(error)}.",
            "Look for detach(), no_grad, .data or a change in place between weights and logits.",
        ) from error


def _forward_advice(job: Job, batch: Batch) -> str:
    of_weights = {one.dtype for one in job.model.parameters()} - {batch.images.dtype}
    if of_weights and len(batch.images):
        names = ", ".join(sorted(str(one).removeprefix("torch.") for one in of_weights))
        return f"Its weights are {names}, the images float32: call model.float()."
    norms = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm)
    if (
        job.model.training
        and len(batch.images) == 1
        and any(isinstance(one, norms) for one in job.model.modules())
    ):
        return "One image has no spread to normalise by: trace a batch, or not in training mode."
    return "Give images of the size and channels that it expects, or change the model."


@contextmanager
def _attention_in_parts() -> Iterator[None]:
    """Without the fused form of attention, which calls none of its layers."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


# ------------------------------------------------------------------------------------ values


def _layer(call: Call) -> Layer:
    gradient = call.gradients[-1] if call.gradients else None
    return Layer(
        name=call.name,
        operation=call.operation,
        input_shape=() if call.input is None else tuple(call.input.shape),
        output_shape=tuple(call.output.shape),
        input=call.input,
        output=call.output,
        gradient=gradient,
        statistics=Statistics.of(call.output),
        parameters=tuple(dict.fromkeys(call.parameters.values())),
        weight=call.weight,
        bias=call.bias,
    )


def _parameters(
    network: nn.Module, before: Mapping[str, Tensor], gradients: Mapping[str, Tensor]
) -> Iterator[ParameterTrace]:
    names: dict[int, list[str]] = {}
    for name, parameter in network.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    for name, parameter in network.named_parameters():
        yield ParameterTrace(
            name=name,
            also=tuple(other for other in names[id(parameter)] if other != name),
            shape=tuple(parameter.shape),
            trainable=parameter.requires_grad,
            weight=before[name],
            gradient=gradients.get(name),
            update=_kept(parameter) - before[name],
        )


def _loss(objective: Objective, value: float, logits: Tensor, labels: Tensor) -> Loss:
    plain, labels = objective.plain(), labels.cpu()
    each = [plain.sum(row[None], label[None]) for row, label in zip(logits, labels, strict=True)]
    return Loss(
        name=objective.loss,
        value=value,
        of_each=torch.stack(each),
        knowing_nothing=untrained_loss(objective.loss, logits.shape[1]),
        smoothing=objective.smoothing,
        weighted=objective.class_weights is not None,
    )


def _step(
    plan: Plan,
    loss_before: float,
    after: tuple[Tensor, float],
    logits: Tensor,
    labels: Tensor,
    parameters: Sequence[ParameterTrace],
) -> Step:
    logits_after, loss_after = after
    norm = sum((one.gradient_norm or 0.0) ** 2 for one in parameters) ** 0.5
    limit = plan.settings.clip_grad
    labels = labels.cpu()
    probabilities = _probabilities(logits_after, plan.objective.loss)
    assert probabilities is not None, "the output was checked"
    return Step(
        optimizer=plan.settings.opt,
        learning_rate=plan.learning_rate,
        loss_before=loss_before,
        loss_after=loss_after,
        correct_before=int((logits.argmax(1) == labels).sum()),
        correct_after=int((logits_after.argmax(1) == labels).sum()),
        count=len(labels),
        gradient_norm=norm,
        clipped_to=limit if limit is not None and norm > limit else None,
        logits_after=logits_after,
        probabilities_after=probabilities,
    )


def _probabilities(logits: Tensor, loss: str) -> Tensor | None:
    if logits.ndim != 2 or logits.shape[1] < 2:
        return None
    return torch.from_numpy(probabilities_of(logits.float().numpy(), loss))


def _unit_axis(values: Tensor) -> int:
    """The axis of features (B, F) or (B, T, F), or of channels (B, C, H, W)."""
    return {1: 0, 3: 2}.get(values.ndim, 1)


def _kept(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)


def number(value: Tensor | float) -> str:
    """With four digits that count."""
    return f"{float(value):.4g}"
