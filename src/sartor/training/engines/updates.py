"""The engines: other ways to make the same update, without autograd, compiled, or as a CUDA graph.

`update_for` chooses among them; nothing else in the package needs to know them. Compiled and graph
are made for batches of one size; a smaller one at the end of an epoch uses `loop.update` itself.
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
from ..job import Job, Outcome, Update
from ..loop import update
from .direct import Chain, chain_of

_WARM_UP_STEPS = 3


def update_for(job: Job) -> Update | None:
    """The update of the engine that a job's settings name; None for the plain one, `loop.update`.

    Raises:
        RecipeError: the engine is direct, and does not support the network.
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
    """`update` with the forward and backward pass of a chain of layers instead of autograd's."""

    def __init__(self, job: Job, chain: Chain) -> None:
        self._passes = functools.partial(chain, job.objective)

    def __call__(self, job: Job, batch: Batch, lr: float) -> Outcome:
        """As `update`."""
        return update(job, batch, lr, self._passes)


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
