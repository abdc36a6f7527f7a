"""Images with equal pixels."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

from ...arrays import AnyArray, Int64Array, UInt8Array

_DIGEST_BYTES = 16


def first_equals(images: UInt8Array) -> Int64Array:
    """For each image the number of the first one with the same pixels, itself mostly; int64 (N,).

    Pixels are compared by a cryptographic hash of 128 bits: two different images with the same one
    do not occur.
    """
    return _firsts(_digests(images))


def first_equals_by(hashes: UInt8Array) -> Int64Array:
    """As `first_equals`, from a hash of each image's pixels that is known, uint8 (N, 32)."""
    words = np.ascontiguousarray(hashes).view(
        [(f"word {number}", np.uint64) for number in range(4)]
    )
    return _firsts(words.ravel())


def contents_of(images: UInt8Array) -> npt.NDArray[np.uint64]:
    """64 bits of a hash of each image's pixels, uint64 (N,): equal images, equal numbers."""
    contents: npt.NDArray[np.uint64] = _digests(images)["high"].astype(np.uint64)
    return contents


def _digests(images: UInt8Array) -> AnyArray:
    digests = b"".join(
        hashlib.blake2b(image.data, digest_size=_DIGEST_BYTES).digest()
        for image in np.ascontiguousarray(images)
    )
    return np.frombuffer(digests, np.dtype([("high", np.uint64), ("low", np.uint64)]))


def _firsts(words: AnyArray) -> Int64Array:
    _, first, number = np.unique(words, return_index=True, return_inverse=True)
    firsts: Int64Array = first[number].astype(np.int64, copy=False)
    return firsts
