"""The split: disjoint, complete, stratified, the same for the same seed, whole or refused."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sartor.data.dataset import Dataset
from sartor.data.splits.split import PARTS, Split, make_split
from sartor.errors import DataError, RunError


def dataset_of(sizes: list[int], test: list[int] | None = None) -> Dataset:
    """A dataset whose classes have these sizes, in mixed order."""
    labels = np.repeat(np.arange(len(sizes)), sizes)
    labels = labels[np.random.default_rng(0).permutation(len(labels))]
    return Dataset(
        np.zeros((len(labels), 1, 1), np.uint8),
        labels,
        tuple(f"class {k}" for k in range(len(sizes))),
        test=None if test is None else np.array(test),
    )


def split_of(
    dataset: Dataset,
    val_fraction: float = 0.1,
    test_fraction: float = 0.2,
    seed: int = 0,
    method: str = "drawn",
    **settings: Any,
) -> Split:
    fractions = {"val_fraction": val_fraction, "test_fraction": test_fraction}
    return make_split(dataset, seed=seed, method=method, **fractions, **settings)


def class_counts(dataset: Dataset, indices: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
    return np.bincount(dataset.labels[indices], minlength=len(dataset.classes))


SIZES = st.lists(st.integers(0, 60) | st.sampled_from([0, 1, 1, 2, 3]), min_size=2, max_size=12)
FRACTIONS = st.floats(0, 0.9) | st.sampled_from([0.0, 0.1, 0.29, 1 / 3, 0.5, 0.9])


@settings(deadline=None, max_examples=150)
@given(SIZES, FRACTIONS, FRACTIONS, st.integers(0, 2**32 - 1))
def test_divides_every_class_alike(
    sizes: list[int], val_fraction: float, test_fraction: float, seed: int
) -> None:
    assume(sum(sizes))
    dataset = dataset_of(sizes)
    split = split_of(dataset, val_fraction, test_fraction, seed)
    together = np.concatenate([split.part(name) for name in PARTS])
    assert np.array_equal(np.sort(together), np.arange(len(dataset)))
    for name in PARTS:
        assert split.part(name).dtype == np.int64
        assert (np.diff(split.part(name)) > 0).all()
    rest = np.array(sizes) - class_counts(dataset, split.test)
    check_draw(np.array(sizes), test_fraction, class_counts(dataset, split.test))
    check_draw(rest, val_fraction, class_counts(dataset, split.val))
    # No class vanishes from training.
    assert ((class_counts(dataset, split.train) > 0) == (np.array(sizes) > 0)).all()


def check_draw(sizes: np.ndarray, fraction: float, drawn: np.ndarray) -> None:  # type: ignore[type-arg]
    """Each class within one image of its share, and the total right as far as classes allow."""
    exact = [int(size) * fraction for size in sizes]
    assert all(abs(int(got) - share) <= 1 for got, share in zip(drawn, exact, strict=True))
    spare = np.maximum(sizes - 1, 0)
    most = sum(min(int(share) + 1, int(free)) for share, free in zip(exact, spare, strict=True))
    assert abs(int(drawn.sum()) - min(sum(exact), most)) <= 0.500001


class TestProportions:
    def test_total_is_right_though_each_class_rounds_down(self) -> None:
        split = split_of(dataset_of([14] * 10), 0.1, 0.0)
        assert len(split.val) == 14

    def test_classes_of_one_image_pass_their_share_on(self) -> None:
        dataset = dataset_of([1, 1, 1, 100])
        split = split_of(dataset, 0.5, 0.0)
        assert class_counts(dataset, split.val).tolist() == [0, 0, 0, 51]

    def test_nothing_is_held_out_at_0(self) -> None:
        split = split_of(dataset_of([5, 5]), 0.0, 0.0)
        assert (len(split.train), len(split.val), len(split.test)) == (10, 0, 0)

    def test_the_images_drawn_are_no_block(self) -> None:
        """A draw that took the first of each class would still have the right counts."""
        split = split_of(dataset_of([500, 500]), 0.1, 0.0)
        assert split.val.min() < 100
        assert split.val.max() > 900


class TestSeed:
    def test_decides_validation_alone(self) -> None:
        dataset = dataset_of([40, 30, 20])
        splits = [split_of(dataset, seed=seed) for seed in range(5)]
        assert len({tuple(split.test) for split in splits}) == 1
        assert len({tuple(split.val) for split in splits}) == 5

    def test_the_same_gives_the_same(self) -> None:
        split, again = (split_of(dataset_of([40, 30]), seed=3) for _ in range(2))
        assert all(np.array_equal(split.part(name), again.part(name)) for name in PARTS)

    def test_golden_values(self) -> None:
        dataset = Dataset(np.zeros((30, 1, 1), np.uint8), np.arange(30) % 3)
        split = split_of(dataset, 0.2, 0.2)
        assert split.test.tolist() == [3, 4, 8, 18, 25, 26]
        assert split.val.tolist() == [9, 13, 15, 22, 23]
        assert split_of(dataset, 0.2, 0.2, seed=1).val.tolist() == [6, 7, 10, 20, 27]

    def test_validation_does_not_depend_on_its_share_being_drawn_in_one_go(self) -> None:
        """A larger share holds the smaller one: comparisons stay within the same images."""
        dataset = dataset_of([200, 100])
        small, large = split_of(dataset, 0.1), split_of(dataset, 0.2)
        assert np.isin(small.val, large.val).all()


class TestOwnTestPart:
    def test_is_kept_and_nothing_added(self) -> None:
        dataset = dataset_of([20, 20], test=[39, 3, 5])
        split = split_of(dataset, 0.1, 0.5)
        assert split.test.tolist() == [3, 5, 39]
        assert len(split.val) == 4

    def test_an_empty_one_counts(self) -> None:
        assert len(split_of(dataset_of([20, 20], test=[]), 0.1, 0.5).test) == 0

    def test_that_is_everything_leaves_nothing_to_train(self) -> None:
        with pytest.raises(DataError, match=r"No image is left .* 0 for validation, 4 for testing"):
            split_of(dataset_of([2, 2], test=[0, 1, 2, 3]))

    def test_given_parts_are_kept_exactly(self) -> None:
        dataset = replace(dataset_of([20, 20], test=[39, 3, 5]), val=np.array([30, 1]))
        split = split_of(dataset, 0.5, 0.5)
        assert split.test.tolist() == [3, 5, 39]
        assert split.val.tolist() == [1, 30]
        assert np.array_equal(split.train, np.setdiff1d(np.arange(40), [1, 3, 5, 30, 39]))

    def test_only_validation_given_leaves_testing_to_a_draw(self) -> None:
        dataset = replace(dataset_of([40, 40]), val=np.arange(20))
        splits = [split_of(dataset, 0.5, 0.25, seed=seed) for seed in range(3)]
        assert all(np.array_equal(split.val, np.arange(20)) for split in splits)
        assert len({tuple(split.test) for split in splits}) == 1
        assert len(splits[0].test) == 15
        assert splits[0].test.min() >= 20


class TestGroups:
    def grouped(self, seed: int = 0) -> Dataset:
        """400 images, 3 classes, 40 groups of unequal size."""
        rng = np.random.default_rng(seed)
        groups = rng.choice(40, 400, p=np.arange(1, 41) / 820)
        labels = (groups + rng.integers(0, 2, 400)) % 3
        return Dataset(
            rng.integers(0, 255, (400, 4, 4)).astype(np.uint8),
            labels,
            groups=tuple(f"patient {group}" for group in groups),
        )

    @pytest.mark.parametrize("seed", range(3))
    def test_are_on_one_side_and_shares_hold(self, seed: int) -> None:
        dataset = self.grouped(seed)
        split = split_of(dataset, 0.2, 0.2, seed=seed)
        assert dataset.groups is not None
        sides = [{dataset.groups[index] for index in split.part(name)} for name in PARTS]
        assert not sides[0] & sides[1]
        assert not sides[0] & sides[2]
        assert not sides[1] & sides[2]
        shares = class_counts(dataset, split.test) / np.bincount(dataset.labels)
        assert np.abs(shares - 0.2).max() < 0.03
        assert np.array_equal(split.test, split_of(dataset, 0.2, 0.2, seed=9).test)

    def test_their_names_do_not_matter(self) -> None:
        dataset = self.grouped()
        assert dataset.groups is not None
        renamed = replace(dataset, groups=tuple(name[::-1] for name in dataset.groups))
        split, other = split_of(dataset), split_of(renamed)
        assert all(np.array_equal(split.part(name), other.part(name)) for name in PARTS)

    def test_of_two_one_is_held_out(self) -> None:
        """Half instead of a tenth, for there is nothing smaller."""
        dataset = replace(dataset_of([20, 20], test=[]), groups=("x", "y") * 20)
        split = split_of(dataset, 0.1)
        assert (len(split.val), len(split.train)) == (20, 20)

    def test_one_a_class_cannot_be_held_out(self) -> None:
        dataset = dataset_of([20, 20])
        dataset = replace(dataset, groups=tuple(f"g{label}" for label in dataset.labels))
        with pytest.raises(DataError, match="No group can be held out for --test-fraction") as c:
            split_of(dataset)
        assert "--test-fraction 0" in c.value.hint
        with pytest.raises(DataError, match="No group can be held out for --val-fraction"):
            split_of(dataset, test_fraction=0)
        assert len(split_of(dataset, 0, 0).train) == 40


class TestDuplicates:
    def pictures(self) -> Dataset:
        """120 pictures of which every third comes three times, once under another label."""
        values = np.arange(120)
        values[40:80] = values[:40]
        values[80:] = np.where(np.arange(40) % 2, values[:40], values[80:])
        rng = np.random.default_rng(0)
        images = rng.integers(0, 255, (120, 5, 5)).astype(np.uint8)[values]
        names = tuple(f"{index}.png" for index in range(120))
        return Dataset(images, rng.integers(0, 3, 120), files=names)

    def test_of_pictures_are_on_one_side(self) -> None:
        dataset = self.pictures()
        for seed in range(3):
            split = split_of(dataset, 0.2, 0.2, seed=seed)
            sides = [{dataset.images[index].tobytes() for index in split.part(p)} for p in PARTS]
            assert sum(map(len, sides)) == len(set().union(*sides))
            assert len(split.test) == pytest.approx(24, abs=2)

    def test_of_arrays_are_ignored_unless_asked_for(self) -> None:
        arrays = replace(self.pictures(), files=None)
        assert np.array_equal(
            split_of(arrays).test, split_of(replace(self.pictures()), duplicates="ignored").test
        )
        assert np.array_equal(
            split_of(arrays, duplicates="together").test, split_of(self.pictures()).test
        )

    def test_pictures_without_any_are_divided_like_arrays(self) -> None:
        images = np.random.default_rng(0).integers(0, 255, (90, 5, 5)).astype(np.uint8)
        arrays = Dataset(images, np.arange(90) % 3)
        pictures = replace(arrays, files=tuple(map(str, range(90))))
        split, other = split_of(arrays), split_of(pictures)
        assert all(np.array_equal(split.part(name), other.part(name)) for name in PARTS)

    def test_that_are_all_of_a_class_cannot_be_held_out(self) -> None:
        pictures = replace(dataset_of([9, 9]), files=tuple(map(str, range(18))))
        with pytest.raises(DataError, match="No set of equal pictures can be held out"):
            split_of(pictures)


class TestLimit:
    def test_leaves_validation_and_testing_whole(self) -> None:
        dataset = dataset_of([60, 30, 5])
        whole, small = split_of(dataset), split_of(dataset, limit_per_class=10)
        assert np.array_equal(whole.val, small.val)
        assert np.array_equal(whole.test, small.test)
        assert class_counts(dataset, small.train).tolist() == [10, 10, 4]
        assert np.isin(small.train, whole.train).all()


class TestFingerprint:
    def test_differs_with_every_part_and_with_the_data(self) -> None:
        a, b, c = np.arange(5), np.arange(5, 8), np.arange(8, 9)
        splits = [Split(a, b, c), Split(a, c, b), Split(np.arange(4), b, c)]
        hashes = {split.sha256(data) for split in splits for data in ("x", "y")}
        assert len(hashes) == 6
        assert Split(a, b, c).sha256("x") == Split(a + 0, b + 0, c + 0).sha256("x")


class TestFile:
    SPLIT = Split(np.arange(0, 50), np.arange(50, 60), np.arange(60, 80))

    def equals(self, other: Split) -> bool:
        return all(np.array_equal(self.SPLIT.part(name), other.part(name)) for name in PARTS)

    def test_round_trip(self) -> None:
        again = Split.from_bytes(self.SPLIT.to_bytes())
        assert self.equals(again)
        assert again.train.dtype == np.int64

    def test_equal_splits_give_equal_files(self) -> None:
        assert self.SPLIT.to_bytes() == Split.from_bytes(self.SPLIT.to_bytes()).to_bytes()

    def test_damage_is_found_or_changes_nothing(self) -> None:
        """A flip in a date of the archive changes no index; any other must be refused."""
        content = self.SPLIT.to_bytes()
        refused = 0
        for place in range(len(content)):
            damaged = bytearray(content)
            damaged[place] ^= 1 << place % 8
            try:
                assert self.equals(Split.from_bytes(bytes(damaged)))
            except RunError:
                refused += 1
        assert refused > len(content) / 2

    def test_every_truncation_is_refused(self) -> None:
        content = self.SPLIT.to_bytes()
        for length in range(len(content)):
            with pytest.raises(RunError, match=r"split\.npz is damaged"):
                Split.from_bytes(content[:length])

    def test_another_file_of_numpy_is_refused(self) -> None:
        stream = io.BytesIO()
        np.save(stream, np.arange(3))
        with pytest.raises(RunError, match="damaged"):
            Split.from_bytes(stream.getvalue())
