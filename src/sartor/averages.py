"""Averages over classes, from the sums of a confusion matrix: every class counts the same.

Training and evaluation both say them, and neither knows the other.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence


def balanced_accuracy(counts: Sequence[int], correct: Sequence[int]) -> float:
    """Mean recall of the classes that have images; NaN where none has.

    Args:
        counts: images of each class.
        correct: those of them that were predicted as it.
    """
    pairs = zip(correct, counts, strict=True)
    return _mean(hits / count for hits, count in pairs if count)


def macro_f1(counts: Sequence[int], correct: Sequence[int], predicted: Sequence[int]) -> float:
    """Mean F1 of the classes that occur, as a truth or as a prediction; NaN where none does.

    Args:
        counts, correct: as in `balanced_accuracy`.
        predicted: images predicted as each class.
    """
    triples = zip(correct, counts, predicted, strict=True)
    return _mean(2 * hits / (count + said) for hits, count, said in triples if count + said)


def _mean(values: Iterable[float]) -> float:
    known = list(values)
    return math.fsum(known) / len(known) if known else math.nan
