"""Pictures that show nothing, or far less than the others of the set: blank, dark, bright, blurred.

All but blank is judged against the set itself, since drawn digits are dark and X-rays blurred by
nature. An outlier lies so far from the median that, were the values normal, one in 10^6 would.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ...arrays import Float64Array, Int64Array, UInt8Array
from .finding import Finding, Severity, pictures
from .geometry import contents
from .subject import Subject

BLANK = "blank"
BLANK_STD = 2.0
"""Standard deviation in gray levels of 255; compression artefacts alone reach as much."""
FAR = 5.0
"""Distances from the median, in standard deviations as the nearer half of the values tells them."""
_FEWEST = 20
"""With fewer images no outliers are reported."""
_TO_SIGMA = 1.4826
_VALUES_AT_A_TIME = 4_000_000


class Looks(NamedTuple):
    """What each image looks like as a whole; float64 (N,) each."""

    brightness: Float64Array
    """Mean gray level, 0 to 255."""
    std: Float64Array
    """Standard deviation of the gray levels."""
    edges: Float64Array
    """Standard deviation of the Laplacian over that of the gray levels: low where blurred."""


def find(subject: Subject) -> Iterator[Finding]:
    """Blank pictures, and outliers in brightness and sharpness."""
    subject.note(f"measuring brightness and sharpness of {len(subject.dataset):,} pictures")
    looks = _looks_of_contents(subject)
    blank = looks.std < BLANK_STD
    yield from _found(
        subject,
        np.flatnonzero(blank),
        looks.brightness,
        kind=BLANK,
        severity="warning",
        summary="a single colour",
        remedy="Leave them out (--quarantine FILE lists them), unless blank images are a class.",
        unit="gray level {:.0f}",
    )
    rest = np.flatnonzero(~blank)
    if len(rest) < _FEWEST:
        return
    # The square root evens out the skew of sets that are dark by nature.
    distance = distances(np.sqrt(looks.brightness[rest]))
    for kind, far in (("very dark", distance < -FAR), ("very bright", distance > FAR)):
        yield from _found(
            subject,
            rest[far],
            looks.brightness if kind == "very dark" else -looks.brightness,
            kind=kind,
            severity="note",
            summary=f"{kind} compared with the rest of the set "
            f"(median gray level {np.median(looks.brightness[rest]):.0f} of 255)",
            remedy="Look at them: an over- or underexposed image carries little information.",
            unit="gray level {:.0f}",
        )
    blurred = distances(np.log(looks.edges[rest] + 1e-6)) < -FAR
    yield from _found(
        subject,
        rest[blurred],
        looks.edges,
        kind="blurred",
        severity="note",
        summary="blurred compared with the rest of the set "
        f"(median sharpness {np.median(looks.edges[rest]):.2f})",
        remedy="Look at them and leave out what you could not recognize yourself.",
        unit="sharpness {:.2f}",
    )


def looks_of(images: UInt8Array) -> Looks:
    """Brightness, standard deviation and sharpness of images uint8 (N, C, H, W)."""
    everything = np.arange(len(images))
    return _looks(images, [(everything, (0, 0, *images.shape[2:]))])


def _looks_of_contents(subject: Subject) -> Looks:
    """What the pictures look like, without the bars that letterbox put around some of them."""
    images = subject.dataset.images
    if subject.prepared is None or subject.prepared.geometry.resize != "letterbox":
        return looks_of(images)
    frames, number = np.unique(contents(subject), axis=0, return_inverse=True)
    return _looks(
        images,
        [(np.flatnonzero(number == place), tuple(frame)) for place, frame in enumerate(frames)],
    )


def _looks(images: UInt8Array, frames: Iterable[tuple[Int64Array, tuple[int, ...]]]) -> Looks:
    """Looks of what lies within a frame: (indices, (top, left, height, width)), ..."""
    looks = Looks(*(np.empty(len(images)) for _ in Looks._fields))
    step = max(1, _VALUES_AT_A_TIME // images[0].size)
    for indices, (top, left, height, width) in frames:
        for start in range(0, len(indices), step):
            some = indices[start : start + step]
            seen = images[some][:, :, top : top + height, left : left + width]
            gray = seen.mean(axis=1, dtype=np.float32)
            looks.brightness[some] = gray.mean(axis=(1, 2))
            looks.std[some] = gray.std(axis=(1, 2))
            looks.edges[some] = _laplacian(gray).std(axis=(1, 2))
    looks.edges[:] /= np.maximum(looks.std, BLANK_STD)
    return looks


def distances(values: Float64Array) -> Float64Array:
    """How far each value is from the median, in robust standard deviations of its own side.

    Each side has its own median distance, so skew by itself makes no outliers. Where
    half of a side lies on the median, nothing of that side is far.
    """
    offset = values - np.median(values)
    scaled = np.zeros_like(offset)
    for side in (offset < 0, offset > 0):
        inner = np.median(np.abs(offset[side | (offset == 0)])) if side.any() else 0.0
        if inner:
            scaled[side] = offset[side] / (_TO_SIGMA * inner)
    return scaled


def _laplacian(gray: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The discrete Laplacian inside the border; (N, H, W) -> (N, H - 2, W - 2)."""
    if min(gray.shape[1:]) < 3:
        return np.zeros((len(gray), 1, 1), np.float32)
    around = gray[:, :-2, 1:-1] + gray[:, 2:, 1:-1] + gray[:, 1:-1, :-2] + gray[:, 1:-1, 2:]
    laplacian: npt.NDArray[np.float32] = around - 4 * gray[:, 1:-1, 1:-1]
    return laplacian


def _found(
    subject: Subject,
    indices: Int64Array,
    values: Float64Array,
    *,
    kind: str,
    severity: Severity,
    summary: str,
    remedy: str,
    unit: str,
) -> Iterator[Finding]:
    if not len(indices):
        return
    order = indices[np.argsort(values[indices], kind="stable")]
    yield Finding(
        check="appearance",
        kind=kind,
        severity=severity,
        summary=f"{pictures(len(indices))}: {summary}.",
        remedy=remedy,
        items=tuple(subject.item(index, unit.format(abs(values[index]))) for index in order),
        figures={"share": len(indices) / len(subject.dataset)},
    )
