"""Pictures that are stored in a way that surprises: turned, deep, transparent, in motion."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from ...arrays import BoolArray
from ...data.pictures.facts import PictureFacts
from . import hidden
from .finding import Finding, Severity, pictures
from .subject import NotApplicableError, Subject


class Kind(NamedTuple):
    """One way in which a stored picture may surprise."""

    name: str
    severity: Severity
    applies: Callable[[PictureFacts], BoolArray]
    summary: str
    """Follows "N images"; {background} is what lies behind transparent areas, {other} the other."""
    remedy: str


KINDS = (
    Kind(
        "turned",
        "note",
        lambda facts: facts.orientations > 1,
        "rotated or mirrored by an EXIF tag. sartor applies the tag; programs that ignore "
        "it see the images as stored",
        "Nothing to do here. For other programs, rotate the files themselves: "
        "exiftran -ai, or ImageMagick's -auto-orient.",
    ),
    Kind(
        "deep",
        "warning",
        lambda facts: facts.bits > 8,
        "with more than 8 bits per channel, which are scaled to 8: differences finer than 1/255 of "
        "the range are lost",
        "If the interesting values lie in a narrow range (X-rays, depth), stretch that range over "
        "all shades: --value-range LOW,HIGH",
    ),
    Kind(
        "transparent",
        "note",
        lambda facts: _any_mode(facts, ("LA", "La", "PA", "RGBA", "RGBa")),
        "with an alpha channel; transparent areas become {background}",
        "Nothing to do where the pictures stand out from {background}; otherwise: "
        "--background {other}",
    ),
    Kind(
        "palette",
        "note",
        lambda facts: _any_mode(facts, ("P", "PA")),
        "with a palette of at most 256 colours",
        "Nothing to do: they are read as full colour. Fine shades were lost when they were saved.",
    ),
    Kind(
        "ink colours",
        "note",
        lambda facts: _any_mode(facts, ("CMYK", "YCCK", "LAB")),
        "stored in colours for print (CMYK or Lab) and converted without a colour profile",
        "If their colours matter, convert them to sRGB with their profile first.",
    ),
    Kind(
        "several frames",
        "warning",
        lambda facts: facts.frames > 1,
        "with several frames or pages, of which only the first is used",
        "If the others matter too, save each as a separate file.",
    ),
)


def find(subject: Subject) -> Iterator[Finding]:
    """One finding per kind, and one where gray and coloured pictures are mixed."""
    if subject.prepared is None:
        raise NotApplicableError("the set is not made of image files")
    facts, behind = subject.prepared.facts, subject.prepared.geometry.background
    words = {"background": behind, "other": "black" if behind == "white" else "white"}
    for kind in KINDS:
        concerned = np.flatnonzero(kind.applies(facts)[subject.rows])
        if len(concerned):
            yield Finding(
                check="formats",
                kind=kind.name,
                severity=kind.severity,
                summary=f"{pictures(len(concerned))} {kind.summary.format_map(words)}.",
                remedy=kind.remedy.format_map(words),
                items=tuple(
                    subject.item(index, _stored(facts, int(subject.rows[index])))
                    for index in concerned.tolist()
                ),
                figures={"share": len(concerned) / len(subject.dataset)},
            )
    yield from _mixed_colours(subject, facts.grays[subject.rows])
    yield from hidden.find(subject)


def _any_mode(facts: PictureFacts, modes: tuple[str, ...]) -> BoolArray:
    return np.isin(facts.modes, modes)


def _stored(facts: PictureFacts, row: int) -> str:
    parts = [str(facts.formats[row]), str(facts.modes[row])]
    if facts.bits[row] > 8:
        parts.append(f"{facts.bits[row]} bits")
    if facts.orientations[row] > 1:
        parts.append(f"orientation {facts.orientations[row]}")
    if facts.frames[row] > 1:
        parts.append(f"{facts.frames[row]} frames")
    return ", ".join(parts)


def _mixed_colours(subject: Subject, grays: BoolArray) -> Iterator[Finding]:
    channels = subject.dataset.shape[0]
    if channels == 1 or not grays.any():
        return
    share = float(grays.mean())
    if share == 1:
        yield Finding(
            check="formats",
            kind="all gray",
            severity="note",
            summary="All images are gray, but the network gets three identical channels.",
            remedy="--channels 1 trains faster with the same information.",
            figures={"share": share},
        )
        return
    fewer, are = (
        (grays, "gray among colour images")
        if share <= 0.5
        else (~grays, "colour among gray images")
    )
    concerned = np.flatnonzero(fewer)
    yield Finding(
        check="formats",
        kind="gray and colour",
        severity="note",
        summary=f"{len(concerned):,} of {len(grays):,} images are {are}.",
        remedy="If colour does not matter, --channels 1 makes them alike. The check shortcuts "
        "tells whether colour reveals the class.",
        items=tuple(subject.item(index) for index in concerned.tolist()),
        figures={"share": share},
    )
