"""Pictures that look alike only once they are prepared: by transparency, range or size."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import numpy as np

from ...arrays import Int64Array
from ...data.pictures.flattening import usual_range
from ...data.pictures.indistinct import Hidden, what_is_hidden
from ...data.pictures.prepare import Prepared
from ...data.pictures.value_range import not_finite_in, numbers_of
from .duplicates import clusters_of
from .finding import Finding, graver, pictures
from .subject import Subject

_CLUSTERS_ASKED, _DEEP_ASKED, _FLOATS_ASKED = 20, 64, 512
_NARROW = 0.25
"""Numbers are narrow where they use less than this share of what becomes black to white."""


def find(subject: Subject) -> Iterator[Finding]:
    """Findings of a set that is made of image files."""
    assert subject.prepared is not None
    yield from _equal_once_prepared(subject, subject.prepared)
    yield from _narrow(subject, subject.prepared)
    yield from _not_finite(subject, subject.prepared)


def _equal_once_prepared(subject: Subject, prepared: Prepared) -> Iterator[Finding]:
    """Clusters of equal images whose files differ, by what was hidden of them."""
    files = prepared.facts.file_sha256[subject.rows]
    found: defaultdict[Hidden, list[Int64Array]] = defaultdict(list)
    clusters = [c for c in clusters_of(subject.firsts) if len(np.unique(files[c], axis=0)) > 1]
    for cluster in sorted(clusters, key=len, reverse=True)[:_CLUSTERS_ASKED]:
        rows = subject.rows[cluster].tolist()
        hidden = what_is_hidden(prepared.listing, prepared.settings, rows)
        if hidden:
            found[hidden].append(cluster)
    for hidden, alike in found.items():
        count = sum(map(len, alike))
        share = count / len(subject.dataset)
        yield Finding(
            check="formats",
            kind="hidden differences",
            severity=graver(share),
            summary=f"{pictures(count)} ({share:.2%}) look the same as others once prepared: "
            f"they differ only in {hidden.what}.",
            remedy=f"To show what tells them apart: {hidden.remedy}",
            items=subject.clustered(alike),
            figures={"share": share},
        )


def _narrow(subject: Subject, prepared: Prepared) -> Iterator[Finding]:
    """Deep pictures that use a small part of the range that becomes black to white."""
    deep = np.flatnonzero(prepared.facts.bits[subject.rows] > 8)
    step = max(1, -(-len(deep) // _DEEP_ASKED))
    asked = subject.rows[deep[::step]].tolist()
    numbers = [one for row in asked if (one := numbers_of(prepared.listing, row))]
    if not numbers:
        return
    low = min(low for _, (low, _) in numbers)
    high = max(high for _, (_, high) in numbers)
    black, white = prepared.settings.value_range or usual_range(numbers[0][0], (low, high))
    share = (high - low) / (white - black)
    if low == high or share >= _NARROW:
        return
    yield Finding(
        check="formats",
        kind="narrow range",
        severity="warning",
        summary=f"{pictures(len(deep))} with more than 8 bits use the numbers {low:g} to {high:g} "
        f"of {black:g} to {white:g}: about {max(1, round(share * 256))} of 256 shades are left.",
        remedy=f"To stretch them over all shades: --value-range {low:g},{high:g}",
        items=tuple(subject.item(index) for index in deep.tolist()),
        figures={"low": low, "high": high, "share": share},
    )


def _not_finite(subject: Subject, prepared: Prepared) -> Iterator[Finding]:
    """Pictures of floats, some of which are no numbers."""
    floats = np.flatnonzero(np.char.startswith(prepared.facts.modes[subject.rows], "F"))
    asked = floats[:: max(1, -(-len(floats) // _FLOATS_ASKED))]
    counts = [not_finite_in(prepared.listing, row) or 0 for row in subject.rows[asked].tolist()]
    odd = asked[np.array(counts, np.int64) > 0]
    if not len(odd):
        return
    of_all = "" if len(asked) == len(floats) else f" of {len(asked):,} that were looked at"
    yield Finding(
        check="formats",
        kind="not finite",
        severity="warning",
        summary=f"{pictures(len(odd))}{of_all} hold {sum(counts):,} numbers that are not finite "
        "(nan or inf): they become black, and those of +inf white.",
        remedy="Where nothing was measured, put the number of the background there, and save the "
        "pictures again.",
        items=tuple(subject.item(index) for index in odd.tolist()),
        figures={"pictures": float(len(odd)), "numbers": float(sum(counts))},
    )
