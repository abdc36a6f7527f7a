"""The engines: other ways to make the same updates.

`with_engine` chooses among them; nothing else in the package needs to know them. Compiled and graph
are made for batches of one size; a smaller one at the end of an epoch uses `loop.update` itself.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor, nn

from ...data.feed.batches import Batch
from ...errors import RecipeError, SartorWarning
from ...inference.chain import NotAChainError, Shape
from ...models.custom import reason_of
from ..job import Job, Outcome
from ..loop import update
from .native import Native

_WARM_UP_STEPS = 3


def with_engine(job: Job, input_shape: Shape) -> Job:
    """The job with the engine that its settings name.

    Raises:
        RecipeError: the engine does not compute the network.
    """
    engine = job.settings.engine
    if engine == "native":
        try:
            return replace(job, engine_steps=Native(job, input_shape))
        except NotAChainError as reason:
            raise RecipeError(
                [f"engine native cannot train this network: {reason}"],
                "Use another --engine, or none.",
            ) from None
    if engine == "compiled":
        return replace(job, engine_update=Compiled(job))
    if engine == "graph":
        return replace(job, engine_update=Graphed(job, CudaRecording))
    return job


class Compiled:
    """`update` with the forward and backward pass compiled by `torch.compile`, at the first step.

    Random numbers are the same as without it, except those of our own dropout.
    """

    def __init__(self, job: Job) -> None:
        with _ignoring_deprecations():
            network = torch.compile(job.model, dynamic=False, options={"fallback_random": True})
        assert isinstance(network, nn.Module), "of a module, torch.compile makes a module"
        self._twin = replace(job, model=network)
        self._full_size = full_size(job)
        self._ready = False

    def __call__(self, job: Job, batch: Batch, lr: float) -> Outcome:
        """As `update`."""
        if len(batch.labels) != self._full_size:
            return update(job, batch, lr)
        if self._ready:
            return update(self._twin, batch, lr)
        with _ignoring_deprecations():
            outcome = update(self._twin, batch, lr)
        self._ready = True
        return outcome


@contextmanager
def _ignoring_deprecations() -> Iterator[None]:
    """The compiler imports deprecated parts of PyTorch."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


def full_size(job: Job) -> int:
    """Images of a full batch."""
    return job.settings.batch_size * job.settings.grad_accum_steps


class Recording(Protocol):
    """A recorded step that can be replayed."""

    def replay(self) -> None: ...


class CudaRecording:
    """A CUDA graph: the kernels of a step, launched all at once."""

    def __init__(self, step: Callable[[], None]) -> None:
        """Record what `step` launches; it is not executed.

        Raises:
            RuntimeError: the step waits for the device, or does something else that a graph cannot.
        """
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            step()

    def replay(self) -> None:
        """Repeat the step on the present values of its inputs."""
        self._graph.replay()


class Graphed:
    """`update`, recorded once and replayed: without launches from Python, small steps are short.

    The first steps run unrecorded on a stream of their own, as recording requires. Inputs and the
    learning rate are copied into tensors that keep their addresses; the outcome is copied out, as
    the next replay overwrites it. Random numbers follow the generator's seed, which CUDA graphs
    read at each replay. Where a step cannot be recorded, all run unrecorded, and a warning says
    why.
    """

    def __init__(self, job: Job, record: Callable[[Callable[[], None]], Recording]) -> None:
        self._full_size = full_size(job)
        self._record = record
        self._warm_up = _WARM_UP_STEPS
        self._recording: Recording | None = None
        self._given_up = False

    def __call__(self, job: Job, batch: Batch, lr: float) -> Outcome:
        """As `update`."""
        if self._given_up or len(batch.labels) != self._full_size:
            return update(job, batch, lr)
        if self._warm_up:
            self._warm_up -= 1
            return _on_own_stream(job, batch, lr)
        if self._recording is None and not self._recorded(job, batch, lr):
            return update(job, batch, lr)
        return self._replayed(batch, lr)

    def _recorded(self, job: Job, batch: Batch, lr: float) -> bool:
        """Whether a step was recorded, on tensors that will hold the inputs of all others."""
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


def _on_own_stream(job: Job, batch: Batch, lr: float) -> Outcome:
    """A step on a stream other than the current one."""
    if batch.images.device.type != "cuda":
        return update(job, batch, lr)
    current, own = torch.cuda.current_stream(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
    own.wait_stream(current)
    with torch.cuda.stream(own):
        outcome = update(job, batch, lr)
    current.wait_stream(own)
    return outcome
