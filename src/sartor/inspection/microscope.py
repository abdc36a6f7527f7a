"""One batch through a network, forward and back, and one step of the optimizer: all of it kept.

The network itself stays as it is, bit for bit: everything happens to a copy.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from ..data.feed.batches import Batch
from ..errors import ModelError, SartorError
from ..evaluation.predictions import probabilities_of
from ..inference.forward import precision
from ..models.copying import copied_network
from ..models.custom import reason_of
from ..torch_internals import Normalization
from ..training.engines import hardware
from ..training.loop import Job, update
from ..training.objective import Objective, untrained_loss
from ..training.optim import Optimizer
from ..training.seeding import seed_random_numbers
from ..training.settings import ResolvedTraining
from .recording import Call, Recording
from .symptoms import symptoms
from .trace import About, Layer, Loss, ParameterTrace, Shape, Statistics, Step, Trace


@dataclass(frozen=True, eq=False, kw_only=True)
class Plan:
    """How the step is to be made: what training would do next."""

    objective: Objective
    settings: ResolvedTraining
    learning_rate: float
    step: int = 0
    """Updates done before; seeds what is random, such as dropout."""
    optimizer: Mapping[str, Tensor] = field(default_factory=dict)
    """The optimizer's state; empty at the start."""


def trace_batch(
    model: nn.Module,
    batch: Batch,
    plan: Plan,
    *,
    about: About,
    classes: Sequence[str] = (),
    labelled: bool = True,
    training_mode: bool = False,
) -> Trace:
    """Send a batch through a copy of the network and, if it is labelled, make one step.

    Without `classes`, there are as many as the network gives numbers, and they are called so.

    Raises:
        ModelError: the network cannot be copied, cannot take the images, does not give one number
            per class, or lets no gradient through.
    """
    network = copied(model).train(training_mode)
    _refuse_opaque(network)
    # With a gradient at the images, frozen layers pass theirs on for all to see.
    images = batch.images.detach().clone().requires_grad_(labelled)
    job = _job(network, Batch(images, batch.labels), plan)
    before = {name: _kept(one) for name, one in network.named_parameters()}
    recording, gradients = Recording(network), _Gradients(network)
    with hardware.tuned(plan.settings), _attention_in_parts(), _explained(recording, job, batch):
        seed_random_numbers(plan.settings.seed, plan.step, everywhere=True)
        check = _checked_output(network, batch, len(classes), labelled)
        with recording.running(), gradients.kept(), check:
            if labelled:
                outcome = update(job, Batch(images, batch.labels), plan.learning_rate)
                output, value = outcome.logits, float(outcome.loss) / float(outcome.weight)
            else:
                output, value = _forward(job, images), None
        after = _again(job, batch, plan) if labelled else None
    parameters = tuple(_parameters(network, before, gradients.by_name))
    logits = _kept(output)
    trace = Trace(
        about=about,
        classes=_names(classes, logits),
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
    return replace(trace, warnings=symptoms(trace))


def copied(model: nn.Module) -> nn.Module:
    """A copy without gradients, which nothing that happens to it can betray.

    Raises:
        ModelError: it holds something that cannot be copied.
    """
    network = copied_network(model)
    for parameter in network.parameters():
        parameter.grad = None
    return network


# ------------------------------------------------------------------------------------ running


def _refuse_opaque(network: nn.Module) -> None:
    if any(isinstance(one, torch.jit.ScriptModule) for one in network.modules()):
        raise ModelError(
            "The model is compiled by TorchScript, so its layers cannot be observed.",
            "Trace the model that it was compiled from.",
        )
    uninitialized = nn.parameter.UninitializedParameter
    names = [name for name, one in network.named_parameters() if isinstance(one, uninitialized)]
    if names:
        raise ModelError(
            f"{names[0]} has no shape yet, because its layer is lazy.",
            "Call the network once with a batch of zeros first.",
        )


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


def _job(network: nn.Module, batch: Batch, plan: Plan) -> Job:
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
        classes=(),
    )


def _forward(job: Job, images: Tensor) -> Any:
    with torch.no_grad(), precision(job.settings.device, job.settings.amp_dtype):
        return job.model(images)


def _again(job: Job, batch: Batch, plan: Plan) -> tuple[Tensor, float]:
    """The same batch after the step: logits and loss, with the same random numbers."""
    seed_random_numbers(plan.settings.seed, plan.step, everywhere=True)
    logits = _forward(job, batch.images)
    weight = plan.objective.weight(batch.labels)
    loss = float(plan.objective.sum(logits, batch.labels)) / float(weight)
    return _kept(logits), loss


@contextmanager
def _checked_output(
    network: nn.Module, batch: Batch, num_classes: int, labelled: bool
) -> Iterator[None]:
    """Refuse, as soon as it is there, an output that no loss can take."""

    def check(_module: nn.Module, _inputs: Any, output: Any) -> None:
        if not isinstance(output, Tensor) or not output.is_floating_point():
            kind = str(output.dtype) if isinstance(output, Tensor) else type(output).__name__
            raise ModelError(
                f"The model gives a {kind.removeprefix('torch.')}, not a tensor of floats.",
                "Return only the logits.",
            )
        if labelled:
            _refuse_unlike_logits(tuple(output.shape), batch.labels, num_classes)

    handle = network.register_forward_hook(check)
    try:
        yield
    finally:
        handle.remove()


def _refuse_unlike_logits(shape: Shape, labels: Tensor, num_classes: int) -> None:
    given = len(shape) == 2 and shape[0] == len(labels) and shape[1] >= 2
    if not given or (num_classes and shape[1] != num_classes):
        wanted = f"each of {num_classes} classes" if num_classes else "each class"
        raise ModelError(
            f"The model gives the shape {shape} for a batch of {len(labels)} images; one row per "
            f"image was expected, with one number for {wanted}.",
            "Give its last layer one output per class, or trace without a label.",
        )
    if int(labels.max()) >= shape[1] or int(labels.min()) < 0:
        wrong = int(labels.max()) if int(labels.max()) >= shape[1] else int(labels.min())
        raise ModelError(
            f"There is a label {wrong}, but the model has outputs for {shape[1]} classes.",
            "Number the classes from 0, and give the last layer one output per class.",
        )


@contextmanager
def _explained(recording: Recording, job: Job, batch: Batch) -> Iterator[None]:
    """Turns what a user's network raises into an error message."""
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
            "Look for detach(), no_grad, .data or an in-place change between weights and logits.",
        ) from error


def _forward_advice(job: Job, batch: Batch) -> str:
    of_weights = {one.dtype for one in job.model.parameters()} - {batch.images.dtype}
    if of_weights and len(batch.images):
        names = ", ".join(sorted(str(one).removeprefix("torch.") for one in of_weights))
        return f"Its weights are {names}, the images float32: call model.float()."
    if (
        job.model.training
        and len(batch.images) == 1
        and any(isinstance(one, Normalization) for one in job.model.modules())
    ):
        return "One image has no standard deviation: trace a batch, or use evaluation mode."
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


def _names(classes: Sequence[str], output: Tensor) -> tuple[str, ...]:
    """Of the output's numbers: the classes, where there are as many."""
    count = output.shape[1] if output.ndim == 2 else 0
    return tuple(classes) if count in (0, len(classes)) else tuple(map(str, range(count)))


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
        chance_level=untrained_loss(objective.loss, logits.shape[1]),
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


def _kept(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
