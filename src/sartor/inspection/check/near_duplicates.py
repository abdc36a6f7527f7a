"""Pictures that are almost equal: recompressed, resized, brightened, mirrored.

A picture is described by 16 x 16 gray values, shifted and scaled so that brightness and contrast
do not count, and compared with its nearest neighbours; of almost equal ones the mean hue must agree
too, since a red and a blue button are two things. Perceptual hashes of 64 bits are made for
photographs: of 20,000 images of MNIST, 3,284 pairs share a pHash and 20,067 a dHash.

What is close depends on the set, since two different "1" are nearer than copies of a photograph
that were compressed. Two pictures are almost equal if they are a tenth as far apart as each is from
its tenth nearest neighbour, or nearer than any two of MNIST (0.0025). So none of MNIST's 70,000
images are, and 99 pairs of Fashion-MNIST: all 42 that correlate by 0.999 or more pixel by pixel,
and others that show one product. 70,000 images take 8 seconds of one core, mirrored copies
included; twice as many take twice as long.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ...arrays import Int64Array, UInt8Array
from .duplicates import (
    ALMOST_EQUAL,
    Clusters,
    clusters_of,
    contradictions,
    leaks,
    repetitions,
)
from .finding import Finding
from .neighbours import nearest
from .subject import Subject

SIDE = 16
SAME_DISTANCE = 0.001
"""One minus the correlation of two descriptions: as near as this is almost equal in any set."""
NEAR_DISTANCE = 0.01
"""Farther apart than this is not almost equal, whatever the set."""
NEAR_RATIO = 0.1
"""Of the distance to the tenth nearest neighbour."""
_GRAY, _COLOURFUL = 0.03, 0.15
"""Saturations below which a picture has no hue, and above which it cannot be a gray one's copy."""
_SAME_HUE = 0.5
"""Cosine between the hues of two pictures; clipped highlights turn a hue, but not by 60 degrees."""
_RANK = 10
_LEAST_STD = 2.0
"""Standard deviation in gray levels; flatter images cannot be recognized."""
_VALUES_AT_A_TIME = 8_000_000


class Pairs(NamedTuple):
    """Images that are almost equal, each pair once."""

    one: Int64Array
    other: Int64Array
    mirrored: npt.NDArray[np.bool_]
    """Whether the other is almost equal to the mirror image of the one."""
    distance: npt.NDArray[np.float32]


def find(subject: Subject) -> Iterator[Finding]:
    """Almost equal pictures with different labels, across parts, and within one part."""
    alone = np.unique(subject.firsts)
    subject.note(f"comparing {len(alone):,} pictures with their nearest neighbours")
    pairs = almost_equal(subject.dataset.images, alone, seed=subject.seed)
    clusters = _joined(pairs, len(subject.dataset))
    about = _descriptions(pairs)
    for finding in (
        *contradictions(subject, clusters, ALMOST_EQUAL),
        *leaks(subject, clusters, ALMOST_EQUAL),
        *repetitions(subject, clusters, ALMOST_EQUAL),
    ):
        items = tuple(replace(item, about=about.get(item.index, "")) for item in finding.items)
        yield replace(finding, items=items)


def almost_equal(images: UInt8Array, among: Int64Array | None = None, *, seed: int = 0) -> Pairs:
    """Pairs of images uint8 (N, C, H, W) that are almost equal; equal ones are too.

    Args:
        among: which images to compare; by default all.
    """
    among = np.arange(len(images)) if among is None else among
    count = len(among)
    vectors = np.concatenate([descriptions(one)[among] for one in (images, images[..., ::-1])])
    found = nearest(vectors, count, min(_RANK, max(count - 1, 1)), seed=seed, alias=count)
    distance = 1 - found.similarities
    usual = np.where(found.rows >= 0, distance, -np.inf).max(axis=1)
    one = np.repeat(np.arange(count), distance.shape[1])
    row, distance = found.rows.ravel(), distance.ravel()
    other, mirrored = row % count, row >= count
    limit = np.minimum(NEAR_RATIO * np.minimum(usual[one], usual[other]), NEAR_DISTANCE)
    near = (row >= 0) & (distance <= np.maximum(limit, SAME_DISTANCE))
    hues = _hues(images, among)
    near &= _alike_in_hue(hues[one], hues[other])
    return _each_once(Pairs(among[one[near]], among[other[near]], mirrored[near], distance[near]))


def descriptions(images: UInt8Array) -> npt.NDArray[np.float32]:
    """float32 (N, D) of length 1, without mean: gray, at most 16 x 16; zeros for flat pictures."""
    count, _, height, width = images.shape
    rows, columns = _averaging(height), _averaging(width)
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


def _hues(images: UInt8Array, among: Int64Array) -> npt.NDArray[np.float32]:
    """float32 (N, C): how each channel's share of a picture's light exceeds an equal share.

    The direction is the hue, the length the saturation.
    """
    step = max(1, _VALUES_AT_A_TIME // images[0].size)
    light = np.concatenate(
        [
            images[among[start : start + step]].mean(axis=(2, 3), dtype=np.float32)
            for start in range(0, len(among), step)
        ]
        or [np.empty((0, images.shape[1]), np.float32)]
    )
    # One gray level more, so that what is nearly black has no hue.
    light += 1
    hues: npt.NDArray[np.float32] = light / light.sum(axis=1, keepdims=True) - 1 / images.shape[1]
    return hues


def _alike_in_hue(
    one: npt.NDArray[np.float32], other: npt.NDArray[np.float32]
) -> npt.NDArray[np.bool_]:
    """Whether two hues (N, C) may be of one picture, brightened, clipped or turned gray."""
    lengths = np.linalg.norm(one, axis=1), np.linalg.norm(other, axis=1)
    low, high = np.minimum(*lengths), np.maximum(*lengths)
    same = (one * other).sum(axis=1) >= _SAME_HUE * low * high
    alike: npt.NDArray[np.bool_] = np.where(low > _GRAY, same, high < _COLOURFUL)
    return alike


def _averaging(length: int) -> npt.NDArray[np.float32]:
    """A matrix that averages `length` pixels over at most 16 equal stretches."""
    count = min(length, SIDE)
    edges = np.arange(count + 1) * (length / count)
    pixel = np.arange(length)
    overlap = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)
    weights: npt.NDArray[np.float32] = (overlap.clip(min=0) * (count / length)).astype(np.float32)
    return weights


def _each_once(pairs: Pairs) -> Pairs:
    """Each pair once, the nearest first; straight, where it is near both ways."""
    low, high = np.minimum(pairs.one, pairs.other), np.maximum(pairs.one, pairs.other)
    order = np.lexsort((pairs.mirrored, high, low))
    low, high = low[order], high[order]
    first = np.ones(len(order), bool)
    first[1:] = (low[1:] != low[:-1]) | (high[1:] != high[:-1])
    chosen = order[first]
    chosen = chosen[np.argsort(pairs.distance[chosen], kind="stable")]
    return Pairs(
        np.minimum(pairs.one, pairs.other)[chosen],
        np.maximum(pairs.one, pairs.other)[chosen],
        pairs.mirrored[chosen],
        pairs.distance[chosen],
    )


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


def _descriptions(pairs: Pairs) -> dict[int | None, str]:
    """The description of an image: its correlation with the nearest, and whether mirrored."""
    about: dict[int | None, str] = {}
    for one, other, mirrored, distance in zip(*(column.tolist() for column in pairs), strict=True):
        text = f"correlation {1 - distance:.5f}" + (", mirrored" if mirrored else "")
        about.setdefault(one, text)
        about.setdefault(other, text)
    return about
