"""Drawing: whole units, shares as near as scikit-learn's, and no change where nothing is tied."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedGroupKFold

from sartor.arrays import Int64Array
from sartor.data.splits.draw import draw, limited
from sartor.randomness import keys

UNITS = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 30)), min_size=2, max_size=80
)  # class and group


def arrays(pairs: list[tuple[int, int]]) -> tuple[Int64Array, Int64Array]:
    labels, groups = np.array(pairs, dtype=np.int64).T
    _, first, number = np.unique(groups, return_index=True, return_inverse=True)
    return labels, first[number]


@settings(deadline=None)
@given(UNITS, st.floats(0, 0.9), st.integers(0, 9))
def test_units_stay_whole_and_no_class_vanishes(
    pairs: list[tuple[int, int]], fraction: float, seed: int
) -> None:
    labels, units = arrays(pairs)
    everything = np.arange(len(labels))
    held = draw(everything, labels, fraction, seed=seed, stream=1, units=units)
    rest = np.setdiff1d(everything, held)
    assert (np.diff(held) > 0).all()
    assert not set(units[held]) & set(units[rest])
    assert set(labels[rest]) == set(labels)
    if fraction == 0:
        assert len(held) == 0


@settings(deadline=None)
@given(UNITS, st.floats(0, 0.9))
def test_units_of_one_image_change_nothing(pairs: list[tuple[int, int]], fraction: float) -> None:
    labels, _ = arrays(pairs)
    everything = np.arange(len(labels))
    plain = draw(everything, labels, fraction, seed=3, stream=1)
    alone = draw(everything, labels, fraction, seed=3, stream=1, units=everything)
    assert np.array_equal(plain, alone)


def test_a_few_ties_leave_the_shares_exact() -> None:
    """Images that stand alone make up for units of two; the units are drawn at the same rate."""
    labels = np.arange(2000) % 10
    units = np.arange(2000)
    units[1000:1400] = units[600:1000]  # 400 pairs of the same class
    shares = []
    for seed in range(5):
        held = draw(np.arange(2000), labels, 0.1, seed=seed, stream=1, units=units)
        assert np.bincount(labels[held]).tolist() == [20] * 10
        shares.append(np.isin(held, np.arange(600, 1400)).mean())
    assert np.mean(shares) == pytest.approx(0.4, abs=0.02)


def distance(labels: Int64Array, held: Int64Array, fraction: float) -> float:
    """Mean deviation of the classes' shares and of that of all, from what was asked for."""
    shares = np.bincount(labels[held], minlength=labels.max() + 1) / np.bincount(labels)
    return float(np.abs(shares - fraction).mean() + abs(len(held) / len(labels) - fraction))


@pytest.mark.parametrize(
    ("num_groups", "num_classes", "count"), [(12, 3, 400), (30, 5, 600), (400, 10, 2000)]
)
def test_as_near_to_the_shares_as_scikit_learn(
    num_groups: int, num_classes: int, count: int
) -> None:
    rng = np.random.default_rng(0)
    ours, theirs = [], []
    for seed in range(5):
        weights = rng.exponential(1, num_groups)
        groups = rng.choice(num_groups, count, p=weights / weights.sum())
        taste = rng.dirichlet(np.ones(num_classes), num_groups)
        labels = np.array([rng.choice(num_classes, p=taste[group]) for group in groups])
        _, first, number = np.unique(groups, return_index=True, return_inverse=True)
        held = draw(np.arange(count), labels, 0.2, seed=seed, stream=1, units=first[number])
        ours.append(distance(labels, held, 0.2))
        folds = StratifiedGroupKFold(5, shuffle=True, random_state=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of classes smaller than the number of folds
            _, fold = next(folds.split(labels, labels, groups))
        theirs.append(distance(labels, fold, 0.2))
    assert np.mean(ours) <= np.mean(theirs) + 0.005
    assert np.mean(ours) < 0.15


def test_seeds_draw_different_units() -> None:
    labels = np.arange(600) % 3
    units = np.arange(600) // 12 * 12
    drawn = {
        tuple(draw(np.arange(600), labels, 0.2, seed=seed, stream=1, units=units))
        for seed in range(5)
    }
    assert len(drawn) == 5


class TestLimit:
    def test_takes_at_most_so_many_a_class(self) -> None:
        labels = np.repeat([0, 1, 2], [50, 3, 20])
        kept = limited(np.arange(73), labels, 10, keys(73, 0, 3))
        assert np.bincount(labels[kept]).tolist() == [10, 3, 10]
        assert (np.diff(kept) > 0).all()
        assert kept.max() - kept.min() > 23, "no block"

    def test_a_smaller_one_keeps_a_part(self) -> None:
        labels = np.arange(300) % 4
        small, large = (limited(np.arange(300), labels, n, keys(300, 0, 3)) for n in (5, 17))
        assert np.isin(small, large).all()

    def test_other_images_missing_change_few(self) -> None:
        """What validation takes away under another seed is replaced, nothing else."""
        labels = np.zeros(100, np.int64)
        whole = limited(np.arange(100), labels, 20, keys(100, 0, 3))
        without = np.setdiff1d(np.arange(100), whole[:5])
        assert np.isin(whole[5:], limited(without, labels, 20, keys(100, 0, 3))).all()
