"""IDX files, the format of MNIST and its family, read without trusting a byte of them.

An IDX file is two zero bytes, a byte for the element type, a byte for the number of dimensions,
each dimension as a big-endian 32-bit number, then the elements. It may be compressed with gzip.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ...arrays import Int64Array, UInt8Array
from ...errors import CorruptDataError, DataError
from ...files import explain_os_errors
from ..dataset import Dataset

Content = bytes | bytearray | memoryview

GZIP_MAGIC = b"\x1f\x8b"

_UINT8 = 0x08
_OTHER_TYPES = {0x09: "int8", 0x0B: "int16", 0x0C: "int32", 0x0D: "float32", 0x0E: "float64"}
_MAX_DIMENSIONS = 4
_MAX_HEADER_BYTES = 4 + 4 * _MAX_DIMENSIONS
_MAX_BYTES = 4 << 30
_CHUNK_BYTES = 1 << 20

_FETCH_AGAIN = "Fetch the file again from where it came from."
_GIVE_IDX = "Give a file in IDX format, such as train-images-idx3-ubyte from MNIST."


def read_idx(content: Content, *, source: str) -> UInt8Array:
    """The array in an IDX file of bytes, compressed with gzip or not.

    Args:
        content: the whole file.
        source: what errors call the file.

    Returns:
        uint8 with 1 to 4 dimensions; without compression a view of `content`, not a copy.

    Raises:
        CorruptDataError: the file is not an IDX file of bytes, or damaged, cut short or too long.
    """
    if bytes(content[:2]) == GZIP_MAGIC:
        content = _inflate_idx(content, source)
    shape, start = _read_header(bytes(content[:_MAX_HEADER_BYTES]), source)
    _check_length(len(content), start + math.prod(shape), source)
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def pair(
    images: UInt8Array, labels: UInt8Array, *, images_source: str, labels_source: str
) -> tuple[UInt8Array, Int64Array]:
    """Images and their labels, of the arrays in two IDX files.

    Returns:
        images: uint8 (N, 1, H, W), or with all four dimensions of a file that has four.
        labels: int64 (N,).

    Raises:
        CorruptDataError: the two do not belong together.
    """
    if images.ndim == 1 and labels.ndim >= 3:
        raise CorruptDataError(
            f"The files are swapped: {images_source} holds labels and {labels_source} images.",
            "Name the file of images first.",
        )
    if images.ndim < 3:
        raise CorruptDataError(
            f"{images_source} has {_dimensions(images)}; a file of images has three.", _GIVE_IDX
        )
    if labels.ndim != 1:
        raise CorruptDataError(
            f"{labels_source} has {_dimensions(labels)}; a file of labels has one.", _GIVE_IDX
        )
    if len(images) != len(labels):
        raise CorruptDataError(
            f"{images_source} holds {len(images):,} images, "
            f"but {labels_source} holds {len(labels):,} labels.",
            "Use the two files that were published together.",
        )
    return images[:, None] if images.ndim == 3 else images, labels.astype(np.int64)


def join_parts(
    train: tuple[UInt8Array, Int64Array],
    test: tuple[UInt8Array, Int64Array] | None,
    *,
    val: tuple[UInt8Array, Int64Array] | None = None,
    name: str,
    classes: tuple[str, ...] = (),
) -> Dataset:
    """One dataset of a training part and, after it, others; each is (images, labels).

    Raises:
        DataError: the images of two parts differ in size.
    """
    images, labels = train
    parts = [train]
    places: dict[str, Int64Array | None] = {"val": None, "test": None}
    for part, what, given in (("val", "validation", val), ("test", "test", test)):
        if given is None:
            continue
        if images.shape[1:] != given[0].shape[1:]:
            raise DataError(
                f"The training images of {name} are {_size(images)}, "
                f"its {what} images {_size(given[0])}.",
                "Use files that were published together.",
            )
        start = sum(len(each) for _, each in parts)
        places[part] = np.arange(start, start + len(given[1]))
        parts.append(given)
    if len(parts) > 1:
        images = np.concatenate([each for each, _ in parts])
        labels = np.concatenate([each for _, each in parts])
    return Dataset(images, labels, classes, val=places["val"], test=places["test"], name=name)


def read_file(path: Path) -> memoryview:
    """The bytes of a file that may hold an array, in memory that may be written to."""
    with explain_os_errors(f"read {path}"):
        if path.stat().st_size > _MAX_BYTES + _MAX_HEADER_BYTES:
            raise CorruptDataError(f"{path} is larger than {_MAX_BYTES >> 30} GiB.", _GIVE_IDX)
        # Not read_bytes: PyTorch warns of arrays that it may not write to, such as views of bytes.
        return np.fromfile(path, np.uint8).data


def inflate(content: Content, *, limit: int, source: str) -> bytearray:
    """A gzip file's content, refused where it is damaged or longer than `limit` bytes."""
    with _explain_gzip_errors(source), gzip.GzipFile(fileobj=BytesIO(content)) as stream:
        inflated = bytearray()
        _read_up_to(stream, inflated, limit + 1)
    if len(inflated) > limit:
        raise CorruptDataError(f"{source} inflates to more than {limit:,} bytes.", _FETCH_AGAIN)
    return inflated


def _read_header(head: bytes, source: str) -> tuple[tuple[int, ...], int]:
    """Shape, and the number of bytes before the first element."""
    if len(head) < 4:
        raise CorruptDataError(f"{source} is cut short: it has {len(head)} bytes.", _FETCH_AGAIN)
    zeros, kind, ndim = head[:2], head[2], head[3]
    if zeros != b"\0\0":
        raise CorruptDataError(
            f"{source} is not an IDX file: it begins with the bytes {head[:4].hex(' ')}.", _GIVE_IDX
        )
    if kind != _UINT8:
        name = _OTHER_TYPES.get(kind, f"the unknown type 0x{kind:02x}")
        raise CorruptDataError(
            f"{source} holds elements of {name}, not bytes.", "Give a file of uint8 elements."
        )
    if not 1 <= ndim <= _MAX_DIMENSIONS:
        raise CorruptDataError(
            f"{source} claims {ndim} dimensions; 1 to {_MAX_DIMENSIONS} are possible.", _FETCH_AGAIN
        )
    start = 4 + 4 * ndim
    if len(head) < start:
        raise CorruptDataError(f"{source} is cut short within its header.", _FETCH_AGAIN)
    shape = struct.unpack(f">{ndim}I", head[4:start])
    _check_shape(shape, source)
    return shape, start


def _check_shape(shape: tuple[int, ...], source: str) -> None:
    sizes = " x ".join(f"{size:,}" for size in shape)
    if 0 in shape:
        raise CorruptDataError(f"{source} is empty: it claims {sizes} elements.", _FETCH_AGAIN)
    if math.prod(shape) > _MAX_BYTES:
        raise CorruptDataError(
            f"{source} claims {sizes} elements, more than {_MAX_BYTES >> 30} GiB.", _FETCH_AGAIN
        )


def _check_length(length: int, expected: int, source: str) -> None:
    if length < expected:
        raise CorruptDataError(
            f"{source} is cut short: {length:,} bytes instead of the {expected:,} it announces.",
            _FETCH_AGAIN,
        )
    if length > expected:
        raise CorruptDataError(
            f"{source} is longer than the {expected:,} bytes that it announces.", _FETCH_AGAIN
        )


def _inflate_idx(content: Content, source: str) -> bytearray:
    """The inflated file, at most one byte longer than its header announces."""
    with _explain_gzip_errors(source), gzip.GzipFile(fileobj=BytesIO(content)) as stream:
        inflated = bytearray()
        _read_up_to(stream, inflated, _MAX_HEADER_BYTES)
        shape, start = _read_header(bytes(inflated), source)
        # The byte too many makes gzip reach the end, where the checksum is, and betrays excess.
        _read_up_to(stream, inflated, start + math.prod(shape) + 1)
    return inflated


def _read_up_to(stream: BinaryIO | gzip.GzipFile, into: bytearray, length: int) -> None:
    # In chunks, because a header may announce gigabytes that are not there.
    while len(into) < length:
        chunk = stream.read(min(_CHUNK_BYTES, length - len(into)))
        if not chunk:
            return
        into += chunk


@contextmanager
def _explain_gzip_errors(source: str) -> Iterator[None]:
    try:
        yield
    except EOFError as error:
        message = f"{source} is cut short: its gzip stream does not end."
        raise CorruptDataError(message, _FETCH_AGAIN) from error
    except (zlib.error, gzip.BadGzipFile) as error:
        raise CorruptDataError(
            f"{source} is a damaged gzip file: {error}.", _FETCH_AGAIN
        ) from error


def _dimensions(array: UInt8Array) -> str:
    return "one dimension" if array.ndim == 1 else f"{array.ndim} dimensions"


def _size(images: UInt8Array) -> str:
    return "x".join(map(str, images.shape[1:]))
