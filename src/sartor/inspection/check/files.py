"""Files that cannot be read, and files whose name says another format than their content."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import PurePath

import numpy as np

from ...data.pictures.prepare import Prepared
from .finding import Finding, Item
from .subject import NotApplicableError, Subject

UNREADABLE = "unreadable"
SUFFIXES = {
    "AVIF": (".avif", ".avifs"),
    "BMP": (".bmp", ".dib"),
    "GIF": (".gif",),
    "HEIF": (".heic", ".heif", ".hif"),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "MPO": (".mpo", ".jpg", ".jpeg"),
    "PNG": (".png", ".apng"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
}
"""Endings that fit each format; a format that is not here fits any."""
_KNOWN_SUFFIXES = frozenset(suffix for suffixes in SUFFIXES.values() for suffix in suffixes)


def find(subject: Subject) -> Iterator[Finding]:
    """Unreadable and misnamed files."""
    if subject.prepared is None:
        raise NotApplicableError("the set is not made of image files")
    yield from unreadable(subject.prepared, subject.left_out)
    yield from _misnamed(subject)


def unreadable(prepared: Prepared, left_out: Collection[int] = ()) -> Iterator[Finding]:
    """Files that are not pictures, damaged, cut off or empty, and not left out."""
    listing = prepared.listing
    faults = {i: why for i, why in prepared.facts.faults.items() if i not in left_out}
    if not faults:
        return
    names = listing.pictures.names
    yield Finding(
        check="files",
        kind=UNREADABLE,
        severity="error",
        summary=f"{len(faults):,} of {len(listing):,} files cannot be read as images.",
        remedy="Replace them, or leave them out: --quarantine FILE lists them for "
        "sartor fit --exclude FILE. Nothing is deleted.",
        items=tuple(
            Item(
                file=names[index],
                label=listing.classes[listing.labels[index]],
                about=_reason(faults[index], names[index]),
            )
            for index in sorted(faults)
        ),
        figures={"share": len(faults) / len(listing)},
    )


def _reason(fault: str, name: str) -> str:
    """A fault without the name that it begins with."""
    return fault.removeprefix(name).strip().rstrip(".") or fault


def _misnamed(subject: Subject) -> Iterator[Finding]:
    assert subject.prepared is not None
    facts, names = subject.prepared.facts, subject.prepared.listing.pictures.names
    formats = facts.formats[subject.rows].tolist()
    wrong = [
        (index, PurePath(name).suffix.lower(), kind)
        for index, (name, kind) in enumerate(
            zip((names[row] for row in subject.rows.tolist()), formats, strict=True)
        )
        if _contradicts(PurePath(name).suffix.lower(), kind)
    ]
    if not wrong:
        return
    kinds, counts = np.unique(
        [f"{kind} named {suffix}" for _, suffix, kind in wrong], return_counts=True
    )
    listed = ", ".join(f"{count:,} {kind}" for kind, count in zip(kinds, counts, strict=True))
    yield Finding(
        check="files",
        kind="wrong ending",
        severity="warning",
        summary=f"The file extension does not match the content: {listed}.",
        remedy="Rename them: sartor reads files by their content, but other programs may not.",
        items=tuple(subject.item(index, f"is {kind}") for index, _, kind in wrong),
        figures={"kinds": dict(zip(kinds.tolist(), counts.tolist(), strict=True))},
    )


def _contradicts(suffix: str, kind: str) -> bool:
    fitting = SUFFIXES.get(kind)
    return fitting is not None and suffix in _KNOWN_SUFFIXES and suffix not in fitting
