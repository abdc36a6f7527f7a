"""Pictures that are equal pixel by pixel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ...data.dataset import Int64Array
from ...data.split import PARTS
from .finding import Finding, graver, lighter
from .subject import Subject

Clusters = list[Int64Array]


def find(subject: Subject) -> Iterator[Finding]:
    """Copies with different labels, copies across parts, and copies within one part."""
    clusters = clusters_of(subject.firsts)
    yield from contradictions(subject, clusters, check="duplicates", alike="Equal")
    yield from leaks(subject, clusters, check="duplicates", alike="equal")
    yield from repetitions(subject, clusters, check="duplicates", alike="equal")


def clusters_of(representatives: Int64Array) -> Clusters:
    """The images of each cluster of two or more, int64, ascending.

    `representatives` names one image of its cluster for each image; int64 (N,).
    """
    order = np.argsort(representatives, kind="stable")
    starts = np.flatnonzero(np.diff(representatives[order], prepend=-1))
    return [part for part in np.split(order, starts[1:]) if len(part) > 1]


def contradictions(
    subject: Subject, clusters: Clusters, *, check: str, alike: str
) -> Iterator[Finding]:
    """Clusters with more than one label."""
    labels = subject.dataset.labels
    found = [cluster for cluster in clusters if np.ptp(labels[cluster])]
    if not found:
        return
    count = sum(map(len, found))
    share = count / len(subject.dataset)
    pairs = sorted({_class_names(subject, cluster) for cluster in found})
    yield Finding(
        check=check,
        kind="different labels",
        severity=graver(share),
        summary=f"{alike} pictures with different labels: {_sets(found)}, such as "
        f"{' and '.join(pairs[0])}. At most one of them can be right.",
        remedy="Look at each, and correct the labels or leave the wrong ones out "
        "(--quarantine FILE lists those of training and validation).",
        items=subject.clustered(found),
        figures={"sets": len(found), "share": share},
    )


def leaks(subject: Subject, clusters: Clusters, *, check: str, alike: str) -> Iterator[Finding]:
    """Clusters with pictures in more than one part."""
    for part, other in (("test", "train"), ("test", "val"), ("val", "train")):
        judge, taught = PARTS.index(part), PARTS.index(other)
        found = [
            cluster[np.isin(subject.parts[cluster], (judge, taught))]
            for cluster in clusters
            if {judge, taught} <= set(subject.parts[cluster].tolist())
        ]
        if not found:
            continue
        leaked = sum(int((subject.parts[cluster] == judge).sum()) for cluster in found)
        share = leaked / len(subject.split.part(part))
        yield Finding(
            check=check,
            kind=f"in {other} and {part}",
            severity=graver(share),
            summary=f"{leaked:,} {part} pictures ({share:.2%}) have {alike} ones in the {other} "
            f"part: the {part} figures will be too good by up to that much.",
            remedy="Leave the other copies out: --quarantine FILE lists them for "
            "sartor fit --exclude FILE. Test pictures are never listed.",
            items=subject.clustered(found),
            figures={"sets": len(found), "leaked": leaked, "share": share, "part": part},
        )


def repetitions(
    subject: Subject, clusters: Clusters, *, check: str, alike: str
) -> Iterator[Finding]:
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
        check=check,
        kind="repeated",
        severity=lighter(share),
        summary=f"{_sets(found)} of {alike} pictures within one part ({where}): "
        f"{spare:,} pictures ({share:.2%}) say nothing new.",
        remedy="Mostly harmless in training; in a test part they count twice. --quarantine FILE "
        "lists all but one of equal pictures."
        if check == "duplicates"
        else "Mostly harmless in training; in a test part they count twice.",
        items=subject.clustered(found),
        figures={"sets": len(found), "spare": spare, "share": share, "by_part": by_part},
    )


def _class_names(subject: Subject, cluster: Int64Array) -> tuple[str, ...]:
    classes, labels = subject.dataset.classes, subject.dataset.labels
    return tuple(f'"{classes[label]}"' for label in np.unique(labels[cluster]))


def _sets(clusters: Sequence[Int64Array]) -> str:
    if all(len(cluster) == 2 for cluster in clusters):
        return f"{len(clusters):,} pair{'s' if len(clusters) > 1 else ''}"
    return f"{len(clusters):,} set{'s' if len(clusters) > 1 else ''}"
