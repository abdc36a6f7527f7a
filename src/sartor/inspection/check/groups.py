"""Groups (a patient, an author, a session) with pictures on both sides of a split."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from ...arrays import Int64Array
from ...data.splits.split import PARTS
from .finding import Finding, graver, pictures
from .subject import NotApplicableError, Subject


def find(subject: Subject) -> Iterator[Finding]:
    """Groups that straddle the training part and one that is to judge it."""
    groups = subject.dataset.groups
    if groups is None:
        raise NotApplicableError("the source names no groups")
    number = _numbered(groups)
    for part in ("test", "val"):
        yield from _straddling(subject, number, part)


def _numbered(groups: tuple[str, ...]) -> Int64Array:
    """A number for each group, -1 where an image belongs to none; int64 (N,)."""
    names = np.array(groups)
    _, number = np.unique(names, return_inverse=True)
    numbered: Int64Array = np.where(names == "", -1, number).astype(np.int64)
    return numbered


def _straddling(subject: Subject, number: Int64Array, part: str) -> Iterator[Finding]:
    judged, taught = subject.split.part(part), subject.split.train
    shared = np.intersect1d(number[judged], number[taught])
    shared = shared[shared >= 0]
    if not len(shared):
        return
    concerned = np.concatenate([judged, taught])
    concerned = concerned[np.isin(number[concerned], shared)]
    held = int((subject.parts[concerned] == PARTS.index(part)).sum())
    share = held / len(judged)
    order = np.argsort(number[concerned], kind="stable")
    edges = np.flatnonzero(np.diff(number[concerned[order]], prepend=-1, append=-1))
    clusters = [concerned[order[start:stop]] for start, stop in pairwise(edges)]
    names = subject.dataset.groups or ()
    yield Finding(
        check="groups",
        kind=f"groups in train and {part}",
        severity=graver(share),
        summary=f"{pictures(len(shared), 'group')} with images in both the training and the {part} "
        f"split: {share:.1%} of the {part} split ({pictures(held)}). A network may recognize the "
        "group instead of "
        "the class.",
        remedy="Keep each group in one split: let sartor make the split, or correct the lists.",
        items=subject.clustered(clusters),
        figures={
            "groups": sorted({names[cluster[0]] for cluster in clusters}),
            "share": share,
            "part": part,
        },
    )
