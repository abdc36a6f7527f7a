"""How near the top of `sartor check`'s ranking the known wrong labels of MNIST's test set are.

    python benchmarks/label_errors.py [--seed 0] [--json FILE]

Known is what five people each were asked: Northcutt, Athalye and Mueller, "Pervasive Label Errors
in Test Sets Destabilize Machine Learning Benchmarks" (2021). In `mturk/mnist_mturk.json` of
https://github.com/cleanlab/label-errors, 15 test images have fewer than three who saw the given
label in them. The given labels there are those of MNIST's own order, so its indices are too.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
from machine import command_of, describe

from sartor.data.named.catalogue import load_named
from sartor.data.splits.split import make_split
from sartor.inspection.check.labels import doubts_of
from sartor.inspection.check.subject import Subject

KNOWN = {
    947: 8,
    1621: 0,
    1901: 9,
    2130: 4,
    2462: 2,
    2597: 5,
    2654: 6,
    3520: 6,
    3558: 5,
    5937: 5,
    6651: 0,
    6783: 1,
    8527: 4,
    9679: 6,
    9729: 5,
}
"""Number among the test images, and the label that MNIST gives it."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    result = measure(given.seed)
    print(json.dumps(result, indent=2))
    if given.json:
        given.json.write_text(json.dumps(result, indent=2) + "\n")


def measure(seed: int) -> dict[str, object]:
    """Ranks of the known errors among all test images, counted from 1."""
    dataset = load_named("mnist")
    assert dataset.test is not None
    known = dataset.test[list(KNOWN)]
    assert dataset.labels[known].tolist() == list(KNOWN.values()), "the indices are those of MNIST"
    split = make_split(dataset, val_fraction=0.1, test_fraction=0.2, seed=0)
    began = time.perf_counter()
    doubts = doubts_of(Subject(dataset=dataset, split=split, seed=seed, note=print))
    seconds = time.perf_counter() - began
    ranking = doubts.ranking()
    of_test = ranking[np.isin(ranking, dataset.test)]
    ranks = {int(np.flatnonzero(of_test == index)[0]) + 1 for index in known}
    flagged = doubts.indices[doubts.flagged]
    return {
        "ranks_of_the_known": sorted(ranks),
        "in_top_100": sum(rank <= 100 for rank in ranks),
        "in_top_200": sum(rank <= 200 for rank in ranks),
        "known": len(KNOWN),
        "flagged_in_all": len(flagged),
        "flagged_in_test": int(np.isin(flagged, dataset.test).sum()),
        "known_flagged": int(np.isin(known, flagged).sum()),
        "cross_validated_accuracy": float((doubts.suggested == dataset.labels).mean()),
        "seconds": round(seconds, 1),
        "seed": seed,
        "machine": describe(command_of("label_errors")),
    }


if __name__ == "__main__":
    main()
