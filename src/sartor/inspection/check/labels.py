"""Labels that are probably wrong: confident learning (Northcutt et al. 2021) by cleanlab.

A small network learns the labels of three quarters of the images and predicts the rest, in turn
for every image. Where it is surer of another class than it usually is of the right one, cleanlab
calls the label a probable error: a careful verdict, which the ranking by trust goes beyond. Of the
15 test labels of MNIST that five people each found wrong, 13 are among the 100 least trusted of
10,000 (`benchmarks/label_errors.py`). All parts are looked at, the test part too: nothing that is
trained and kept learns from this, and `fit` does not run it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ...arrays import Float32Array, Int64Array
from ...data.splits.split import PARTS
from ...data.splits.units import units_of
from ...errors import MissingExtraError
from .finding import Finding, lighter, pictures
from .out_of_sample import FOLDS, probabilities
from .subject import NotApplicableError, Subject

LISTED = 100
"""Of each part: so many of the least trusted labels, even where fewer are probably wrong."""
FEWEST_IMAGES = 40
"""With fewer, a network knows too little to doubt anything."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Doubts:
    """How far each label is to be trusted; a row for each image that was looked at."""

    indices: Int64Array
    """Which image of the dataset each row is, int64 (M,)."""
    trust: npt.NDArray[np.float64]
    """Probability of the given label, by a network that did not see it; float64 (M,)."""
    suggested: Int64Array
    """The most probable class, int64 (M,)."""
    confidence: npt.NDArray[np.float64]
    """Its probability, float64 (M,)."""
    doubted: npt.NDArray[np.bool_]
    """Whether another class is more probable than the label, bool (M,)."""
    flagged: npt.NDArray[np.bool_]
    """Whether the label is probably wrong, bool (M,)."""

    def to_look_at(self, among: npt.NDArray[np.bool_]) -> Int64Array:
        """Rows of probable errors and of the `LISTED` least trusted labels; the worst first.

        Where the network itself predicts the label, however unsure, there is nothing to look at.

        Args:
            among: the rows that are asked about, bool (M,).
        """
        order = np.argsort(self.trust, kind="stable")
        order = order[(self.doubted & among)[order]]
        worth = self.flagged[order]
        worth[:LISTED] = True
        return order[worth]

    def ranking(self) -> Int64Array:
        """Every image, the least trusted first."""
        return self.indices[np.argsort(self.trust, kind="stable")]


def find(subject: Subject) -> Iterator[Finding]:
    """Probable label errors, one finding per split; the least trusted label first."""
    doubts = doubts_of(subject)
    part_of = subject.parts[doubts.indices]
    for number, part in enumerate(PARTS):
        here = part_of == number
        if (doubts.flagged & here).any():
            yield _finding(subject, doubts, part, here)


def _finding(subject: Subject, doubts: Doubts, part: str, here: npt.NDArray[np.bool_]) -> Finding:
    classes = subject.dataset.classes
    sure, rows = int((doubts.flagged & here).sum()), doubts.to_look_at(here)
    share = sure / int(here.sum())
    more = len(rows) - sure
    return Finding(
        check="labels",
        kind=f"probably wrong in {part}",
        severity=lighter(share),
        summary=f"{pictures(sure, 'label')} of the {part} split ({share:.2%}) are probably "
        "wrong, or of "
        "images that are hard to classify"
        + (f"; the next {more:,} least trusted labels are listed too." if more else "."),
        remedy="Review them from the top (--html FILE shows them) and correct wrong labels."
        if part == "test"
        else "Review them from the top (--html FILE shows them) and correct wrong labels. "
        "--quarantine-labels adds the probably wrong ones to the list for "
        "sartor fit --exclude FILE.",
        items=tuple(
            subject.item(
                int(doubts.indices[row]),
                f'looks like "{classes[doubts.suggested[row]]}" ({doubts.confidence[row]:.1%})',
                suggested=classes[doubts.suggested[row]],
                confidence=round(float(doubts.confidence[row]), 6),
                trust=round(float(doubts.trust[row]), 6),
                probably_wrong=bool(doubts.flagged[row]),
            )
            for row in rows.tolist()
        ),
        figures={"probably_wrong": sure, "share": share, "part": part},
    )


def doubts_of(subject: Subject) -> Doubts:
    """Train, answer and judge for every image of the classes that have enough of them.

    Raises:
        NotApplicableError: too few images. MissingExtraError: cleanlab is not installed.
    """
    flag = _cleanlab()
    labels = subject.dataset.labels
    sizes = np.bincount(labels, minlength=len(subject.dataset.classes))
    known = np.flatnonzero(sizes >= FOLDS)
    indices = np.flatnonzero(np.isin(labels, known))
    if len(known) < 2 or len(indices) < FEWEST_IMAGES:
        raise NotApplicableError(
            f"needs {FEWEST_IMAGES} images of two or more classes with {FOLDS} or more each"
        )
    given = np.searchsorted(known, labels[indices])
    units = units_of(subject.dataset, duplicates_together=True)
    held_out = probabilities(
        subject.dataset.images,
        indices,
        given,
        len(known),
        units=None if units is None else units[indices],
        seed=subject.seed,
        note=subject.note,
    )
    best = held_out.argmax(axis=1)
    rows = np.arange(len(indices))
    return Doubts(
        indices=indices,
        trust=held_out[rows, given].astype(np.float64),
        suggested=known[best],
        confidence=held_out[rows, best].astype(np.float64),
        doubted=best != given,
        flagged=flag(given, held_out) & (best != given),
    )


def _cleanlab() -> Any:
    """A function (labels, probabilities) -> which labels are probable errors, bool (N,).

    Raises:
        MissingExtraError: cleanlab is not installed.
    """
    try:
        from cleanlab.filter import find_label_issues
    except ImportError:
        raise MissingExtraError("The check of labels", "cleanlab", "check") from None

    def flag(labels: Int64Array, held_out: Float32Array) -> npt.NDArray[np.bool_]:
        flagged: npt.NDArray[np.bool_] = find_label_issues(
            labels, held_out.astype(np.float64), n_jobs=1
        )
        return flagged

    return flag
