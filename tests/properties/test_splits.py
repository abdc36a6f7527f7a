"""Splits are disjoint, complete and stratified, whatever the classes and groups are like."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sartor.data.dataset import Dataset
from sartor.data.splits.split import PARTS, Split, make_split
from sartor.errors import DataError

SIZES = st.lists(st.integers(0, 40) | st.sampled_from([0, 1, 1, 2, 3, 300]), min_size=1, max_size=8)
FRACTIONS = st.floats(0, 0.9) | st.sampled_from([0.0, 0.1, 1 / 3, 0.5, 0.9])


def images_of(sizes: list[int], groups: int | None, chance: np.random.Generator) -> Dataset:
    """Classes of these sizes in mixed order; each image unlike the others, in groups or not."""
    labels = chance.permutation(np.repeat(np.arange(len(sizes)), sizes))
    count = len(labels)
    images = np.frombuffer(np.arange(count, dtype=">u8").tobytes(), np.uint8).reshape(count, 1, 8)
    return Dataset(
        images[..., None].reshape(count, 1, 2, 4),
        labels,
        tuple(f"class {number}" for number in range(max(2, len(sizes)))),
        groups=None if groups is None else tuple(map(str, chance.integers(0, groups, count))),
    )


@settings(max_examples=80)
@given(
    SIZES,
    FRACTIONS,
    FRACTIONS,
    st.integers(0, 2**32 - 1),
    st.sampled_from(["stable", "drawn"]),
    st.none() | st.integers(2, 60),
)
def test_parts_are_disjoint_complete_and_stratified(
    sizes: list[int], val: float, test: float, seed: int, method: str, groups: int | None
) -> None:
    assume(sum(sizes))
    dataset = images_of(sizes, groups, np.random.default_rng(seed))

    def split() -> Split:
        return make_split(dataset, val_fraction=val, test_fraction=test, seed=seed, method=method)

    try:
        found = split()
    except DataError as error:
        # Units that cannot be divided, or nothing left to train on.
        refused = error
        assert refused.hint
        return
    parts = [found.part(name) for name in PARTS]
    found.refuse_overlap()
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(len(dataset)))
    again = split()
    assert all(np.array_equal(again.part(name), found.part(name)) for name in PARTS)
    assert len(found.train)
    if dataset.groups is not None:
        train, val_, test_ = ({dataset.groups[index] for index in part} for part in parts)
        assert train.isdisjoint(val_ | test_)
        assert val_.isdisjoint(test_)
    else:
        check_shares(dataset, found, val, test, exact=method == "drawn")
    assert Split.from_bytes(found.to_bytes()).sha256("x") == found.sha256("x")


def check_shares(dataset: Dataset, split: Split, val: float, test: float, *, exact: bool) -> None:
    """Of each class the share that was asked for: to an image where it is drawn, else as chance
    has it."""

    def counts(part: Any) -> Any:
        return np.bincount(dataset.labels[part], minlength=len(dataset.classes))

    every = np.bincount(dataset.labels, minlength=len(dataset.classes))
    rest = every - counts(split.test)
    for part, of, share in ((split.test, every, test), (split.val, rest, val)):
        away = np.abs(counts(part) - of * share)
        # Six standard deviations of a binomial, and an image for rounding.
        most = 1 if exact else 1.5 + 6 * np.sqrt(of * share * (1 - share))
        assert (away <= most + 1e-9).all(), (counts(part), of * share)
    # No class that there is vanishes from training.
    assert ((counts(split.train) > 0) == (every > 0)).all()
