"""Images with equal pixels."""

from __future__ import annotations

import hashlib

import numpy as np

from ...arrays import Int64Array, UInt8Array

_DIGEST_BYTES = 16


def first_equals(images: UInt8Array) -> Int64Array:
    """For each image the number of the first one with the same pixels, itself mostly; int64 (N,).

    Pixels are compared by a cryptographic hash of 128 bits: two different images with the same one
    do not occur.
    """
    digests = b"".join(
        hashlib.blake2b(image.data, digest_size=_DIGEST_BYTES).digest()
        for image in np.ascontiguousarray(images)
    )
    words = np.frombuffer(digests, np.dtype([("high", np.uint64), ("low", np.uint64)]))
    _, first, number = np.unique(words, return_index=True, return_inverse=True)
    firsts: Int64Array = first[number].astype(np.int64, copy=False)
    return firsts
