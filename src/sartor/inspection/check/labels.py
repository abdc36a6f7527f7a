"""Labels that are probably wrong: confident learning (Northcutt et al. 2021) by cleanlab.

A judge learns the labels of most images and predicts the rest, in turn for every image: on what a
pretrained backbone sees (`feature_judge.py`) where there is one, else a kernel machine on few
images (`kernel.py`) and a small network on many (`out_of_sample.py`). Where it is surer
of another class than it usually is of the right one, cleanlab calls the label a probable error. A
weak judge calls hundreds so that are not, hence a second condition, on what it would see if labels
were wrong.

Of a label changed at random the judge has seen the trust before: its probability of any other
class. So for every threshold it is known what share r of changed labels would fall below it, and
counted how many labels N do. If m labels are wrong, m r of the N are these; so m is at most N / r,
and the threshold where that is smallest tells the most. Labels are named up to where the bound is
half as large again: in a clean set few, and in one with many errors most of them. How that does
with planted errors is in docs/pictures.md.

Of the 15 test labels of MNIST that five people each found wrong, 13 are among the 100 least trusted
of 10,000 (`benchmarks/label_errors.py`). All parts are looked at, the test part too: nothing that
is trained and kept learns from this, and `fit` does not run it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ...arrays import Float32Array, Int64Array, UInt8Array
from ...data.splits.split import PARTS
from ...data.splits.units import units_of
from ...errors import MissingExtraError
from . import feature_judge, kernel, out_of_sample
from .finding import Finding, lighter, pictures
from .out_of_sample import FOLDS
from .subject import NotApplicableError, Note, Subject

LISTED = 100
"""So many of the least trusted labels are listed, even where fewer are probably wrong,"""
LISTED_SHARE = 0.02
"""and at most this share of all."""
NOT_JUDGED = "labels cannot be judged"
_BOUND_RATIO = 1.5
_FEW = 10
"""So many errors may always be named: looking at them takes a minute."""
_WEAK_AGREEMENT, _MOST_WRONG = 0.5, 0.25
"""Where the judge contradicts more labels, or would allow that more are wrong, it knows nothing."""
FEWEST_IMAGES = 40
"""With fewer, a network knows too little to doubt anything."""


class Limits(NamedTuple):
    """What a judge of labels can tell, in figures."""

    agreement: float
    """Share of the images whose given label it predicts, without having seen them."""
    threshold: float
    """Labels that it trusts no more than this may be named."""
    recall: float
    """Share of labels changed at random that fall below the threshold."""
    wrong_at_most: int
    """If more labels were wrong, more would fall below it."""
    images: int
    """How many it judged."""

    @property
    def weak(self) -> bool:
        """Whether it knows too little to doubt any label."""
        return self.agreement < _WEAK_AGREEMENT or self.wrong_at_most > _MOST_WRONG * self.images


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
    limits: Limits
    judge: str = "a small model"
    """Who doubts, in words."""

    def to_look_at(self, among: npt.NDArray[np.bool_]) -> Int64Array:
        """Rows of probable errors and of the `LISTED` least trusted labels; the worst first.

        Where the network itself predicts the label, however unsure, there is nothing to look at.

        Args:
            among: the rows that are asked about, bool (M,).
        """
        order = np.argsort(self.trust, kind="stable")
        order = order[(self.doubted & among)[order]]
        worth = self.flagged[order]
        worth[: min(LISTED, int(LISTED_SHARE * len(self.trust)))] = True
        return order[worth]

    def ranking(self) -> Int64Array:
        """Every image, the least trusted first."""
        return self.indices[np.argsort(self.trust, kind="stable")]


def find(subject: Subject) -> Iterator[Finding]:
    """Probable label errors, one finding per split; the least trusted label first."""
    doubts = doubts_of(subject)
    if doubts.limits.weak:
        yield _cannot_tell(doubts)
        return
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
        summary=f"{pictures(sure, 'label')} of the {part} split ({share:.2%}) "
        f"{'is' if sure == 1 else 'are'} probably wrong, or of an image that is hard to classify"
        + (f"; the next {more:,} least trusted labels are listed too. " if more else ". ")
        + _how_good(doubts),
        remedy="Review them from the top (--html FILE shows them); --fixes FILE writes the "
        "corrections into a table that you edit, for sartor fit --fixes FILE."
        + (
            ""
            if part == "test"
            else " --quarantine-labels adds the probably wrong ones to the list for "
            "sartor fit --exclude FILE."
        ),
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
        figures={
            "probably_wrong": sure,
            "share": share,
            "part": part,
            "judge": doubts.judge,
            **doubts.limits._asdict(),
        },
    )


def _how_good(doubts: Doubts) -> str:
    limits = doubts.limits
    share = limits.wrong_at_most / limits.images
    return (
        f"The judge, {doubts.judge}, predicts {limits.agreement:.0%} of the labels of images "
        "that it has not seen; of labels changed at random it would name "
        f"{limits.recall:.0%}. So at most about {limits.wrong_at_most:,} labels of all parts "
        f"({share:.1%}) are wrong."
    )


def _cannot_tell(doubts: Doubts) -> Finding:
    limits = doubts.limits
    return Finding(
        check="labels",
        kind=NOT_JUDGED,
        severity="note",
        summary=f"Cannot tell which labels are wrong: the judge, {doubts.judge}, predicts "
        f"{limits.agreement:.0%} of the labels of images that it has not seen. Its doubts would "
        "mostly be about images that are hard to classify.",
        remedy="Train a network on the set and look at its most confident mistakes: "
        "sartor report RUN.",
        figures={"judge": doubts.judge, **limits._asdict()},
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
    own_units = None if units is None else units[indices]
    if subject.features is None:
        judge = "a kernel machine" if len(indices) <= kernel.MOST_IMAGES else "a small network"
        held_out = probabilities(
            subject.dataset.images,
            indices,
            given,
            len(known),
            units=own_units,
            seed=subject.seed,
            note=subject.note,
        )
    else:
        judge = f"simple models on features of {subject.features.name}"
        seen = subject.features.of_all[indices]
        subject.note(f"judging {len(indices):,} labels by {judge}")
        held_out = feature_judge.probabilities(
            seen, given, len(known), units=own_units, seed=subject.seed
        )
    best = held_out.argmax(axis=1)
    rows = np.arange(len(indices))
    limits = limits_of(held_out, given)
    trust = held_out[rows, given].astype(np.float64)
    return Doubts(
        indices=indices,
        trust=trust,
        suggested=known[best],
        confidence=held_out[rows, best].astype(np.float64),
        doubted=best != given,
        flagged=flag(given, held_out) & (best != given) & (trust <= limits.threshold),
        limits=limits,
        judge=judge,
    )


def probabilities(
    images: UInt8Array,
    indices: Int64Array,
    labels: Int64Array,
    num_classes: int,
    *,
    units: Int64Array | None,
    seed: int,
    note: Note,
) -> Float32Array:
    """Of each class for each of the images, float32 (M, num_classes), by the judge that suits."""
    judge = kernel if len(indices) <= kernel.MOST_IMAGES else out_of_sample
    held_out: Float32Array = judge.probabilities(
        images, indices, labels, num_classes, units=units, seed=seed, note=note
    )
    return held_out


def limits_of(held_out: Float32Array, labels: Int64Array) -> Limits:
    """What can be told from probabilities (M, K) of images that were not seen."""
    count, num_classes = held_out.shape
    rows = np.arange(count)
    doubted = held_out.argmax(axis=1) != labels
    agreement = 1 - float(doubted.mean())
    if not doubted.any():
        return Limits(agreement, 0.0, 0.0, 0, count)
    trusts = np.sort(held_out[rows, labels][doubted])
    # A label changed at random is trusted as much as the class that it was changed to.
    others = np.sort(held_out[np.arange(num_classes) != labels[:, None]])
    recalls = np.searchsorted(others, trusts, side="right") / len(others)
    numbers = np.arange(1, len(trusts) + 1)
    # Of a number that is counted, twice the root more is still within chance.
    bounds = (numbers + 2 * np.sqrt(numbers + 1)) / np.maximum(recalls, 1e-9)
    last = int(np.flatnonzero(bounds <= max(_BOUND_RATIO * bounds.min(), _FEW))[-1])
    return Limits(
        agreement=agreement,
        threshold=float(trusts[last]),
        recall=float(recalls[last]),
        wrong_at_most=min(round(float(bounds.min())), count),
        images=count,
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
