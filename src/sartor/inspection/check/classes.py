"""Classes: how many images each has, in which part, and what they are called."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from ...data.splits.split import PARTS
from ...evaluation.intervals import wilson
from . import class_names
from .finding import Finding
from .subject import Subject

IMBALANCE_NOTED = 3.0
"""Largest class over smallest: from here on, accuracy is misleading."""
IMBALANCE_WARNED = 10.0
WIDEST_INTERVAL = 0.10
"""Of a test accuracy near 90 %, 95 % confidence: a wider one distinguishes few models."""
WIDEST_CLASS_INTERVAL = 0.30
_SUPPOSED_ACCURACY = 0.9


def find(subject: Subject) -> Iterator[Finding]:
    """Everything about the classes as such."""
    counts = counts_by_part(subject)
    if subject.indivisible:
        yield Finding(
            check="classes",
            kind="no split",
            severity="error",
            summary=f"Training would refuse this set. {subject.indivisible.message}",
            remedy=subject.indivisible.hint,
        )
    yield from class_names.find(subject.dataset.classes)
    yield from _missing(subject, counts)
    yield from _imbalance(subject.dataset.classes, counts)
    yield from _small_test(subject.dataset.classes, counts[PARTS.index("test")])


def counts_by_part(subject: Subject) -> npt.NDArray[np.int64]:
    """Images of each part (train, val, test) and class; int64 (3, K)."""
    labels, classes = subject.dataset.labels, subject.dataset.classes
    return np.array(
        [np.bincount(labels[subject.split.part(part)], minlength=len(classes)) for part in PARTS]
    )


def _missing(subject: Subject, counts: npt.NDArray[np.int64]) -> Iterator[Finding]:
    classes, total = subject.dataset.classes, counts.sum(axis=0)
    empty = [name for name, count in zip(classes, total, strict=True) if not count]
    if empty:
        yield Finding(
            check="classes",
            kind="empty class",
            severity="warning",
            summary=f"No images of {_listed(empty)}: the network would have an output that it "
            "never "
            "learns.",
            remedy="Add images, or remove the folder or name of the class.",
            figures={"classes": empty},
        )
    for number, part in enumerate(PARTS):
        if not counts[number].any():
            continue
        lacking = [
            name
            for name, here, all_ in zip(classes, counts[number], total, strict=True)
            if all_ and not here
        ]
        if lacking and part == "train":
            yield Finding(
                check="classes",
                kind="not in training",
                severity="error",
                summary=f"{_listed(lacking)}: in validation or test, but without training images.",
                remedy="Move images of it to the training split, or remove the class.",
                figures={"classes": lacking, "part": part},
            )
        elif lacking:
            yield Finding(
                check="classes",
                kind=f"not in {part}",
                severity="warning",
                summary=f"{_listed(lacking)}: no images in the {part} split, so its "
                f"accuracy cannot be measured.",
                remedy=f"Add images of it to the {part} split, or raise --{part}-fraction.",
                figures={"classes": lacking, "part": part},
            )


def _imbalance(classes: Sequence[str], counts: npt.NDArray[np.int64]) -> Iterator[Finding]:
    total = counts.sum(axis=0)
    present = np.flatnonzero(total)
    if len(present) < 2:
        return
    small, large = present[total[present].argmin()], present[total[present].argmax()]
    ratio = total[large] / total[small]
    if ratio < IMBALANCE_NOTED:
        return
    share = total[large] / total.sum()
    yield Finding(
        check="classes",
        kind="imbalance",
        severity="warning" if ratio >= IMBALANCE_WARNED else "note",
        summary=f'"{classes[large]}" has {total[large]:,} images, "{classes[small]}" '
        f"{total[small]:,}: {ratio:.1f} times as many. Always predicting "
        f'"{classes[large]}" would be correct {share:.0%} of the time.',
        remedy="Judge by the accuracy of each class, and train with --class-weights balanced.",
        figures={"ratio": float(ratio), "largest_share": float(share)},
    )


def _small_test(classes: Sequence[str], test: npt.NDArray[np.int64]) -> Iterator[Finding]:
    count = int(test.sum())
    if not count:
        yield Finding(
            check="classes",
            kind="no test part",
            severity="warning",
            summary="There is no test split, so accuracy on new images cannot be measured.",
            remedy="Set some images aside: --test-fraction 0.2.",
        )
        return
    low, high = _interval(count)
    if high - low > WIDEST_INTERVAL:
        yield Finding(
            check="classes",
            kind="small test part",
            severity="note",
            summary=f"With {count:,} test images, a test accuracy of {_SUPPOSED_ACCURACY:.0%} "
            f"means {low:.0%} to {high:.0%} (95 % interval): small differences are not "
            "significant.",
            remedy="Collect more test images, or compare models by cross-validation.",
            figures={"interval": [low, high]},
        )
        return
    vague = [
        name
        for name, each in zip(classes, test.tolist(), strict=True)
        if each and np.ptp(_interval(each)) > WIDEST_CLASS_INTERVAL
    ]
    if vague:
        yield Finding(
            check="classes",
            kind="few of a class to test",
            severity="note",
            summary=f"There are too few test images to measure the accuracy of {_listed(vague)} "
            "to within "
            f"{WIDEST_CLASS_INTERVAL:.0%}.",
            remedy="Collect more test images of these, or look at the confidence intervals.",
            figures={"classes": vague},
        )


def _interval(count: int) -> tuple[float, float]:
    return wilson(round(_SUPPOSED_ACCURACY * count), count)


def _listed(names: Sequence[str], most: int = 5) -> str:
    shown = ", ".join(f'"{name}"' for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most:,} more classes"
