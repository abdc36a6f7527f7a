"""What simple methods reach on this set: what a network has to beat."""

from __future__ import annotations

from collections.abc import Iterator

from ..baseline import baselines
from .finding import Finding
from .subject import NotApplicableError, Subject

_FEWEST = 20
"""With fewer validation images, an interval says nothing."""


def find(subject: Subject) -> Iterator[Finding]:
    """Baselines, fitted on the training images and judged on the validation images."""
    taught, asked = subject.split.train, subject.split.val
    if len(asked) < _FEWEST or not len(taught):
        raise NotApplicableError(f"needs {_FEWEST} validation images")
    subject.note("fitting simple methods, for a network to beat")
    labels = subject.dataset.labels[asked]
    judged = [one.judged(labels) for one in baselines(subject.dataset, taught, asked, subject.seed)]
    listed = "; ".join(
        f"{one['name']} {one['accuracy']:.0%} "
        f"({one['accuracy_interval'][0]:.0%} to {one['accuracy_interval'][1]:.0%})"
        for one in judged
    )
    yield Finding(
        check="baselines",
        kind="what to beat",
        severity="note",
        summary=f"Simple methods on the {len(asked):,} validation images: {listed}.",
        remedy="A network is worth its trouble if it beats these; sartor report RUN compares them "
        "image by image.",
        figures={"baselines": judged},
    )
