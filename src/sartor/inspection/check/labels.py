"""Labels that are probably wrong: confident learning (Northcutt et al. 2021) by cleanlab.

A small network learns the labels of three quarters of the images and answers for the rest, in turn
for every image. Where it is confident in another class, more often than it usually errs, cleanlab
calls the label a probable error. All parts are looked at, the test part too: nothing that is
trained and kept learns from this, and `fit` does not run it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ...data.dataset import Int64Array
from ...data.split import PARTS
from ...data.units import units_of
from ...errors import MissingExtraError
from .finding import Finding, lighter, pictures
from .out_of_sample import FOLDS, Float32Array, probabilities
from .subject import NotApplicableError, Subject

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
    flagged: npt.NDArray[np.bool_]
    """Whether the label is probably wrong, bool (M,)."""

    def ranking(self) -> Int64Array:
        """Every image, the least trusted first."""
        return self.indices[np.argsort(self.trust, kind="stable")]


def find(subject: Subject) -> Iterator[Finding]:
    """Probable label errors of all parts, the least trusted label first."""
    doubts = doubts_of(subject)
    rows = np.flatnonzero(doubts.flagged)
    if not len(rows):
        return
    rows = rows[np.argsort(doubts.trust[rows], kind="stable")]
    share = len(rows) / len(doubts.indices)
    classes = subject.dataset.classes
    by_part = np.bincount(subject.parts[doubts.indices[rows]] + 1, minlength=len(PARTS) + 1)[1:]
    where = ", ".join(
        f"{count:,} in {part}" for part, count in zip(PARTS, by_part.tolist(), strict=True) if count
    )
    yield Finding(
        check="labels",
        kind="probably wrong",
        severity=lighter(share),
        summary=f"{pictures(len(rows), 'label')} ({share:.2%}) probably wrong, or of pictures that "
        f"are hard to tell: {where}.",
        remedy="Look at them from the top (--html FILE draws them), correct what is wrong; "
        "--quarantine-labels adds the others to the list for sartor fit --exclude FILE.",
        items=tuple(
            subject.item(
                int(doubts.indices[row]),
                f'looks like "{classes[doubts.suggested[row]]}" ({doubts.confidence[row]:.1%})',
                suggested=classes[doubts.suggested[row]],
                confidence=round(float(doubts.confidence[row]), 6),
                trust=round(float(doubts.trust[row]), 6),
            )
            for row in rows
        ),
        figures={"share": share, "by_part": dict(zip(PARTS, by_part.tolist(), strict=True))},
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
            f"needs {FEWEST_IMAGES} pictures of two or more classes with {FOLDS} or more each"
        )
    given = np.searchsorted(known, labels[indices])
    units = units_of(subject.dataset, duplicates_together=True)
    answers = probabilities(
        subject.dataset.images[indices],
        given,
        len(known),
        units=None if units is None else units[indices],
        seed=subject.seed,
        note=subject.note,
    )
    best = answers.argmax(axis=1)
    rows = np.arange(len(indices))
    return Doubts(
        indices=indices,
        trust=answers[rows, given].astype(np.float64),
        suggested=known[best],
        confidence=answers[rows, best].astype(np.float64),
        flagged=flag(given, answers),
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

    def flag(labels: Int64Array, answers: Float32Array) -> npt.NDArray[np.bool_]:
        flagged: npt.NDArray[np.bool_] = find_label_issues(
            labels, answers.astype(np.float64), n_jobs=1
        )
        # A label that is itself the most probable class is no error, however rare the class.
        flagged &= answers.argmax(axis=1) != labels
        return flagged

    return flag
