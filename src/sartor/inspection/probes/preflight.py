"""What can be found to be wrong before the first step."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ...data.feed.batches import Batch
from ...errors import ModelError
from ...inference.forward import precision
from ...models.copying import copied_network
from ...models.custom import reason_of
from ...torch_internals import Normalization
from ...training.loop import Job
from ...training.objective import chance_level

_FAR_OFF = 1.5
_FAR_FROM_TARGETS = 10.0
"""A squared distance from the targets 0 and 1 that outputs of a usual size do not have."""


def check_model(job: Job, batch: Batch, *, untrained: bool = True) -> tuple[float, list[str]]:
    """Run one batch through the network as training finds it: its loss, and warnings about its
    output. One that is not `untrained` may know the answers.

    Raises:
        ModelError: the network has nothing to train, cannot take the images, or does not give one
            number per class.
    """
    if not any(parameter.requires_grad for parameter in job.model.parameters()):
        raise ModelError("The model has no trainable parameters.", "Check requires_grad.")
    _refuse_extra_state(job.model)
    logits = first_logits(job, batch.images)
    expected_shape = (len(batch.images), job.num_classes)
    if tuple(logits.shape) != expected_shape or not logits.is_floating_point():
        raise ModelError(
            f"The model gives {_described(logits)} for a batch of {len(batch.images)} images; "
            f"{expected_shape} was expected, one number for each of {job.num_classes} classes.",
            "Give its last layer one output per class.",
        )
    _refuse_lone_images(job, batch)
    loss = float(job.objective.plain().sum(logits, batch.labels)) / len(batch.labels)
    warned = _warn_of_probabilities(job, logits)
    return loss, [*warned, *_warn_of_loss(job, loss)] if untrained else warned


def _refuse_extra_state(model: nn.Module) -> None:
    """Raise where a checkpoint could not hold what the network wants to be kept."""
    for name, value in model.state_dict().items():
        if not isinstance(value, Tensor):
            raise ModelError(
                f"The state_dict of the model holds a {type(value).__name__} as {name}; a "
                "checkpoint holds only tensors.",
                "Return a tensor from get_extra_state(), or use register_buffer().",
            )


def _refuse_lone_images(job: Job, first: Batch) -> None:
    """Raise where a step has one image at a time, and normalization cannot learn from one."""
    if not any(isinstance(module, Normalization) for module in job.model.modules()):
        return
    last = job.batches.batch(0, len(job.batches) - 1)
    parts = job.settings.grad_accum_steps
    lone = [batch for batch in (first, last) if 1 in _part_sizes(len(batch.labels), parts)]
    if not lone or not _needs_two_images(job, first.images):
        return
    advice = "Raise --batch-size" if lone[0] is first else "Set --drop-last or another --batch-size"
    step = "A step" if lone[0] is first else "The last step of an epoch"
    raise ModelError(
        f"{step} takes one image at a time, but the model's normalization needs at least two for "
        "a mean "
        f"and standard deviation ({len(lone[0].labels)} images in {parts} "
        f"part{'s' * (parts > 1)}).",
        f"{advice}.",
    )


def _part_sizes(count: int, parts: int) -> list[int]:
    """Images of each part of a step, as the loop divides them."""
    size = math.ceil(count / parts)
    return [min(size, count - start) for start in range(0, count, size)]


def _needs_two_images(job: Job, images: Tensor) -> bool:
    """Whether a copy of the network in training mode refuses one image and takes two."""
    try:
        model = copied_network(job.model).train()
    except ModelError:
        return False  # A step that fails will be explained by itself.
    two = images[:1].repeat(2, 1, 1, 1)
    with torch.no_grad(), precision(job.settings.device, job.settings.amp_dtype):
        for taken in (two, two[:1]):
            try:
                model(taken)
            except Exception:  # whatever a network of the user's own may leave with
                return len(taken) == 1
    return False


def first_logits(job: Job, images: Tensor) -> Tensor:
    """Logits of a batch in evaluation mode, without a change to the model."""
    was_training = job.model.training
    job.model.eval()
    try:
        with torch.no_grad(), precision(job.settings.device, job.settings.amp_dtype):
            logits = job.model(images)
            logits = logits.detach() if isinstance(logits, Tensor) else logits
    except Exception as error:  # whatever a network of the user's own may leave with
        shape = tuple(images.shape[1:])
        raise ModelError(
            f"The model cannot take images of shape {shape} (channels, height, width): "
            f"{reason_of(error)}.",
            "Set --image-size and --channels to what it expects, or change the model.",
        ) from error
    finally:
        job.model.train(was_training)
    if not isinstance(logits, Tensor):
        raise ModelError(
            f"The model gives a {type(logits).__name__}, not a tensor.", "Return only the logits."
        )
    return logits.float() if logits.is_floating_point() else logits


def _warn_of_probabilities(job: Job, logits: Tensor) -> list[str]:
    if job.objective.loss == "mse":
        return []  # It takes outputs as they are.
    sums = logits.sum(dim=1)
    if (logits >= 0).all() and torch.allclose(sums, torch.ones_like(sums), atol=1e-4):
        return [
            "The model's outputs sum to 1, as after a softmax; the loss applies softmax itself: "
            "let the model return logits."
        ]
    return []


def _warn_of_loss(job: Job, loss: float) -> list[str]:
    expected = chance_level(job.objective.loss, job.num_classes)
    if expected is None:
        return _warn_of_squared_error(job, loss)
    if expected / _FAR_OFF <= loss <= expected * _FAR_OFF:
        return []
    return [
        f"The loss before training is {loss:.3f}; the chance level for {job.num_classes} classes "
        f"is about {expected:.3f}. Is the model trained already, or are its initial weights or its "
        "input badly scaled?"
    ]


def _warn_of_squared_error(job: Job, loss: float) -> list[str]:
    """Outputs may have any size at first; but no network can guess better than the best constant.

    That is 1/K for each of K classes, with the loss (1 - 1/K) / K.
    """
    best_constant = (1 - 1 / job.num_classes) / job.num_classes
    if loss < best_constant / _FAR_OFF:
        return [
            f"The loss before training is {loss:.3f}; outputs that do not depend on the image give "
            f"{best_constant:.3f} at best. Is the model trained already?"
        ]
    if loss <= _FAR_FROM_TARGETS:
        return []
    return [
        f"The loss before training is {loss:.3f}, but the targets are 0 and 1: are the initial "
        "weights or the input badly scaled?"
    ]


def _described(logits: Tensor) -> str:
    if not logits.is_floating_point():
        return f"numbers of type {str(logits.dtype).removeprefix('torch.')}"
    return f"the shape {tuple(logits.shape)}"


def count_parameters(model: nn.Module) -> int:
    """Trainable numbers in the model."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
