"""What it costs to bring pictures of many sizes to one: bars, cuts, pixels lost or invented."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from ...arrays import Float64Array
from .finding import Finding, pictures
from .subject import NotApplicableError, Subject

LOST_SHARE = 0.25
"""Of one picture: bars or cuts of so much are named."""
CONCERNED_SHARE = 0.05
"""Of all pictures: from here on, what is named is a warning."""
ENLARGED = 1.5
"""A picture stretched by more has fewer pixels than the network is made for."""
SHRUNK = 8.0
"""A picture reduced by more may lose what it is about."""
EXTREME_ASPECT = 3.0


def find(subject: Subject) -> Iterator[Finding]:
    """What resizing costs each picture."""
    if subject.prepared is None:
        raise NotApplicableError("the set is not made of image files")
    widths, heights = upright_sizes(subject)
    geometry = subject.prepared.geometry
    if len(np.unique(widths)) > 1 or len(np.unique(heights)) > 1:
        seen, size = subject.features, _size(geometry.width, geometry.height)
        if seen is not None and seen.side not in (geometry.width, geometry.height):
            size += f", and to {_size(seen.side, seen.side)} for {seen.name}"
        yield _many_sizes(widths, heights, size)
    yield from _lost(subject, widths, heights)
    yield from _scaled(subject, widths, heights)
    yield from _elongated(subject, widths, heights)


def upright_sizes(subject: Subject) -> tuple[Float64Array, Float64Array]:
    """Widths and heights in pixels as the pictures are meant to be seen, float64 (N,) each."""
    assert subject.prepared is not None
    facts, rows = subject.prepared.facts, subject.rows
    widths, heights = facts.widths[rows].astype(float), facts.heights[rows].astype(float)
    turned = facts.orientations[rows] >= 5
    return np.where(turned, heights, widths), np.where(turned, widths, heights)


def cost(
    widths: Float64Array, heights: Float64Array, width: int, height: int, resize: str
) -> Float64Array:
    """Share of the input that bars take (letterbox), or of the picture that is cut (crop)."""
    aspect, wanted = widths / heights, width / height
    if resize == "stretch":
        return np.zeros(len(widths))
    # The same number both ways: bars take what a picture would lose if it filled the frame.
    return 1 - np.minimum(aspect / wanted, wanted / aspect)


def contents(subject: Subject) -> npt.NDArray[np.int64]:
    """What of each letterboxed image is not a bar: top, left, height, width; int64 (N, 4)."""
    assert subject.prepared is not None
    geometry = subject.prepared.geometry
    widths, heights = upright_sizes(subject)
    scale = np.minimum(geometry.width / widths, geometry.height / heights)
    inner = np.stack([heights * scale, widths * scale]).round().clip(min=1).astype(np.int64)
    outer = np.array([[geometry.height], [geometry.width]])
    corner = np.round((outer - inner) / 2).astype(np.int64)
    return np.concatenate([corner, inner]).T


def _many_sizes(widths: Float64Array, heights: Float64Array, size: str) -> Finding:
    sizes = np.unique(np.stack([widths, heights], axis=1), axis=0)
    return Finding(
        check="geometry",
        kind="many sizes",
        severity="note",
        summary=f"{len(sizes):,} sizes, from {_size(widths.min(), heights.min())} to "
        f"{_size(widths.max(), heights.max())} pixels (median "
        f"{_size(np.median(widths), np.median(heights))}); all are resized to {size}.",
        remedy="Set the common size with --image-size, and how images are fitted to it with "
        "--resize.",
        figures={"sizes": len(sizes)},
    )


def _lost(subject: Subject, widths: Float64Array, heights: Float64Array) -> Iterator[Finding]:
    assert subject.prepared is not None
    geometry = subject.prepared.geometry
    lost = cost(widths, heights, geometry.width, geometry.height, geometry.resize)
    concerned = np.flatnonzero(lost >= LOST_SHARE)
    if not len(concerned):
        return
    share = len(concerned) / len(lost)
    cut = geometry.resize == "crop"
    what = "cut off" if cut else "bars"
    yield Finding(
        check="geometry",
        kind="cut" if cut else "padded",
        severity="warning" if cut and share >= CONCERNED_SHARE else "note",
        summary=(
            f"crop cuts off {LOST_SHARE:.0%} or more of {pictures(len(concerned))} ({share:.1%}); "
            f"on average an image loses {lost.mean():.1%}. The network never sees the edges."
            if cut
            else f"letterbox fills {LOST_SHARE:.0%} or more of {pictures(len(concerned))} "
            f"({share:.1%}) with bars; on average they take {lost.mean():.1%} of the input."
        ),
        remedy="--resize letterbox keeps everything but adds bars."
        if cut
        else "Choose --image-size HEIGHT WIDTH closer to the shape of the images; --resize crop "
        "has no bars but loses the edges.",
        items=tuple(
            subject.item(
                int(index), f"{_size(widths[index], heights[index])}, {lost[index]:.0%} {what}"
            )
            for index in concerned[np.argsort(-lost[concerned], kind="stable")]
        ),
        figures={"mean": float(lost.mean()), "share": share},
    )


def _scaled(subject: Subject, widths: Float64Array, heights: Float64Array) -> Iterator[Finding]:
    assert subject.prepared is not None
    geometry = subject.prepared.geometry
    both = np.stack([geometry.width / widths, geometry.height / heights])
    scale = both.max(axis=0) if geometry.resize == "crop" else both.min(axis=0)
    enlarged = np.flatnonzero(scale > ENLARGED)
    if len(enlarged):
        yield Finding(
            check="geometry",
            kind="enlarged",
            severity="note",
            summary=f"{pictures(len(enlarged))} smaller than {geometry.width} x "
            f"{geometry.height}, enlarged by up to {scale.max():.1f} times: they look blurred, "
            "and a network may recognize them by that.",
            remedy="Lower --image-size, or replace them with larger originals.",
            items=tuple(
                subject.item(int(index), _size(widths[index], heights[index]))
                for index in enlarged[np.argsort(-scale[enlarged], kind="stable")]
            ),
            figures={"most": float(scale.max()), "share": len(enlarged) / len(scale)},
        )
    shrink = 1 / np.median(scale)
    if shrink > SHRUNK:
        yield Finding(
            check="geometry",
            kind="shrunk",
            severity="note",
            summary=f"The median image is reduced {shrink:.0f} times, to "
            f"{geometry.width} x {geometry.height}: one pixel stands for {shrink * shrink:.0f}. "
            "Small details vanish.",
            remedy="Raise --image-size if the classes differ in small details.",
            figures={"shrink": float(shrink)},
        )


def _elongated(subject: Subject, widths: Float64Array, heights: Float64Array) -> Iterator[Finding]:
    aspect = np.maximum(widths / heights, heights / widths)
    typical = np.median(aspect)
    concerned = np.flatnonzero(aspect > EXTREME_ASPECT * typical)
    if len(concerned):
        yield Finding(
            check="geometry",
            kind="elongated",
            severity="note",
            summary=f"{pictures(len(concerned))} much more elongated than the others, up to "
            f"{aspect.max():.0f} times as long as wide (typical: {typical:.1f}).",
            remedy="Look at them: panoramas, screenshots and strips are rarely intended.",
            items=tuple(
                subject.item(int(index), _size(widths[index], heights[index]))
                for index in concerned[np.argsort(-aspect[concerned], kind="stable")]
            ),
            figures={"most": float(aspect.max())},
        )


def _size(width: float, height: float) -> str:
    return f"{width:.0f} x {height:.0f}"
