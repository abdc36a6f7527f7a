"""Division of a dataset into train, val and test, made once from a seed."""

from __future__ import annotations

import hashlib
import io
import zipfile
from dataclasses import dataclass

import numpy as np

from ...arrays import Int64Array
from ...errors import DataError, RunError
from ..dataset import Dataset
from .draw import draw, limited
from .units import units_of

PARTS = ("train", "val", "test")
_VAL_STREAM, _TEST_STREAM, _LIMIT_STREAM = 1, 2, 3


@dataclass(frozen=True, eq=False)
class Split:
    """Indices into a dataset; each int64, ascending, disjoint from the others."""

    train: Int64Array
    val: Int64Array
    test: Int64Array

    def part(self, name: str) -> Int64Array:
        """Indices of "train", "val" or "test"."""
        return {"train": self.train, "val": self.val, "test": self.test}[name]

    def sha256(self, dataset_fingerprint: str) -> str:
        """SHA-256 over the dataset's fingerprint and the indices of each part."""
        digest = hashlib.sha256(dataset_fingerprint.encode())
        for name in PARTS:
            indices = self.part(name)
            digest.update(f"{name}{len(indices)}".encode() + indices.tobytes())
        return digest.hexdigest()

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


def make_split(
    dataset: Dataset,
    *,
    val_fraction: float,
    test_fraction: float,
    seed: int,
    duplicates: str = "auto",
    limit_per_class: int | None = None,
) -> Split:
    """A stratified split: every class is divided in the same proportion.

    What the source sets aside itself is kept exactly; the rest is drawn from its other images, for
    testing the same ones for every seed, so that runs with different seeds can be compared. Images
    of one group, and with `duplicates` "together" equal ones, are never divided by a draw; the
    shares are then those that come nearest. A limit leaves out only training images, the same
    ones whatever it is drawn for: figures on validation and testing stay comparable.

    Raises:
        DataError: nothing would be left to train on, or no group can be held out.
    """
    together = chosen_duplicates(duplicates, dataset) == "together"
    units = units_of(dataset, duplicates_together=together)
    everything = np.arange(len(dataset), dtype=np.int64)
    given = [part for part in (dataset.val, dataset.test) if part is not None]
    rest = np.setdiff1d(everything, np.concatenate(given)) if given else everything
    test = dataset.test
    if test is None:
        test = _held_out(rest, dataset, units, test_fraction, "test", seed=0, stream=_TEST_STREAM)
        rest = np.setdiff1d(rest, test, assume_unique=True)
    val = dataset.val
    if val is None:
        val = _held_out(rest, dataset, units, val_fraction, "val", seed=seed, stream=_VAL_STREAM)
        rest = np.setdiff1d(rest, val, assume_unique=True)
    if not len(rest):
        raise DataError(
            f"No image is left for training: {len(val)} for validation, {len(test)} for testing.",
            "Lower --val-fraction or --test-fraction, or add images.",
        )
    if limit_per_class is not None:
        rest = limited(rest, dataset.labels, limit_per_class, stream=_LIMIT_STREAM)
    return Split(rest, np.sort(val), np.sort(test))


def chosen_duplicates(wish: str, dataset: Dataset) -> str:
    """For "auto": together where the images come from picture files, else ignored.

    The named sets and arrays have published splits and figures to be held against, which a rule for
    43 pairs among the 60,000 training images of Fashion-MNIST would change. What somebody collected
    in folders has copies more often, and nothing to be held against.
    """
    if wish != "auto":
        return wish
    return "ignored" if dataset.files is None else "together"


def _held_out(
    indices: Int64Array,
    dataset: Dataset,
    units: Int64Array | None,
    fraction: float,
    part: str,
    *,
    seed: int,
    stream: int,
) -> Int64Array:
    """What is drawn of `indices`; an error where units alone stand in the way of drawing any."""
    drawn = draw(indices, dataset.labels, fraction, seed=seed, stream=stream, units=units)
    if len(drawn) or units is None:
        return drawn
    if len(draw(indices, dataset.labels, fraction, seed=seed, stream=stream)):
        what = "group" if dataset.groups is not None else "set of equal pictures"
        raise DataError(
            f"No {what} can be held out for --{part}-fraction: each has all that is left of some "
            "class.",
            f"Give each class more than one {what}, or set --{part}-fraction 0.",
        )
    return drawn
