"""Division of a dataset into train, val and test, made once from a seed."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...arrays import Int64Array
from ...errors import DataError, RunError
from ...files import whole_arrays
from ..dataset import Dataset
from ..roster import Roster
from .draw import limited
from .duplicates import contents_of
from .held_out import LIMIT_STREAM, Chance, held_out
from .stable import unit_identities
from .units import units_of

PARTS = ("train", "val", "test")


@dataclass(frozen=True, eq=False)
class Split:
    """Indices into a dataset; each int64, ascending, disjoint from the others."""

    train: Int64Array
    val: Int64Array
    test: Int64Array
    left_out: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Names of the images of "val" and "test" that can be read and were left out of the dataset."""

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

    def refuse_overlap(self) -> None:
        """Raise where it cannot be a split of any dataset.

        Raises:
            ValueError: its parts are not lists of ascending indices, or share one.
        """
        for name in PARTS:
            part = self.part(name)
            if part.ndim != 1 or (len(part) and part[0] < 0) or not (np.diff(part) > 0).all():
                raise ValueError(f"{name} is not a list of ascending indices")
        together = np.sort(np.concatenate([self.part(name) for name in PARTS]))
        if (together[1:] == together[:-1]).any():
            raise ValueError("an image is in two parts")

    def to_bytes(self) -> bytes:
        """The contents of an .npz file."""
        stream = io.BytesIO()
        arrays: dict[str, Any] = {name: self.part(name) for name in PARTS}
        for part, names in self.left_out.items():
            arrays[f"{part}_left_out"] = np.frombuffer(json.dumps(names).encode(), np.uint8)
        np.savez(stream, **arrays)
        return stream.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> Split:
        """The split in an .npz file.

        Raises:
            RunError: the bytes are damaged.
        """
        try:
            # NumPy itself would overlook damage to the length of an array.
            whole_arrays(io.BytesIO(content))
            with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
                left_out = {
                    part: tuple(map(str, json.loads(arrays[f"{part}_left_out"].tobytes())))
                    for part in PARTS
                    if f"{part}_left_out" in arrays
                }
                train, val, test = (arrays[name].astype(np.int64) for name in PARTS)
            found = cls(train, val, test, left_out)
            found.refuse_overlap()
            return found
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
    method: str = "auto",
    duplicates: str = "auto",
    limit_per_class: int | None = None,
) -> Split:
    """A stratified split: every class is divided in the same proportion.

    What the source sets aside itself is kept exactly; the rest is drawn from its other images, for
    testing the same ones for every seed, so that runs with different seeds can be compared. Images
    of one group, and with `duplicates` "together" equal ones, are never divided by a draw; the
    shares are then those that come nearest. A limit leaves out only training images, the same
    ones whatever it is drawn for: figures on validation and testing stay comparable.

    It is drawn from all that the source holds, with the labels that it gives, and only then are
    images left out: so neither exclusions nor corrected labels move another image.

    Args:
        method: "stable" (see `stable`), "drawn" (see `draw`) or "auto", see `chosen_method`.

    Raises:
        DataError: nothing would be left to train on, or no group can be held out.
    """
    roster = dataset.everything()
    chance = _chance_of(dataset, roster, method, duplicates)
    test, val = held_out(roster, chance, (test_fraction, val_fraction), seed)
    rest = np.setdiff1d(roster.kept, np.concatenate([test, val]), assume_unique=True)
    if not len(rest):
        raise DataError(
            f"No image is left for training: {len(val)} for validation, {len(test)} for testing.",
            "Lower --val-fraction or --test-fraction, or add images.",
        )
    train = np.searchsorted(roster.kept, rest)
    if limit_per_class is not None:
        order = chance.of_each(0, LIMIT_STREAM)[roster.kept]
        train = limited(train, dataset.labels, limit_per_class, order)
    kept_val, kept_test = map(roster.rows, (val, test))
    left_out = {
        name: tuple(roster.names[index] for index in part[~np.isin(part, roster.kept)])
        for name, part in (("val", val), ("test", test))
    }
    return Split(train, kept_val, kept_test, {k: names for k, names in left_out.items() if names})


def chosen_duplicates(wish: str, dataset: Dataset) -> str:
    """For "auto": together where the images come from picture files, else ignored.

    The named sets and arrays have published splits and figures to be held against, which a rule for
    43 pairs among the 60,000 training images of Fashion-MNIST would change. What somebody collected
    in folders has copies more often, and nothing to be held against.
    """
    if wish != "auto":
        return wish
    return "together" if dataset.everything().from_files else "ignored"


def chosen_method(wish: str, dataset: Dataset) -> str:
    """For "auto": drawn for the named sets, with whose figures others are compared; else stable."""
    if wish != "auto":
        return wish
    return "drawn" if dataset.published else "stable"


def _chance_of(dataset: Dataset, roster: Roster, method: str, duplicates: str) -> Chance:
    together = chosen_duplicates(duplicates, dataset) == "together"
    units = units_of(roster, duplicates_together=together)
    identities = None
    if chosen_method(method, dataset) == "stable":
        contents = roster.identities
        if contents is None:
            contents = contents_of(roster.images)
        identities = unit_identities(contents, roster.groups, units)
    return Chance(
        labels=roster.labels,
        units=units,
        grouped=roster.groups is not None,
        identities=identities,
    )
