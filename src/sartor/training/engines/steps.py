"""Other ways to make the same update: without autograd, compiled, or as a CUDA graph.

The last two are made for batches of one size; the odd one at the end of an epoch takes the plain
way.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor, nn

from ...data.feed.batches import Batch
from ...errors import RecipeError, SartorWarning
from ...models.custom import reason_of
from ..loop import Job, Outcome, Step, update
from .direct import Chain, chain_of

_WARM_UP_STEPS = 3


def step_of(job: Job) -> Step | None:
    """What makes the steps of a job where that is not `update` itself.

    Raises:
        RecipeError: the engine is direct, and the network is not for it.
    """
    if job.settings.engine in ("direct", "onednn"):
        chain = chain_of(job.model, job.settings)
        if chain is None and job.settings.engine == "direct":
            raise RecipeError(
                [
                    "engine direct is for linear layers, convolutions, max-pooling, ReLU and "
                    "dropout one after the other (nn.Sequential), in float32 on the processor"
                ],
                "Use another --engine, or none.",
            )
        return None if chain is None else Direct(job, chain)
    if job.settings.engine == "compiled":
        return Compiled(job)
    if job.settings.engine == "graph":
        return Graphed(job, CudaRecording)
    return None


class Direct:
    """`update` with the passes of a chain of layers instead of autograd's."""

    def __init__(self, job: Job, chain: Chain) -> None:
        self._passes = functools.partial(chain, job.objective)

    def __call__(self, job: Job, batch: Batch, lr: float) -> Outcome:
        """As `update`."""
        return update(job, batch, lr, self._passes)


class Compiled:
    """`update` with the forward and backward pass compiled by `torch.compile`, at the first step.

    Random numbers are drawn as they are without it, but for those of our own dropout.
    """

    def __init__(self, job: Job) -> None:
        with _deprecations_unsaid():
            network = torch.compile(job.model, dynamic=False, options={"fallback_random": True})
        assert isinstance(network, nn.Module), "of a module, torch.compile makes a module"
        self._twin = replace(job, model=network)
        self._usual = usual_size(job)
        self._ready = False

    def __call__(self, job: Job, batch: Batch, lr: float) -> Outcome:
        """As `update`."""
        if len(batch.labels) != self._usual:
            return update(job, batch, lr)
        if self._ready:
            return update(self._twin, batch, lr)
        with _deprecations_unsaid():
            outcome = update(self._twin, batch, lr)
        self._ready = True
        return outcome


@contextmanager
def _deprecations_unsaid() -> Iterator[None]:
    """The compiler imports parts of PyTorch that warn of themselves."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


def usual_size(job: Job) -> int:
    """Images of a whole batch."""
    return job.settings.batch_size * job.settings.grad_accum_steps


class Recording(Protocol):
    """A step that was recorded, to be made again."""

    def replay(self) -> None: ...


class CudaRecording:
    """A CUDA graph: the kernels of a step, launched all at once."""

    def __init__(self, step: Callable[[], None]) -> None:
        """Record what `step` launches; it is not executed.

        Raises:
            RuntimeError: the step waits for the device, or does something else that no graph can.
        """
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            step()

    def replay(self) -> None:
        """Make the step again, on whatever its inputs hold now."""
        self._graph.replay()


class Graphed:
    """`update`, recorded once and replayed: no launch from Python, so that small steps are short.

    The first steps are made as they are, on a stream of their own, which is what recording asks
    for. Inputs and the learning rate are copied into tensors that stay where they are; what a step
    saw is copied out, for the next one overwrites it. Random numbers follow the generator's seed,
    which CUDA graphs read at each replay. Where a step cannot be recorded, all are made as ever,
    and a warning says why.
    """

    def __init__(self, job: Job, record: Callable[[Callable[[], None]], Recording]) -> None:
        self._usual = usual_size(job)
        self._record = record
        self._warm_up = _WARM_UP_STEPS
        self._recording: Recording | None = None
        self._given_up = False

    def __call__(self, job: Job, batch: Batch, lr: float) -> Outcome:
        """As `update`."""
        if self._given_up or len(batch.labels) != self._usual:
            return update(job, batch, lr)
        if self._warm_up:
            self._warm_up -= 1
            return _beside(job, batch, lr)
        if self._recording is None and not self._recorded(job, batch, lr):
            return update(job, batch, lr)
        return self._replayed(batch, lr)

    def _recorded(self, job: Job, batch: Batch, lr: float) -> bool:
        """Whether a step was recorded on tensors that will hold the inputs of all others."""
        # Cloned with their strides: channels-last stays so.
        self._batch = Batch(batch.images.clone(), batch.labels.clone())
        self._lr = torch.tensor(lr, dtype=torch.float32, device=batch.images.device)

        def step() -> None:
            self._outcome = update(job, self._batch, self._lr)

        try:
            self._recording = self._record(step)
        except RuntimeError as error:
            self._given_up = True
            warnings.warn(
                f"The step cannot be a CUDA graph ({reason_of(error)}); it is made without.",
                SartorWarning,
                stacklevel=2,
            )
        return not self._given_up

    def _replayed(self, batch: Batch, lr: float) -> Outcome:
        assert self._recording is not None, "recorded before"
        self._batch.images.copy_(batch.images)
        self._batch.labels.copy_(batch.labels)
        self._lr.fill_(lr)
        self._recording.replay()
        loss, weight, logits, _ = self._outcome
        weight = weight.clone() if isinstance(weight, Tensor) else weight
        return Outcome(loss.clone(), weight, logits.clone(), batch.labels)


def _beside(job: Job, batch: Batch, lr: float) -> Outcome:
    """A step on another stream than that of the device's other work."""
    if batch.images.device.type != "cuda":
        return update(job, batch, lr)
    here, beside = torch.cuda.current_stream(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
    beside.wait_stream(here)
    with torch.cuda.stream(beside):
        outcome = update(job, batch, lr)
    here.wait_stream(beside)
    return outcome
