"""Numbers without a generator: SplitMix64 in plain Python, and the uniform distribution."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sartor.data.augment.chance import LEVELS, Chance, Draws, chance_for, keys_of, midpoints

from .conftest import CPU, chance_of

MASK = (1 << 64) - 1


def splitmix64(state: int) -> int:
    """Steele, Lea and Flood (2014), the step from a state to its number."""
    mixed = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & MASK
    return mixed ^ (mixed >> 31)


def signed(number: int) -> int:
    return number - (1 << 64) if number >> 63 else number


def words_of(chance: Chance) -> list[list[int]]:
    return [[int(word) & MASK for word in row] for row in chance.words]


@given(
    st.lists(st.integers(0, 2**40), min_size=1, max_size=5),
    st.lists(st.integers(0, MASK), min_size=1, max_size=3),
)
def test_words_are_those_of_splitmix64(indices: list[int], keys: list[int]) -> None:
    chance = chance_for(torch.tensor(indices), torch.tensor([signed(key) for key in keys]), 0)
    assert words_of(chance) == [
        [splitmix64((key + (index + 1) * 0x9E3779B97F4A7C15) & MASK) for index in indices]
        for key in keys
    ]


def test_words_of_the_published_sequence() -> None:
    """The first numbers of a generator seeded with 1234567, as Rosetta Code lists them."""
    chance = chance_for(torch.arange(3), torch.tensor([1234567]), 0)
    assert words_of(chance) == [[6457827717110365317, 3203168211198807973, 9817491932198370423]]


@given(st.integers(0, MASK), st.integers(1, 2**31 - 1))
def test_numbers_are_the_highest_bits(word: int, count: int) -> None:
    chance = Chance(torch.tensor([[signed(word)]]), 0)
    assert chance.unit(0).item() == (word >> 40) / 2**24
    assert chance.whole(0, count).item() == ((word >> 32) * count) >> 32


def test_are_uniform_and_independent() -> None:
    chance = chance_of(20_000, draws=2)
    units = [chance.unit(draw).numpy() for draw in (0, 1)]
    for unit in units:
        assert 0 <= unit.min() <= unit.max() < 1
        assert stats.kstest(unit, "uniform").pvalue > 0.01
    assert stats.chisquare(np.bincount(chance.whole(0, 7))).pvalue > 0.01
    assert abs(np.corrcoef(*units)[0, 1]) < 0.02
    assert abs(np.corrcoef(units[0][1:], units[0][:-1])[0, 1]) < 0.02
    reached = chance.around(0, 3.0)
    assert reached.min() == pytest.approx(-3, abs=0.01)
    assert reached.max() == pytest.approx(3, abs=0.01)


def test_every_seed_epoch_name_and_draw_has_numbers_of_its_own() -> None:
    rows = [
        tuple(words_of(chance_for(torch.arange(2), keys_of(seed, epoch, (draws,), CPU), epoch))[k])
        for seed in (0, 1)
        for epoch in (0, 1)
        for draws in (Draws("flip", 2), Draws("crop", 2))
        for k in (0, 1)
    ]
    assert len(set(rows)) == 16


def test_what_stands_beside_a_name_does_not_matter() -> None:
    alone = keys_of(3, 5, (Draws("crop", 2),), CPU)
    beside = keys_of(3, 5, (Draws("flip", 1), Draws("crop", 2), Draws("erase", 5)), CPU)
    assert torch.equal(beside[1:3], alone)


def test_a_steady_name_has_the_same_numbers_in_every_epoch() -> None:
    draws = (Draws("flip", 1, steady=True), Draws("crop", 1))
    first, later = (keys_of(3, epoch, draws, CPU) for epoch in (0, 7))
    assert first[0] == later[0]
    assert first[1] != later[1]


def test_entries_of_a_table() -> None:
    table = midpoints(-1, 1)
    assert len(table) == LEVELS
    assert table.mean() == pytest.approx(0, abs=1e-12)
    chance = chance_of(50)
    picked = chance.entry(0, torch.stack([table, -table]))
    assert picked.shape == (2, 50)
    assert torch.equal(picked[0], table[chance.whole(0, LEVELS)])
