"""Chance without a generator: numbers that depend only on (seed, epoch, index of a sample, how
often it came before in the epoch).

Neither the batch in which a sample comes, nor its place there, nor the thread that makes the batch
can then change what happens to it. For the same reason no sine, root of a Beta distribution or the
like is computed for a batch: a processor's vector instructions round the last bit otherwise than
its scalar ones, which compute the rest of a batch that does not fill a vector. Such functions are
read from tables; what is computed is plain arithmetic, in which every bit is laid down by IEEE 754.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

LEVELS = 4_096
"""Entries of a table of values from which chance takes one."""

_FRACTION = 2.0**-24
_INDEX_BITS = 40
"""No set has more images."""


@dataclass(frozen=True, eq=False)
class Chance:
    """What chance says about the samples of a batch, in some independent draws."""

    words: Tensor
    """int64 (draws, B), 64 random bits each."""
    epoch: int
    """Counted from 0."""

    def unit(self, draw: int) -> Tensor:
        """float32 (B,), uniform in 0..1, 1 left out."""
        return _shifted(self.words[draw], 40).to(torch.float32).mul_(_FRACTION)

    def around(self, draw: int, reach: float) -> Tensor:
        """float32 (B,), uniform in -reach..reach."""
        return self.unit(draw).mul_(2 * reach).sub_(reach)

    def whole(self, draw: int, count: int) -> Tensor:
        """int64 (B,), each of 0..count-1 as likely as the others; count below 2**31."""
        return (_shifted(self.words[draw], 32) * count) >> 32

    def entry(self, draw: int, table: Tensor) -> Tensor:
        """An entry of the table (..., L) for each sample: (..., B)."""
        return table.index_select(-1, self.whole(draw, table.shape[-1]))

    def part(self, first: int, count: int) -> Chance:
        """Some of the draws."""
        return Chance(self.words[first : first + count], self.epoch)

    def split(self, size: int) -> Iterator[Chance]:
        """For so many samples after so many."""
        return (Chance(words, self.epoch) for words in torch.split(self.words, size, dim=1))

    def of(self, start: int, stop: int) -> Chance:
        """For some of the samples."""
        return Chance(self.words[:, start:stop], self.epoch)


def chance_for(indices: Tensor, keys: Tensor, epoch: int, repeats: Tensor | None = None) -> Chance:
    """For the samples of these indices, int64 (B,): one draw for each of the keys, int64 (draws,).

    A draw is the number that SplitMix64 (Steele et al., 2014), begun at the key, gives as the one
    that the index counts. `repeats`, int64 (B,), says how often each sample came before in the
    epoch; None stands for zeros.
    """
    if repeats is not None:
        indices = indices + (repeats << _INDEX_BITS)
    words = (indices + 1).mul_(_signed(0x9E3779B97F4A7C15)) + keys.unsqueeze(1)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        words.bitwise_xor_(_shifted(words, shift)).mul_(_signed(factor))
    return Chance(words.bitwise_xor_(_shifted(words, 31)), epoch)


class Draws(NamedTuple):
    """How many random numbers something needs for each sample."""

    name: str
    number: int
    steady: bool = False
    """The same numbers in every epoch."""


@lru_cache(maxsize=64)
def keys_of(seed: int, epoch: int, draws: tuple[Draws, ...], device: torch.device) -> Tensor:
    """int64 (sum of numbers,): the keys of each name, whatever others stand beside it."""
    keys = [_keys(seed, 0 if steady else epoch, name, number) for name, number, steady in draws]
    return torch.from_numpy(np.concatenate(keys).view(np.int64)).to(device)


def midpoints(low: float, high: float) -> Tensor:
    """float64 (LEVELS,): the middles of as many equal parts of low..high."""
    steps = (torch.arange(LEVELS, dtype=torch.float64) + 0.5) / LEVELS
    return low + (high - low) * steps


def _keys(seed: int, epoch: int, name: str, number: int) -> npt.NDArray[np.uint64]:
    sequence = np.random.SeedSequence((seed, epoch, zlib.crc32(name.encode())))
    return np.asarray(sequence.generate_state(number, np.uint64), np.uint64)


def _shifted(words: Tensor, bits: int) -> Tensor:
    """Shifted right with zeros coming in, as of unsigned numbers, which PyTorch has not."""
    return (words >> bits).bitwise_and_((1 << (64 - bits)) - 1)


def _signed(number: int) -> int:
    return number - (1 << 64) if number >> 63 else number
