"""Baselines beside a network: computed once for each set and split, and kept in the cache."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from typing import Any

from ..arrays import Int64Array
from ..data.dataset import Dataset
from ..data.splits.split import Split
from ..errors import FileError
from ..evaluation.predictions import Predictions
from ..files import make_folder, write_json
from ..home import cache_home
from ..inspection.baseline import Baseline, baselines

_VERSION = 1
"""Changes when the baselines would predict something else."""


def beside(dataset: Dataset, split: Split, predictions: Predictions) -> list[dict[str, Any]]:
    """Accuracy of every baseline on the predicted images, and how much better the network is."""
    labels = dataset.labels[predictions.indices]
    network = predictions.predicted()
    return [one.beside(labels, network) for one in kept(dataset, split.train, predictions.indices)]


def kept(dataset: Dataset, taught: Int64Array, asked: Int64Array) -> list[Baseline]:
    """The baselines for these images, from the cache where they are in it."""
    if not len(taught) or not len(asked):
        return []
    digest = hashlib.sha256(f"{_VERSION} {dataset.fingerprint}".encode())
    for indices in (taught, asked):
        digest.update(f"{len(indices)}".encode() + indices.tobytes())
    path = cache_home() / "baselines" / f"{digest.hexdigest()[:32]}.json"
    try:
        return [Baseline.from_json(one) for one in json.loads(path.read_bytes())]
    except (OSError, ValueError, KeyError, TypeError):
        pass
    found = baselines(dataset, taught, asked)
    # Where the cache cannot be written, they are fitted again each time.
    with suppress(FileError):
        write_json(make_folder(path.parent) / path.name, [one.to_json() for one in found])
    return found
