"""Pictures that are almost equal: recompressed, resized, brightened, mirrored, turned.

A picture is described by 16 x 16 gray values, shifted and scaled so that brightness and contrast
do not count, and compared with its nearest neighbours; of almost equal ones the colours must agree
too, since a red and an orange button are two things (`likeness.py`). Perceptual hashes of 64 bits
are made for photographs: of 20,000 images of MNIST, 3,284 pairs share a pHash and 20,067 a dHash.

What is close depends on the set, since two different "1" are nearer than copies of a photograph
that were compressed. Two pictures are almost equal if they are a tenth as far apart as each is from
its tenth nearest neighbour, or nearer than any two of MNIST (0.0025). So none of MNIST's 70,000
images are, and 98 pairs of Fashion-MNIST: all 42 that correlate by 0.999 or more pixel by pixel,
and others that show one product. A second search, among descriptions in which
all orientations of a picture are equal, finds what was turned. 70,000 images take 18 seconds of
one core; twice as many take twice as long.

A pair is a copy for sure where no part of one picture differs from the other by more than
compression explains. Only sure copies across parts are an error.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ...arrays import Float32Array, Int64Array
from .bars import Images, without_bars
from .duplicates import (
    ALMOST_EQUAL,
    TURNED,
    Clusters,
    clusters_of,
    contradictions,
    leaks,
    repetitions,
)
from .finding import Finding
from .likeness import (
    TURNS,
    alike_in_colour,
    alike_in_detail,
    averaging,
    colours_of,
    orientations_of,
    same_in_any_orientation,
    turned,
)
from .neighbours import nearest
from .subject import Subject

SIDE = 16
SAME_DISTANCE = 0.001
"""One minus the correlation of two descriptions: as near as this is almost equal in any set."""
NEAR_DISTANCE = 0.01
"""Farther apart than this is not almost equal, whatever the set."""
NEAR_RATIO = 0.1
"""Of the distance to the tenth nearest neighbour."""
_RANK = 10
_LEAST_STD = 2.0
"""Standard deviation in gray levels; flatter images cannot be recognized."""
_VALUES_AT_A_TIME = 8_000_000
_PAIRS_AT_A_TIME = 20_000
_BACK = np.array([0, 1, 2, 3, 5, 4, 6, 7])
"""The turn that undoes each."""


class Pairs(NamedTuple):
    """Images that are almost equal, each pair once."""

    one: Int64Array
    other: Int64Array
    turn: Int64Array
    """The orientation of the one that the other is almost equal to: a place in `TURNS`."""
    distance: npt.NDArray[np.float32]
    sure: npt.NDArray[np.bool_]
    """Whether the other is a copy of the one for sure."""

    @classmethod
    def of(
        cls, one: Int64Array, other: Int64Array, turn: Int64Array, distance: Float32Array
    ) -> Pairs:
        """Pairs of which none is sure yet."""
        return cls(one, other, turn, distance, np.zeros(len(one), bool))

    @classmethod
    def none(cls) -> Pairs:
        """No pairs."""
        nothing = np.zeros(0, np.int64)
        return cls.of(nothing, nothing, nothing, nothing.astype(np.float32))

    @classmethod
    def together(cls, one: Pairs, other: Pairs) -> Pairs:
        """The pairs of both."""
        columns: Iterator[Any] = zip(one, other, strict=True)
        return cls(*(np.concatenate(column) for column in columns))

    def where(self, chosen: npt.NDArray[Any]) -> Pairs:
        """Some of the pairs, by a mask or by their places."""
        return Pairs(*(column[chosen] for column in self))


def find(subject: Subject) -> Iterator[Finding]:
    """Almost equal pictures with different labels, across parts, and within one part."""
    alone = np.unique(subject.firsts)
    subject.note(f"comparing {len(alone):,} pictures with their nearest neighbours")
    pairs = almost_equal(without_bars(subject), alone, seed=subject.seed)
    clusters = _joined(pairs, len(subject.dataset))
    sure = _joined(pairs.where(pairs.sure), len(subject.dataset))
    # Where direction tells the classes apart, a turned picture has another label with good reason.
    upright = _joined(pairs.where(pairs.sure & (pairs.turn == 0)), len(subject.dataset))
    about = _descriptions(pairs)
    alike = TURNED if (pairs.turn > 0).any() else ALMOST_EQUAL
    for finding in (
        *contradictions(subject, clusters, alike, upright),
        *leaks(subject, clusters, alike, sure),
        *repetitions(subject, clusters, alike),
    ):
        items = tuple(replace(item, **about.get(item.index, {})) for item in finding.items)
        yield replace(finding, items=items)


def almost_equal(images: Images, among: Int64Array | None = None, *, seed: int = 0) -> Pairs:
    """Pairs of images uint8 (N, C, H, W) that are almost equal; equal ones are too.

    Args:
        among: which images to compare; by default all.
    """
    among = np.arange(len(images)) if among is None else among
    upright = descriptions(images)[among]
    shape = _grid(images)
    straight, usual = _beside(upright, shape, seed)
    pairs = _near(Pairs.together(straight, _turned(upright, shape, seed)), usual)
    colours = colours_of(images, among)
    pairs = pairs.where(alike_in_colour(colours, pairs.one, pairs.other, pairs.turn))
    pairs = _each_once(pairs._replace(one=among[pairs.one], other=among[pairs.other]))
    return pairs._replace(sure=alike_in_detail(images, pairs.one, pairs.other, pairs.turn))


def _beside(upright: Float32Array, shape: tuple[int, int], seed: int) -> tuple[Pairs, Float32Array]:
    """Each picture and its nearest neighbours, as they are and mirrored; and the distance of the
    farthest of these, float32 (N,)."""
    count = len(upright)
    mirrored = upright.reshape(-1, *shape)[..., ::-1].reshape(upright.shape)
    vectors = np.concatenate([upright, mirrored])
    found = nearest(vectors, count, min(_RANK, max(count - 1, 1)), seed=seed, alias=count)
    distance = 1 - found.similarities
    usual = np.where(found.rows >= 0, distance, -np.inf).max(axis=1)
    one = np.repeat(np.arange(count), distance.shape[1])
    row = found.rows.ravel()
    pairs = Pairs.of(one, row % count, row // count, distance.ravel())
    return pairs.where(row >= 0), usual


def _turned(upright: Float32Array, shape: tuple[int, int], seed: int) -> Pairs:
    """Each picture and those that may be near it after turning or mirroring, in each such way."""
    count = len(upright)
    vectors = same_in_any_orientation(upright, shape)
    found = nearest(vectors, count, min(_RANK, max(count - 1, 1)), seed=seed)
    # What is not near among these is not near in any orientation.
    one, column = np.nonzero((found.rows >= 0) & (1 - found.similarities <= NEAR_DISTANCE))
    other = found.rows[one, column]
    pairs = Pairs.none()
    for turn in orientations_of(shape)[2:]:
        described = turned(upright.reshape(-1, *shape), turn).reshape(upright.shape)
        distance = np.concatenate(
            [
                1 - np.einsum("nd,nd->n", described[one[some]], upright[other[some]])
                for some in np.array_split(np.arange(len(one)), len(one) // _PAIRS_AT_A_TIME + 1)
            ]
        )
        pairs = Pairs.together(pairs, Pairs.of(one, other, np.full(len(one), turn), distance))
    return pairs


def _near(pairs: Pairs, usual: Float32Array) -> Pairs:
    """Those that are far nearer than pictures of this set usually are."""
    limit = np.minimum(NEAR_RATIO * np.minimum(usual[pairs.one], usual[pairs.other]), NEAR_DISTANCE)
    return pairs.where(pairs.distance <= np.maximum(limit, SAME_DISTANCE))


def descriptions(images: Images) -> npt.NDArray[np.float32]:
    """float32 (N, D) of length 1, without mean: gray, at most 16 x 16; zeros for flat pictures."""
    count, _, height, width = images.shape
    rows, columns = averaging(height, SIDE), averaging(width, SIDE)
    described = np.empty((count, len(rows) * len(columns)), np.float32)
    step = max(1, _VALUES_AT_A_TIME // (height * width))
    for start in range(0, count, step):
        gray = images[start : start + step].mean(axis=1, dtype=np.float32)
        small = (rows @ (gray @ columns.T)).reshape(len(gray), -1)
        small -= small.mean(axis=1, keepdims=True)
        length = np.linalg.norm(small, axis=1, keepdims=True)
        flat = length < _LEAST_STD * np.sqrt(small.shape[1])
        described[start : start + step] = np.where(flat, 0, small / np.where(flat, 1, length))
    return described


def _grid(images: Images) -> tuple[int, int]:
    """Rows and columns of a description."""
    return min(images.shape[2], SIDE), min(images.shape[3], SIDE)


def _each_once(pairs: Pairs) -> Pairs:
    """Each pair once, the nearest first; straight, where it is near both ways."""
    low, high = np.minimum(pairs.one, pairs.other), np.maximum(pairs.one, pairs.other)
    order = np.lexsort((pairs.turn, high, low))
    low, high = low[order], high[order]
    first = np.ones(len(order), bool)
    first[1:] = (low[1:] != low[:-1]) | (high[1:] != high[:-1])
    chosen = pairs.where(order[first])
    # A turn by 90 degrees is one to the other side, seen from the other picture.
    back = np.where(chosen.one > chosen.other, _BACK[chosen.turn], chosen.turn)
    chosen = chosen._replace(
        one=np.minimum(chosen.one, chosen.other),
        other=np.maximum(chosen.one, chosen.other),
        turn=back,
    )
    return chosen.where(np.argsort(chosen.distance, kind="stable"))


def _joined(pairs: Pairs, count: int) -> Clusters:
    """Images that a chain of pairs holds together, the nearest ones first."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(len(pairs.one), bool), (pairs.one, pairs.other)), (count, count))
    _, component = connected_components(graph, directed=False)
    nearest_of = np.full(count, np.inf)
    np.minimum.at(nearest_of, component[pairs.one], pairs.distance)
    clusters = clusters_of(component.astype(np.int64))
    return sorted(clusters, key=lambda cluster: float(nearest_of[component[cluster[0]]]))


def _descriptions(pairs: Pairs) -> dict[int | None, dict[str, Any]]:
    """Of an image, by its nearest: their correlation, the orientation, whether it is sure."""
    about: dict[int | None, dict[str, Any]] = {}
    for one, other, turn, distance, sure in zip(
        *(column.tolist() for column in pairs), strict=True
    ):
        words = [f"correlation {1 - max(distance, 0):.5f}", TURNS[turn]]
        if not sure:
            words.append("not sure")
        text = ", ".join(filter(None, words))
        for image in (one, other):
            about.setdefault(image, {"about": text, "figures": {"sure": sure}})
    return about
