"""Layers that look at a batch as a whole, where each of several processes has only a share of it.

Batch normalisation takes its mean and variance from the rows of all processes, and dropout draws
its mask for all rows and keeps its own: so a network learns the same from a batch, whatever the
number of processes. What another layer draws is drawn for each process on its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ..data.feed.shares import Rows
from ..distributed import Team
from ..models.dropout import Slice, masks_of, slice_of
from ..torch_internals import become

_DROPOUTS = {nn.Dropout: 0, nn.Dropout1d: 1, nn.Dropout2d: 2, nn.Dropout3d: 3}
"""How many dimensions after the channels share a coin."""
_MOST_ADDED = 1 << 14
"""Numbers of a channel."""


class WholeBatch:
    """A network whose layers see the whole batch while an update is made."""

    def __init__(self, team: Team, device: str) -> None:
        self.team = team
        self._generator = torch.Generator(device)
        self.counts = True
        """Whether this process's rows are its own."""

    def begin_step(self) -> None:
        """After the seed of the step was set: draw masks from it, and anything else apart."""
        seed = torch.default_generator.initial_seed()
        self._generator.manual_seed(seed)
        if not self.team.leads:
            torch.manual_seed((seed + self.team.rank * 0x9E3779B97F4A7C15) % 2**63)

    @contextmanager
    def part(self, rows: Rows) -> Iterator[None]:
        """Inside, a part of the batch goes forward and back."""
        self.counts = rows.counts
        with masks_of(Slice(rows.first, rows.number, rows.whole, self._generator)):
            yield


_current: WholeBatch | None = None


@contextmanager
def over_whole_batch(model: nn.Module, whole: WholeBatch) -> Iterator[None]:
    """Inside, the model's layers look at the whole batch in training; afterwards all is as before.

    They become layers of another class, which keeps names, parameters, buffers and hooks, as
    neither replacing a layer nor patching its `forward` would.
    """
    global _current
    changed = [(one, type(one)) for one in model.modules() if type(one) in _TWINS]
    before, _current = _current, whole
    for module, kind in changed:
        become(module, _TWINS[kind])
    try:
        yield
    finally:
        _current = before
        for module, kind in changed:
            become(module, kind)


class _Normalized:
    """Batch normalisation over the rows of all processes."""

    def forward(self: Any, input: Tensor) -> Tensor:
        """(B, C, ...) -> the same shape."""
        if _current is None or not self.training:
            normalized: Tensor = super().forward(input)  # type: ignore[misc]
            return normalized
        self._check_input_dim(input)
        weight, bias = self.weight, self.bias
        if weight is None:
            weight, bias = input.new_ones(input.shape[1]), input.new_zeros(input.shape[1])
        mean, variance, count = _statistics(input.detach(), _current)
        if self.track_running_stats:
            self.num_batches_tracked.add_(1)
            share = self.momentum
            if share is None:
                share = 1 / float(self.num_batches_tracked)
            unbiased = variance * (count / max(count - 1, 1))
            for kept, new in ((self.running_mean, mean), (self.running_var, unbiased)):
                kept.mul_(1 - share).add_(new.to(kept.dtype), alpha=share)
        result: Tensor = _Normalize.apply(  # type: ignore[no-untyped-call]
            input, weight, bias, mean.float(), variance.float(), count, self.eps, _current
        )
        return result


def _statistics(values: Tensor, whole: WholeBatch) -> tuple[Tensor, Tensor, int]:
    """Mean and variance (C,) of each channel over the rows of all processes, in double precision,
    and how many numbers they are of."""
    mean, variance = _own_statistics(values)
    count = values.numel() // values.shape[1] if whole.counts else 0
    own = torch.cat([mean, variance, mean.new_tensor([count])])
    rows = whole.team.gather(own)
    means, variances = rows[:, :-1].chunk(2, 1)
    counts = rows[:, -1:]
    return *_of_parts(means, variances, counts), int(counts.sum())


def _own_statistics(values: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance float64 (C,) of this process's rows."""
    each = values[0, 0].numel()
    if values.device.type != "cpu":
        dimensions = [0, *range(2, values.ndim)]
        variance, mean = torch.var_mean(values, dimensions, correction=0)
        return mean.double(), variance.double()
    # The kernel of batch normalisation, a tenth of the time of `torch.var_mean`. Of channels-last
    # it adds up in single precision, so it is given a few images at a time.
    parts = torch.split(values, max(1, _MOST_ADDED // each))
    found = [torch.batch_norm_update_stats(part, None, None, 0.0) for part in parts]
    means, variances = (torch.stack(kind).double() for kind in zip(*found, strict=True))
    counts = means.new_tensor([[len(part) * each] for part in parts])
    return _of_parts(means, variances, counts)


def _of_parts(means: Tensor, variances: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance (C,) of all parts, of which there are means and variances (P, C), and how
    many numbers (P, 1) each is of."""
    shares = counts / counts.sum()
    # Of the parts to the whole (Chan, Golub and LeVeque, 1983); no difference of large squares.
    middle = (shares * means).sum(0)
    return middle, (shares * (variances + (means - middle).square())).sum(0)


class _Normalize(torch.autograd.Function):
    """Scale and shift by statistics that come from the rows of all processes."""

    @staticmethod
    def forward(
        ctx: Any,
        values: Tensor,
        weight: Tensor,
        bias: Tensor,
        mean: Tensor,
        variance: Tensor,
        count: int,
        eps: float,
        whole: WholeBatch,
    ) -> Tensor:
        ctx.save_for_backward(values, weight, mean, variance)
        ctx.count, ctx.eps, ctx.whole, ctx.rows_count = count, eps, whole, whole.counts
        return F.batch_norm(values, mean, variance, weight, bias, training=False, eps=eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        values, weight, mean, variance = ctx.saved_tensors
        inverse = (variance + ctx.eps).rsqrt()
        # By fixed statistics first: the gradients of weight and bias are all that is missing.
        of_values, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
            gradient, values, weight, mean, variance, mean, inverse, False, ctx.eps, [True] * 3
        )
        own = torch.cat([of_weight, of_bias]).double()
        total_weight, total_bias = ctx.whole.team.gather(own).sum(0).chunk(2)
        # What each value does through mean and variance: a line in the value, for each channel.
        slope = (weight * inverse).double() / ctx.count
        through_variance = slope * inverse.double() * total_weight
        through_mean = slope * total_bias - through_variance * mean.double()
        shape = [1, -1, *[1] * (values.ndim - 2)]
        of_values.addcmul_(values, through_variance.float().view(shape).neg())
        of_values.sub_(through_mean.float().view(shape))
        return of_values, of_weight, of_bias, None, None, None, None, None


class _Dropped:
    """Dropout whose mask is a part of the whole batch's."""

    def forward(self: Any, input: Tensor) -> Tensor:
        """(B, ...) -> the same shape."""
        shared = slice_of(input) if self.training and 0 < self.p < 1 else None
        if shared is None:
            dropped: Tensor = super().forward(input)  # type: ignore[misc]
            return dropped
        rows, own, generator = shared
        alike = next(n for kind, n in _DROPOUTS.items() if isinstance(self, kind))
        shape = [rows, *input.shape[1:]]
        if alike:
            shape = [*shape[: input.ndim - alike], *[1] * alike]
        # In the layout of the input, in whose order numbers are drawn.
        layout = torch.channels_last if _is_channels_last(input) else torch.contiguous_format
        mask = torch.empty(shape, dtype=input.dtype, device=input.device, memory_format=layout)
        mask.bernoulli_(1 - self.p, generator=generator).div_(1 - self.p)
        return input * mask[own]


def _is_channels_last(values: Tensor) -> bool:
    return (
        values.ndim == 4
        and not values.is_contiguous()
        and values.is_contiguous(memory_format=torch.channels_last)
    )


def _twin(kind: type[nn.Module], change: type) -> type[nn.Module]:
    return type(kind.__name__, (change, kind), {"__module__": __name__})


_TWINS: dict[type[nn.Module], type[nn.Module]] = {
    kind: _twin(kind, change)
    for change, kinds in (
        (_Normalized, (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)),
        (_Dropped, tuple(_DROPOUTS)),
    )
    for kind in kinds
}
