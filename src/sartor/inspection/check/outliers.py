"""Pictures that are unlike the others of their class, by what a pretrained backbone sees in them.

A picture of something else altogether, or one that got into the wrong folder, has no near relatives
in its class. Each image is compared with the ten of its class that are nearest to it; those that
have the least in common with these are listed. Of ten icons put among 750 photographs and cut-outs
of animals, food and vehicles, six are among the first twenty; of ten of these put among 2,151
icons, eight (docs/pictures.md). Comparing with all images, of whatever class, finds fewer. Few lie
so far out that they can be told from the odd ones of a class without looking.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from threadpoolctl import threadpool_limits

from ...arrays import Float32Array, Float64Array, Int64Array
from .appearance import distances
from .finding import Finding, pictures
from .neighbours import nearest
from .subject import NotApplicableError, Subject

LISTED = 20
LISTED_SHARE = 0.03
"""At most this share of all is listed."""
FAR = 3.5
"""Distances from the median of all, in standard deviations as the nearer half of the values tells
them, from which on a picture is called far out."""
_NEIGHBOURS = 10
_FEWEST = 12
"""Images of a class in which one can be told from the others."""


def find(subject: Subject) -> Iterator[Finding]:
    """The images that are least like their class, the strangest first."""
    if subject.features is None:
        raise NotApplicableError(
            "needs a pretrained backbone and picture files of more than 40 pixels"
        )
    labels, classes = subject.dataset.labels, subject.dataset.classes
    sizes = np.bincount(labels, minlength=len(classes))
    if sizes.max(initial=0) < _FEWEST:
        raise NotApplicableError(f"needs a class of {_FEWEST} or more images")
    features = subject.features.of_all
    subject.note(f"comparing {len(labels):,} pictures with others of their class")
    judged, likeness = likeness_to_class(features, labels, seed=subject.seed)
    distance = distances(-likeness)
    count = max(1, min(LISTED, int(LISTED_SHARE * len(judged))))
    rows = np.argsort(likeness, kind="stable")[:count]
    usual = {
        label: float(np.median(likeness[labels[judged] == label]))
        for label in np.unique(labels[judged[rows]]).tolist()
    }
    far = int((distance[rows] > FAR).sum())
    yield Finding(
        check="outliers",
        kind="unlike their class",
        severity="note",
        summary=f"The {'picture' if count == 1 else pictures(count)} with the least in common with "
        f"others of {'its' if count == 1 else 'their'} class, by features of "
        f"{subject.features.name}"
        + (f"; {far:,} of them {'lies' if far == 1 else 'lie'} far outside" if far else "")
        + f". {'It' if count == 1 else 'Each'} may show something else, or only be unusual.",
        remedy="Look at each (--html FILE shows them). To leave out what does not belong there, "
        "list the files in a text file: sartor fit --exclude FILE.",
        items=tuple(
            subject.item(
                int(judged[row]),
                f"likeness {likeness[row]:.2f}, usual {usual[int(labels[judged[row]])]:.2f}",
                likeness=round(float(likeness[row]), 6),
                far=bool(distance[row] > FAR),
            )
            for row in rows.tolist()
        ),
        figures={"far": far, "judge": subject.features.name},
    )


def likeness_to_class(
    features: Float32Array, labels: Int64Array, *, seed: int = 0
) -> tuple[Int64Array, Float64Array]:
    """Mean cosine of each image and the ten of its class that are nearest to it.

    Returns:
        Which images were judged, int64 (M,): those of classes that are large enough; and float64
        (M,).
    """
    length = np.linalg.norm(features, axis=1, keepdims=True)
    vectors = (features / np.maximum(length, 1e-9)).astype(np.float32)
    likeness = np.full(len(labels), np.nan)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        if len(rows) < _FEWEST:
            continue
        # Products of this size gain little from more threads, and lose much where cores are busy.
        with threadpool_limits(1):
            found = nearest(vectors[rows], len(rows), _NEIGHBOURS, seed=seed)
        likeness[rows] = found.similarities.mean(axis=1)
    judged = np.flatnonzero(~np.isnan(likeness))
    return judged, likeness[judged]
