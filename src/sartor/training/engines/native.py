"""The engine `native`: many steps in one call of compiled code, which works on PyTorch's memory.

It takes networks that are chains of simple layers (`inference.chain`). Weights, the optimizer's
averages and those of batch normalisation are PyTorch's own, changed in place: a checkpoint after
any step is that of autograd, up to rounding.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from torch import nn
from torch.autograd.graph import increment_version

from ... import native_module
from ...arrays import Float64Array, Int64Array
from ...data.feed.ahead import Ahead
from ...data.feed.batches import Batches, SharedBatch
from ...data.pictures.preprocess import Normalizer
from ...inference.chain import NotAChainError, Shape, array_of, layers_of, network_of
from ...inference.native_forward import can_gather
from ...torch_internals import BatchNormalization, version_of
from ..job import Figures, Job, Outcome
from ..loop import update
from ..optim import EPSILON, RMSPROP_DECAY
from ..schedule import learning_rate, learning_rates
from ..seeding import seed_random_numbers, step_seeds
from ..settings import BFLOAT16_INSTRUCTIONS, TrainingSettings
from ..state import Progress

FEWEST_BFLOAT16_CHANNELS = 16
"""Of a convolution, in and out, from which on the compiled module computes it in bfloat16."""
_NONE_WIDE = (
    f"it multiplies bfloat16 in convolutions of stride 1 with {FEWEST_BFLOAT16_CHANNELS} channels "
    "or more, in and out, and there are none"
)


def reason_against(
    settings: TrainingSettings, network: nn.Module, input_shape: Shape, outputs: int
) -> str | None:
    """Why the engine cannot make a training's steps, in a clause; None if it can."""
    if native_module.missing() is not None:
        return native_module.missing()
    if settings.device != "cpu":
        return f"it runs on the CPU, not on {settings.device}"
    if settings.amp_dtype == "float16":
        return "it computes in float32 or bfloat16, not in float16"
    if settings.memory_format == "channels-last":
        return "it keeps weights contiguous, not channels-last"
    if settings.freeze_epochs:
        return "freeze_epochs changes what is trained in the middle of a training"
    narrow = settings.amp_dtype == "bfloat16"
    if narrow and settings.instructions not in ("auto", *BFLOAT16_INSTRUCTIONS):
        return f"instructions {settings.instructions} do not multiply bfloat16"
    if narrow and not native_module.bfloat16_sets():
        return "it does not multiply bfloat16 on this processor"
    instructions = native_module.bfloat16_sets()[-1] if narrow else "auto"
    try:
        made = network_of(layers_of(network, input_shape), input_shape, outputs, 1, instructions)
    except NotAChainError as reason:
        return str(reason)
    return _NONE_WIDE if narrow and not made.multiplies_bfloat16 else None


def may_multiply_bfloat16(network: nn.Module) -> bool:
    """Whether there is a convolution that is computed in bfloat16 where the processor can."""
    return any(
        isinstance(one, nn.Conv2d)
        and min(one.in_channels, one.out_channels) >= FEWEST_BFLOAT16_CHANNELS
        and set(one.stride) == {1}
        for one in network.modules()
    )


class Native:
    """The steps of a job whose network is a chain."""

    def __init__(self, job: Job, input_shape: Shape, communicator: Any = None) -> None:
        """
        Args:
            communicator: of several processes, each of which has its share of every batch; as
                `distributed.Team.communicator` gives it.

        Raises:
            NotAChainError: the engine does not compute the network.
        """
        settings = job.settings
        layers = layers_of(job.model, input_shape, frozen_norms=settings.freeze_norms)
        network = network_of(
            layers, input_shape, job.num_classes, settings.threads, settings.instructions
        )
        if settings.amp_dtype == "bfloat16" and not network.multiplies_bfloat16:
            raise NotAChainError(_NONE_WIDE)
        module = native_module.module()
        assert module is not None, "it made the network"
        self._trainer = module.Trainer(
            network,
            _loss(job),
            _optimizer(job),
            settings.grad_accum_steps,
            settings.clip_grad or 0.0,
            communicator,
        )
        self._input_shape = input_shape
        self._tensors = [*job.model.parameters(), *job.model.buffers()]
        self._versions = -1
        self._counters = [
            one.num_batches_tracked
            for one in job.model.modules()
            if isinstance(one, BatchNormalization) and one.num_batches_tracked is not None
            if not settings.freeze_norms
        ]

    def shared(self, job: Job, communicator: Any) -> Native:
        """The same, with several processes."""
        return Native(job, self._input_shape, communicator)

    def __call__(self, job: Job, progress: Progress, most: int) -> Figures | Outcome:
        """The next steps of the present epoch: `most` of them, or fewer."""
        if job.agreement is not None:
            most = job.agreement.stretch(most)
            with job.agreement.team.adding_up():
                return self._next(job, progress, most)
        return self._next(job, progress, most)

    def _next(self, job: Job, progress: Progress, most: int) -> Figures | Outcome:
        batches = job.batches.source if isinstance(job.batches, Ahead) else job.batches
        assert isinstance(batches, Batches), "a training's own"
        first, left = progress.position, len(batches) - progress.position
        if self._counters:
            # Autograd has its own rules for the statistics of a single image.
            left = next((k for k in range(min(most, left)) if _has_single(job, first + k)), left)
        if not left:
            return _by_autograd(job, progress)
        self._take_changes()
        if batches.augmentation is not None or not can_gather(batches.feed):
            return self._on_a_ready_batch(job, progress)
        count = min(most, left)
        rows, steps = (
            batches.rows(progress.epoch, first, first + count),
            _steps(job, progress, count),
        )
        if progress.epoch + 1 < job.settings.epochs:
            # While the steps are made, without Python.
            batches.order_ahead(progress.epoch + 1)
        normalize = batches.feed.normalize
        assert isinstance(normalize, Normalizer), "asked before"
        self._trainer.steps_of_bytes(
            array_of(batches.feed.images),
            array_of(batches.feed.labels),
            array_of(rows),
            *normalize.of_channels,
            batches.batch_size,
            *steps,
        )
        return self._figures(job, progress, steps, _own_images(batches, len(rows)))

    def _on_a_ready_batch(self, job: Job, progress: Progress) -> Figures:
        """One step, for the next batch is made meanwhile."""
        batch = job.batches.batch(progress.epoch, progress.position)
        steps, count = _steps(job, progress, 1), len(batch.labels)
        if isinstance(batch, SharedBatch):
            count, batch = batch.whole, batch.own
        self._trainer.steps_of_floats(array_of(batch.images), array_of(batch.labels), count, *steps)
        return self._figures(job, progress, steps, len(batch.labels))

    def _take_changes(self) -> None:
        """See what PyTorch wrote since the last steps, such as the weights of a checkpoint."""
        versions = self._versions_now()
        if versions != self._versions:
            self._trainer.refresh()
            self._versions = versions

    def _figures(self, job: Job, progress: Progress, steps: _Steps, images: int) -> Figures:
        if self._counters:
            made = range(progress.position, progress.position + len(steps.rates))
            parts = sum(len(_parts(job, position)) for position in made)
            for counter in self._counters:
                counter.add_(parts)
        # Who keeps what was made of the weights, such as `Forward`, sees that they changed.
        increment_version(self._tensors)
        self._versions = self._versions_now()
        return Figures(
            losses=steps.losses.tolist(),
            weights=steps.weights.tolist(),
            correct=int(steps.correct.sum()),
            images=images,
        )

    def _versions_now(self) -> int:
        return sum(map(version_of, self._tensors))


class _Steps(NamedTuple):
    """What belongs to each of some steps; the last three are filled in."""

    rates: Float64Array
    seeds: npt.NDArray[np.uint64]
    losses: Float64Array
    weights: Float64Array
    correct: Int64Array


def _steps(job: Job, progress: Progress, count: int) -> _Steps:
    settings, first, per_epoch = job.settings, progress.step, len(job.batches)
    return _Steps(
        rates=np.array(learning_rates(settings, first, count, per_epoch)),
        seeds=step_seeds(settings.seed, first, count),
        losses=np.empty(count),
        weights=np.empty(count),
        correct=np.empty(count, np.int64),
    )


def _by_autograd(job: Job, progress: Progress) -> Outcome:
    """One step as the plain engine makes it."""
    seed_random_numbers(job.settings.seed, progress.step)
    batch = job.batches.batch(progress.epoch, progress.position)
    lr = learning_rate(job.settings, progress.step, len(job.batches))
    return (job.engine_update or update)(job, batch, lr)


def _own_images(batches: Batches, images: int) -> int:
    """How many of so many images, in batches, are this process's."""
    if batches.share is None:
        return images
    size = batches.batch_size
    counts = [min(size, images - start) for start in range(0, images, size)]
    rows = [one for count in counts for one in batches.share.of_batch(count)]
    return sum(one.number for one in rows if one.counts)


def _has_single(job: Job, position: int) -> bool:
    return 1 in _parts(job, position)


def _parts(job: Job, position: int) -> list[int]:
    """How many images the parts of a batch have, whose gradients are added up."""
    batches = job.batches.source if isinstance(job.batches, Ahead) else job.batches
    assert isinstance(batches, Batches), "a training's own"
    images = min(batches.batch_size, len(batches.feed) - position * batches.batch_size)
    size = math.ceil(images / job.settings.grad_accum_steps)
    return [min(size, images - start) for start in range(0, images, size)]


def _loss(job: Job) -> dict[str, Any]:
    objective = job.objective
    weights = objective.class_weights
    return {
        "kind": objective.loss,
        "smoothing": objective.smoothing,
        "weights": None if weights is None else array_of(weights),
    }


def _optimizer(job: Job) -> dict[str, Any]:
    """The update rule, and of each trained parameter what belongs to it, in PyTorch's memory."""
    settings = job.settings
    beta1, beta2 = settings.betas
    return {
        "kind": settings.opt,
        "momentum": settings.momentum,
        "nesterov": settings.nesterov,
        "beta1": beta1,
        "beta2": beta2,
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
            for one in job.optimizer.kept()
        ],
    }
