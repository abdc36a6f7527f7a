"""Images that are equal pixel by pixel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...arrays import Int64Array
from ...data.splits.split import PARTS
from .finding import Finding, graver, lighter, pictures
from .subject import Subject

Clusters = list[Int64Array]


@dataclass(frozen=True, kw_only=True)
class Alike:
    """How pictures are alike, in words."""

    check: str
    word: str
    """Follows "an"."""
    doubt: str
    """What different labels of such pictures mean."""
    remedy: str
    """What to do about those."""

    @property
    def contradicting(self) -> str:
        return f"{self.word}, labels differ"

    @property
    def repeating(self) -> str:
        return f"{self.word} in one part"

    def leaking(self, other: str, part: str) -> str:
        return f"{self.word} in {other} and {part}"


EQUAL = Alike(
    check="duplicates",
    word="equal",
    doubt="At most one of the labels can be right.",
    remedy="Look at each and correct the labels, or leave them out: --quarantine FILE lists those "
    "of training and validation.",
)
ALMOST_EQUAL = Alike(
    check="near-duplicates",
    word="almost equal",
    doubt="Often one of the labels is wrong.",
    remedy="Look at each (--html FILE draws them), and correct the labels that are wrong.",
)

TURNED = replace(
    ALMOST_EQUAL,
    doubt="Often one of the labels is wrong, unless the classes are told apart by direction.",
)
"""Almost equal, if one is turned or mirrored."""

_TOGETHER = " Or keep copies on one side of the split: --duplicates together."


def find(subject: Subject) -> Iterator[Finding]:
    """Copies with different labels, copies across parts, and copies within one part."""
    clusters = clusters_of(subject.firsts)
    yield from contradictions(subject, clusters, EQUAL)
    yield from leaks(subject, clusters, EQUAL)
    yield from repetitions(subject, clusters, EQUAL)


def clusters_of(representatives: Int64Array) -> Clusters:
    """The images of each cluster of two or more, int64, ascending.

    `representatives` names one image of its cluster for each image; int64 (N,).
    """
    order = np.argsort(representatives, kind="stable")
    starts = np.flatnonzero(np.diff(representatives[order], prepend=-1))
    return [part for part in np.split(order, starts[1:]) if len(part) > 1]


def contradictions(
    subject: Subject, clusters: Clusters, alike: Alike, sure: Clusters | None = None
) -> Iterator[Finding]:
    """Clusters with more than one label.

    Args:
        sure: the clusters that are copies for sure: only these are an error; by default all.
    """
    labels = subject.dataset.labels
    found = [cluster for cluster in clusters if np.ptp(labels[cluster])]
    if not found:
        return
    share = sum(map(len, found)) / len(subject.dataset)
    certain = found if sure is None else [cluster for cluster in sure if np.ptp(labels[cluster])]
    names = _class_names(subject, found[0])
    yield Finding(
        check=alike.check,
        kind=alike.contradicting,
        severity=graver(sum(map(len, certain)) / len(subject.dataset)),
        summary=f"{alike.word.capitalize()} images with different labels: {_sets(found)}, "
        f"such as {' and '.join(names)}. {alike.doubt}",
        remedy=alike.remedy,
        items=subject.clustered(found),
        figures={"sets": len(found), "share": share},
    )


def leaks(
    subject: Subject, clusters: Clusters, alike: Alike, sure: Clusters | None = None
) -> Iterator[Finding]:
    """Clusters with pictures in more than one part.

    Args:
        sure: the clusters that are copies for sure: only these are an error; by default all.
    """
    for part, other in (("test", "train"), ("test", "val"), ("val", "train")):
        found, leaked = _across(subject, clusters, part, other)
        if not found:
            continue
        certain = leaked if sure is None else _across(subject, sure, part, other)[1]
        count = len(subject.split.part(part))
        share = leaked / count
        have = "has" if leaked == 1 else "have"
        yield Finding(
            check=alike.check,
            kind=alike.leaking(other, part),
            severity=graver(certain / count) if certain else "warning",
            summary=f"{pictures(leaked, f'{part} image')} ({share:.2%}) {have} an {alike.word} "
            f"{_image(alike)} in the {other} split"
            + _how_sure(leaked, certain)
            + f": {part} accuracy may be overestimated by up to that much.",
            remedy=(
                ""
                if leaked == certain
                else "Look at those that are not sure (--html FILE draws them). "
            )
            + "Leave the other copies out: --quarantine FILE lists them for "
            "sartor fit --exclude FILE. Test images are never listed."
            + (_TOGETHER if alike is EQUAL and _drawn(subject, part) else ""),
            items=subject.clustered(found),
            figures={
                "sets": len(found),
                "leaked": leaked,
                "sure": certain,
                "share": share,
                "part": part,
            },
        )


def _across(subject: Subject, clusters: Clusters, part: str, other: str) -> tuple[Clusters, int]:
    """What clusters have in two parts, where they have something in both; and how many pictures
    of `part` that are."""
    judge, taught = PARTS.index(part), PARTS.index(other)
    found = [
        cluster[np.isin(subject.parts[cluster], (judge, taught))]
        for cluster in clusters
        if {judge, taught} <= set(subject.parts[cluster].tolist())
    ]
    return found, sum(int((subject.parts[cluster] == judge).sum()) for cluster in found)


def _image(alike: Alike) -> str:
    return "copy" if alike is EQUAL else "image"


def _how_sure(found: int, certain: int) -> str:
    """How many of the images found are copies for sure, where not all are."""
    if found == certain:
        return ""
    if not certain:
        return ", perhaps another picture"
    return f", {certain:,} of them {'a copy' if certain == 1 else 'copies'} for sure"


def repetitions(subject: Subject, clusters: Clusters, alike: Alike) -> Iterator[Finding]:
    """Clusters with several pictures in one part."""
    parts = subject.parts
    found = [
        same
        for cluster in clusters
        for number in range(len(PARTS))
        if len(same := cluster[parts[cluster] == number]) > 1
    ]
    if not found:
        return
    spare = sum(len(cluster) - 1 for cluster in found)
    share = spare / len(subject.dataset)
    by_part = {
        name: sum(1 for cluster in found if parts[cluster[0]] == number)
        for number, name in enumerate(PARTS)
    }
    where = ", ".join(f"{count:,} in {name}" for name, count in by_part.items() if count)
    yield Finding(
        check=alike.check,
        kind=alike.repeating,
        severity=lighter(share),
        summary=f"{_sets(found)} of {alike.word} images within one split ({where}): "
        f"{share:.2%} of all images are redundant.",
        remedy="Mostly harmless in training; in a test split they count twice."
        + (" --quarantine FILE lists all but one of each." if alike is EQUAL else ""),
        items=subject.clustered(found),
        figures={"sets": len(found), "spare": spare, "share": share, "by_part": by_part},
    )


def _drawn(subject: Subject, part: str) -> bool:
    """Whether sartor itself divided off a part, and not the source."""
    given = {"test": subject.dataset.test, "val": subject.dataset.val}
    return given[part] is None


def _class_names(subject: Subject, cluster: Int64Array) -> tuple[str, ...]:
    classes, labels = subject.dataset.classes, subject.dataset.labels
    return tuple(f'"{classes[label]}"' for label in np.unique(labels[cluster]))


def _sets(clusters: Sequence[Int64Array]) -> str:
    return pictures(len(clusters), "pair" if all(len(one) == 2 for one in clusters) else "set")
