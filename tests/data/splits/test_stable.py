"""Held out by what an image is: others that come, go or change do not move it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sartor.data.dataset import Dataset
from sartor.data.pictures.exclude import changed
from sartor.data.roster import Changes, NewLabel
from sartor.data.splits.split import PARTS, Split, make_split
from sartor.errors import DataError

SIZES = st.lists(st.integers(0, 80) | st.sampled_from([1, 2, 3, 4, 300]), min_size=2, max_size=6)
FRACTIONS = st.sampled_from([0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.9])
GROUPS = ("", "anna", "ben", "carl", "dora", "eva", "finn")


def dataset_of(sizes: list[int], seed: int = 0) -> Dataset:
    """Classes of these sizes in mixed order; images that differ."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    images = rng.integers(0, 255, (len(labels), 4, 4)).astype(np.uint8)
    return Dataset(images, labels, tuple(f"class {k}" for k in range(len(sizes))))


def split_of(dataset: Dataset, val: float = 0.1, test: float = 0.2, seed: int = 0) -> Split:
    return make_split(dataset, val_fraction=val, test_fraction=test, seed=seed)


def part_of(dataset: Dataset, split: Split) -> dict[bytes, str]:
    """The part of each image, by its pixels."""
    return {dataset.images[index].tobytes(): name for name in PARTS for index in split.part(name)}


def counts(dataset: Dataset, indices: npt.NDArray[np.int64]) -> list[int]:
    found: list[int] = np.bincount(dataset.labels[indices], minlength=len(dataset.classes)).tolist()
    return found


def picked(dataset: Dataset, rows: npt.NDArray[np.int64]) -> Dataset:
    """As if only these images had ever been there, in this order."""
    groups = dataset.groups and tuple(dataset.groups[row] for row in rows)
    return replace(dataset, images=dataset.images[rows], labels=dataset.labels[rows], groups=groups)


class TestShares:
    @settings(deadline=None, max_examples=150)
    @given(SIZES, FRACTIONS, FRACTIONS, st.integers(0, 99))
    def test_are_near_what_is_asked_in_every_class(
        self, sizes: list[int], val: float, test: float, seed: int
    ) -> None:
        sizes[0] += 1
        dataset = dataset_of(sizes)
        split = split_of(dataset, val, test, seed)
        together = np.concatenate([split.part(name) for name in PARTS])
        assert np.array_equal(np.sort(together), np.arange(len(dataset)))
        train, of_val, of_test = (counts(dataset, split.part(name)) for name in PARTS)
        for k, size in enumerate(sizes):
            assert train[k] or not size, "no class vanishes from training"
            self.check(size, test, of_test[k])
            self.check(size - of_test[k], val, of_val[k])

    def check(self, size: int, fraction: float, held: int) -> None:
        share = size * fraction
        # One image is kept back for validation, where nearly all are asked for.
        kept_back = fraction > 0.5
        assert abs(held - share) <= max(1, min(share, size - share) / 2) + kept_back

    def test_small_classes_have_exact_parts(self) -> None:
        dataset = dataset_of([10, 15, 5])
        assert counts(dataset, split_of(dataset).test) == [2, 3, 1]

    @pytest.mark.parametrize("size", [1, 2, 3])
    def test_of_the_smallest_classes_some_image_stays(self, size: int) -> None:
        dataset = dataset_of([size, size, 40])
        split = split_of(dataset)
        assert min(counts(dataset, split.train)) > 0
        if size == 3:
            assert counts(dataset, split.test)[:2] == [1, 1]

    def test_many_tiny_classes_together_have_the_share(self) -> None:
        dataset = dataset_of([2] * 200)
        held = counts(dataset, split_of(dataset).test)
        assert max(held) == 1
        assert 40 < sum(held) < 120

    def test_some_image_is_held_out_where_the_share_is_one(self) -> None:
        dataset = dataset_of([5, 5])
        assert all(len(split_of(dataset, seed=seed).val) == 1 for seed in range(20))

    def test_the_share_is_right_over_many_images(self) -> None:
        dataset = dataset_of([3000, 2000])
        split = split_of(dataset)
        # Six standard deviations of a binomial.
        assert abs(len(split.test) - 1000) < 6 * np.sqrt(5000 * 0.2 * 0.8)


class TestOthers:
    @settings(deadline=None, max_examples=100)
    @given(SIZES, st.data())
    def test_excluding_and_relabelling_moves_no_image(
        self, sizes: list[int], data: st.DataObject
    ) -> None:
        sizes[0] += 3
        dataset = dataset_of(sizes)
        before = part_of(dataset, split_of(dataset))
        rows = st.integers(0, len(dataset) - 1)
        out = data.draw(st.sets(rows, max_size=len(dataset) // 3))
        new = data.draw(st.dictionaries(rows, st.integers(0, len(sizes) - 1)))
        fixes = Changes(labels={row: NewLabel(label, "") for row, label in new.items()})
        fewer = changed(dataset, dict.fromkeys(out, ""), fixes)
        after = part_of(fewer, split_of(fewer))
        assert after == {pixels: before[pixels] for pixels in after}
        assert len(after) == len(dataset) - len(out)

    @settings(deadline=None, max_examples=100)
    @given(SIZES, st.integers(0, 10_000), st.integers(0, 5))
    def test_one_more_or_less_moves_at_most_two_a_part(
        self, sizes: list[int], row: int, seed: int
    ) -> None:
        sizes[0] += 3
        dataset = dataset_of(sizes, seed)
        row %= len(dataset)
        before = part_of(dataset, split_of(dataset))
        fewer = picked(dataset, np.delete(np.arange(len(dataset)), row))
        after = part_of(fewer, split_of(fewer))
        moved = [pixels for pixels in after if after[pixels] != before[pixels]]
        for part in ("val", "test"):
            assert sum(part in (after[one], before[one]) for one in moved) <= 4

    def test_large_classes_are_never_moved(self) -> None:
        dataset = dataset_of([400, 300])
        before = part_of(dataset, split_of(dataset))
        rng = np.random.default_rng(1)
        for _ in range(20):
            some = picked(dataset, rng.permutation(700)[: rng.integers(500, 700)])
            after = part_of(some, split_of(some))
            assert after == {pixels: before[pixels] for pixels in after}

    def test_a_label_that_is_changed_at_the_source_moves_no_other(self) -> None:
        dataset = dataset_of([400, 300])
        labels = dataset.labels.copy()
        labels[:20] = 1 - labels[:20]
        other = replace(dataset, labels=labels)
        assert part_of(dataset, split_of(dataset)) == part_of(other, split_of(other))

    def test_the_order_does_not_matter(self) -> None:
        dataset = dataset_of([30, 20, 7])
        turned = picked(dataset, np.arange(57)[::-1])
        assert part_of(dataset, split_of(dataset)) == part_of(turned, split_of(turned))

    def test_the_test_part_does_not_depend_on_the_seed(self) -> None:
        dataset = dataset_of([40, 30])
        splits = [split_of(dataset, seed=seed) for seed in range(5)]
        assert len({tuple(split.test) for split in splits}) == 1
        assert len({tuple(split.val) for split in splits}) == 5

    def test_what_is_left_out_is_known_by_part(self) -> None:
        dataset = dataset_of([30, 30])
        test = split_of(dataset).test
        fewer = changed(dataset, {int(test[0]): "blurred"}, Changes())
        split = split_of(fewer)
        assert split.left_out == {"test": (str(test[0]),)}
        assert Split.from_bytes(split.to_bytes()).left_out == split.left_out


class TestUnits:
    def grouped(self, groups: int = 30, seed: int = 0) -> Dataset:
        rng = np.random.default_rng(seed)
        dataset = dataset_of([150, 120], seed)
        names = rng.integers(0, groups, len(dataset))
        return replace(dataset, groups=tuple(f"patient {name}" for name in names))

    def test_of_equal_content_have_one_number_each_where_not_together(self) -> None:
        images = np.zeros((100, 3, 3), np.uint8)
        split = split_of(Dataset(images, np.arange(100) % 2))
        assert counts(Dataset(images, np.arange(100) % 2), split.test) == pytest.approx(
            [10, 10], abs=4
        )

    def test_groups_are_whole(self) -> None:
        dataset = self.grouped()
        assert dataset.groups is not None
        split = split_of(dataset)
        sides = [{dataset.groups[index] for index in split.part(name)} for name in PARTS]
        assert sum(map(len, sides)) == len(set().union(*sides))
        assert all(sides)

    def test_a_group_stays_where_it_is_when_others_come_and_go(self) -> None:
        dataset = self.grouped()
        assert dataset.groups is not None
        before = part_of(dataset, split_of(dataset))
        moved = 0
        for name in set(dataset.groups):
            rows = np.flatnonzero([group != name for group in dataset.groups])
            fewer = picked(dataset, rows)
            after = part_of(fewer, split_of(fewer))
            moved += after != {pixels: before[pixels] for pixels in after}
        assert moved <= 6, "of 30: only where the shares demand it"

    @settings(deadline=None, max_examples=100)
    @given(
        st.lists(st.tuples(st.integers(0, 2), st.sampled_from(GROUPS)), min_size=3, max_size=60),
        st.data(),
    )
    def test_excluding_moves_no_other(
        self, rows: list[tuple[int, str]], data: st.DataObject
    ) -> None:
        rng = np.random.default_rng(0)
        images = rng.integers(0, 3, (len(rows), 1, 2)).astype(np.uint8)
        dataset = Dataset(
            images,
            np.array([label for label, _ in rows]),
            ("a", "b", "c"),
            groups=tuple(group for _, group in rows),
            files=tuple(f"{number}.png" for number in range(len(rows))),
        )
        try:
            split = split_of(dataset)
        except DataError:
            return
        out = data.draw(st.sets(st.integers(0, len(rows) - 1), max_size=len(rows) // 2))
        fewer = changed(dataset, dict.fromkeys(out, ""), Changes())
        kept = np.setdiff1d(np.arange(len(rows)), list(out))
        if not np.isin(kept, split.train).any():
            return
        again = split_of(fewer)
        for name in PARTS:
            assert np.array_equal(kept[again.part(name)], np.intersect1d(split.part(name), kept))


class TestFewUnits:
    """Where a split exists, one is found."""

    @settings(deadline=None, max_examples=300)
    @given(
        st.lists(
            st.lists(st.integers(0, 6), min_size=3, max_size=3).filter(any),
            min_size=2,
            max_size=7,
        ),
        st.sampled_from(["stable", "drawn"]),
    )
    def test_held_against_trying_all_pairs(self, groups: list[list[int]], method: str) -> None:
        labels, names = [], []
        for number, sizes in enumerate(groups):
            for label, size in enumerate(sizes):
                labels += [label] * size
                names += [f"g{number}"] * size
        dataset = replace(
            Dataset(np.zeros((len(labels), 2, 2), np.uint8), np.array(labels), ("a", "b", "c")),
            groups=tuple(names),
        )
        table = np.array(groups)
        total = table.sum(axis=0)
        exists = any(
            ((total - table[i] - table[j] > 0) | (total == 0)).all()
            for i in range(len(groups))
            for j in range(len(groups))
            if i != j
        )
        asked = {"val_fraction": 0.3, "test_fraction": 0.3, "seed": 0, "method": method}
        if not exists:
            with suppress(DataError):
                split = make_split(dataset, **asked)  # type: ignore[arg-type]
                assert not (len(split.val) and len(split.test))
            return
        split = make_split(dataset, **asked)  # type: ignore[arg-type]
        together = np.concatenate([split.part(name) for name in PARTS])
        assert np.array_equal(np.sort(together), np.arange(len(labels)))
        assert set(dataset.labels) == set(dataset.labels[split.train])
        for name in ("val", "test"):
            held = {names[index] for index in split.part(name)}
            assert not held & {names[index] for index in split.train}

    @pytest.mark.parametrize("method", ["stable", "drawn"])
    @pytest.mark.parametrize("size", [1, 2, 5, 9, 40])
    def test_three_groups_a_class(self, size: int, method: str) -> None:
        labels = np.repeat([0, 1, 2], 3 * size)
        dataset = replace(
            Dataset(np.zeros((len(labels), 2, 2), np.uint8), labels),
            groups=tuple(f"g{index // size}" for index in range(len(labels))),
        )
        split = make_split(dataset, val_fraction=0.1, test_fraction=0.2, seed=0, method=method)
        assert len(split.test)
        assert set(labels[split.train]) == {0, 1, 2}
        assert len(split.val) or 0.1 * len(labels) < 1

    def test_two_cannot_be_held_out(self) -> None:
        """Each alone could be: the hint says that one has to be given up."""
        groups = tuple("xy" * 10)
        dataset = replace(dataset_of([10, 10]), groups=groups)
        with pytest.raises(DataError, match="No two groups can be held out") as raised:
            split_of(dataset)
        assert "--val-fraction 0 or --test-fraction 0" in raised.value.hint
        assert len(split_of(dataset, 0, 0.2).test)
        assert len(split_of(dataset, 0.1, 0).val)

    def test_hints_are_true(self) -> None:
        dataset = dataset_of([20, 20])
        dataset = replace(dataset, groups=tuple(f"g{label}" for label in dataset.labels))
        with pytest.raises(DataError, match="No group can be held out") as raised:
            split_of(dataset)
        assert "--test-fraction 0 --val-fraction 0" in raised.value.hint
        assert len(split_of(dataset, 0, 0).train) == 40
