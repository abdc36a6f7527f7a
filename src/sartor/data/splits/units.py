"""What must stay on one side of a split: images of one group, and equal images."""

from __future__ import annotations

import numpy as np

from ...arrays import Int64Array
from ..dataset import Dataset
from ..roster import Roster
from .duplicates import first_equals, first_equals_by


def units_of(dataset: Dataset | Roster, *, duplicates_together: bool) -> Int64Array | None:
    """For each image the number of its unit, int64 (N,); None where every image stands alone.

    Units are numbered by their first image, so names of groups decide nothing. A group without a
    name ("") is none: its images stand alone. So does an image that cannot be read.
    """
    ties = []
    if dataset.groups is not None:
        ties.append(_first_of_group(dataset.groups))
    if duplicates_together:
        hashes = dataset.pixel_hashes if isinstance(dataset, Roster) else None
        firsts = first_equals(dataset.images) if hashes is None else first_equals_by(hashes)
        if isinstance(dataset, Roster) and len(dataset.usable) < len(dataset):
            firsts = _of_usable(firsts, dataset.usable)
        ties.append(firsts)
    if not ties:
        return None
    return ties[0] if len(ties) == 1 else _joined(ties)


def groups_of(dataset: Dataset, indices: Int64Array) -> Int64Array | None:
    """For each of some images the number of its group; None where each stands alone."""
    if dataset.groups is None:
        return None
    units = units_of(dataset, duplicates_together=False)
    assert units is not None, "there are groups"
    return units[indices]


def _of_usable(firsts: Int64Array, usable: Int64Array) -> Int64Array:
    """Ties among the usable images; all others stand alone."""
    own = np.arange(len(firsts), dtype=np.int64)
    _, first, number = np.unique(firsts[usable], return_index=True, return_inverse=True)
    own[usable] = usable[first[number]]
    return own


def _first_of_group(groups: tuple[str, ...]) -> Int64Array:
    """For each image the first one of its group; itself where the group has no name."""
    seen: dict[str, int] = {}
    firsts = [seen.setdefault(name, index) if name else index for index, name in enumerate(groups)]
    return np.array(firsts, dtype=np.int64)


def _joined(ties: list[Int64Array]) -> Int64Array:
    """Units of images that any chain of ties holds together."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    count = len(ties[0])
    rows = np.tile(np.arange(count), len(ties))
    graph = coo_array((np.ones(len(rows), bool), (rows, np.concatenate(ties))), (count, count))
    _, component = connected_components(graph, directed=False)
    _, first, number = np.unique(component, return_index=True, return_inverse=True)
    units: Int64Array = first[number].astype(np.int64, copy=False)
    return units
