"""The pictures that several models judged, where lists left some out of the data of one of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import reduce

import numpy as np

from .predictions import Predictions

_SHARE = 0.5
"""With less in common, the splits are others, and no list was at work."""


def on_common_pictures(named: Mapping[str, Predictions]) -> tuple[dict[str, Predictions], int]:
    """Predictions of the same files only, and how many pictures are left out by that.

    As they are where there is nothing to leave out: no files, one dataset, other splits.
    """
    each = list(named.values())
    pictures = [set(one.pictures) for one in each if one.pictures is not None]
    if len(pictures) < len(each) or len({one.dataset_fingerprint for one in each}) == 1:
        return dict(named), 0
    common, every = reduce(set.intersection, pictures), reduce(set.union, pictures)
    if common == every or len(common) < _SHARE * len(every):
        return dict(named), 0
    kept = {name: _only(one, common) for name, one in named.items()}
    return kept, len(every) - len(common)


def _only(predictions: Predictions, pictures: set[str]) -> Predictions:
    given = predictions.pictures or ()
    rows = np.flatnonzero([picture in pictures for picture in given])
    groups = predictions.groups
    return replace(
        predictions,
        logits=predictions.logits[rows],
        novelty=None,
        labels=predictions.labels[rows],
        indices=predictions.indices[rows],
        groups=None if groups is None else groups[rows],
        pictures=tuple(given[row] for row in rows),
    )
