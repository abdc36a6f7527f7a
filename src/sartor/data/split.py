"""Division of a dataset into train, val and test, made once from a seed."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass

import numpy as np

from ..errors import DataError, RunError
from .dataset import Dataset, Int64Array
from .order import keys

PARTS = ("train", "val", "test")
_VAL_STREAM, _TEST_STREAM = 1, 2


@dataclass(frozen=True, eq=False)
class Split:
    """Indices into a dataset; each int64, ascending, disjoint from the others."""

    train: Int64Array
    val: Int64Array
    test: Int64Array

    def part(self, name: str) -> Int64Array:
        """Indices of "train", "val" or "test"."""
        return {"train": self.train, "val": self.val, "test": self.test}[name]

    def to_bytes(self) -> bytes:
        """The contents of an .npz file."""
        stream = io.BytesIO()
        np.savez(stream, train=self.train, val=self.val, test=self.test)
        return stream.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> Split:
        """The split in an .npz file.

        Raises:
            RunError: the bytes are damaged.
        """
        try:
            # NumPy itself would overlook damage to the length of an array.
            if zipfile.ZipFile(io.BytesIO(content)).testzip():
                raise ValueError("a checksum does not match")
            with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
                return cls(*(arrays[name].astype(np.int64) for name in PARTS))
        except Exception as error:  # zipfile and NumPy leave with a dozen kinds on damaged bytes
            raise RunError(
                "The run's split.npz is damaged.", "Train again from its recipe.toml."
            ) from error


def make_split(dataset: Dataset, *, val_fraction: float, test_fraction: float, seed: int) -> Split:
    """A stratified split: every class is divided in the same proportion.

    The source's own test part is kept where it has one. Otherwise `test_fraction` of the images is
    set aside, the same ones for every seed, so that runs with different seeds can be compared.

    Raises:
        DataError: nothing would be left to train on.
    """
    everything = np.arange(len(dataset), dtype=np.int64)
    if dataset.test is not None:
        test = np.sort(dataset.test)
    else:
        test = _stratified_draw(
            everything, dataset.labels, test_fraction, seed=0, stream=_TEST_STREAM
        )
    rest = np.setdiff1d(everything, test, assume_unique=True)
    val = _stratified_draw(rest, dataset.labels, val_fraction, seed=seed, stream=_VAL_STREAM)
    train = np.setdiff1d(rest, val, assume_unique=True)
    if not len(train):
        raise DataError(
            f"No image is left for training: {len(val)} for validation, {len(test)} for testing.",
            "Lower --val-fraction or --test-fraction, or add images.",
        )
    return Split(train, val, test)


def _stratified_draw(
    indices: Int64Array, labels: Int64Array, fraction: float, *, seed: int, stream: int
) -> Int64Array:
    """The `fraction` of `indices`, of every class alike; at least one a class stays behind."""
    chances = keys(len(labels), seed, stream)
    members = [indices[labels[indices] == label] for label in np.unique(labels[indices])]
    quotas = _quotas([len(member) for member in members], fraction)
    drawn = [
        member[np.argsort(chances[member], kind="stable")[:quota]]
        for member, quota in zip(members, quotas, strict=True)
    ]
    return np.sort(np.concatenate(drawn)) if drawn else indices[:0]


def _quotas(sizes: list[int], fraction: float) -> list[int]:
    """How many to draw from each class so that the total is right too (largest remainders)."""
    exact = [size * fraction for size in sizes]
    quotas = [min(int(share), size - 1) for share, size in zip(exact, sizes, strict=True)]
    missing = round(sum(exact)) - sum(quotas)
    able = [k for k, size in enumerate(sizes) if quotas[k] < size - 1]
    by_remainder = sorted(able, key=lambda k: (int(exact[k]) - exact[k], k))
    for k in by_remainder[: max(missing, 0)]:
        quotas[k] += 1
    return quotas
