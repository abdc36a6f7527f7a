"""The IDX reader: round trips of what is whole, and a refusal of everything else."""

from __future__ import annotations

import gzip
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from sartor.arrays import Int64Array, UInt8Array
from sartor.data.readers.idx import (
    inflate,
    pair,
    read_file,
    read_idx,
)
from sartor.errors import CorruptDataError, FileError

IMAGES = np.arange(6 * 4 * 5, dtype=np.uint8).reshape(6, 4, 5)
LABELS = np.array([0, 1, 2, 0, 1, 2], dtype=np.uint8)

uint8_arrays = arrays(np.uint8, array_shapes(min_dims=1, max_dims=4, max_side=6))


def to_idx(array: npt.NDArray[np.generic], kind: int = 0x08) -> bytes:
    header = struct.pack(f">2xBB{array.ndim}I", kind, array.ndim, *array.shape)
    return header + array.tobytes()


def header(*shape: int, kind: int = 0x08) -> bytes:
    return struct.pack(f">2xBB{len(shape)}I", kind, len(shape), *shape)


def refusal(content: bytes | bytearray) -> str:
    with pytest.raises(CorruptDataError) as caught:
        read_idx(content, source="the-file")
    assert caught.value.message.startswith("the-file ")
    assert caught.value.message.endswith(".")
    assert caught.value.hint
    return caught.value.message


class TestWhole:
    @settings(deadline=None)
    @given(uint8_arrays)
    def test_reads_what_was_written(self, array: UInt8Array) -> None:
        read = read_idx(to_idx(array), source="x")
        assert read.dtype == np.uint8
        np.testing.assert_array_equal(read, array)

    @settings(deadline=None)
    @given(uint8_arrays, st.integers(0, 9))
    def test_reads_through_gzip(self, array: UInt8Array, level: int) -> None:
        content = gzip.compress(to_idx(array), compresslevel=level)
        np.testing.assert_array_equal(read_idx(content, source="x"), array)

    def test_reads_gzip_of_several_members(self) -> None:
        whole = to_idx(IMAGES)
        content = gzip.compress(whole[:30]) + gzip.compress(whole[30:])
        np.testing.assert_array_equal(read_idx(content, source="x"), IMAGES)

    def test_is_a_view_without_compression(self) -> None:
        content = bytearray(to_idx(LABELS))
        labels = read_idx(content, source="x")
        content[-1] = 77
        assert labels[-1] == 77


class TestDamaged:
    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            (b"", "cut short: it has 0 bytes"),
            (b"\0\0\x08", "cut short: it has 3 bytes"),
            (b"\x89PNG\r\n\x1a\n", "not an IDX file: it begins with the bytes 89 50 4e 47"),
            (b"<!DOCTYPE html>", "not an IDX file"),
            (b"\0\0\x08\x03\0\0", "cut short within its header"),
            (b"\0\0\x08\x00", "claims 0 dimensions"),
            (header(1, 1, 1, 1, 1) + b"x", "claims 5 dimensions"),
            (b"\0\0\x08\xff" + bytes(2000), "claims 255 dimensions"),
            (header(2, 0, 2), "is empty: it claims 2 x 0 x 2"),
            (header(*[0xFFFFFFFF] * 4), "more than 4 GiB"),
            (header(60000, 28, 28), "cut short: 16 bytes instead of the 47,040,016"),
            (header(0xFFFFFFFF) + b"xx", "cut short"),
            (to_idx(IMAGES)[:-1], "cut short: 135 bytes instead of the 136"),
            (to_idx(IMAGES) + b"x", "longer than the 136 bytes"),
        ],
    )
    def test_is_refused_with_its_reason(self, content: bytes, reason: str) -> None:
        assert reason in refusal(content)
        assert refusal(gzip.compress(content))

    @pytest.mark.parametrize(
        ("kind", "name"),
        [
            (0x09, "int8"),
            (0x0B, "int16"),
            (0x0C, "int32"),
            (0x0D, "float32"),
            (0x0E, "float64"),
            (0x0A, "0x0a"),
            (0xFF, "0xff"),
        ],
    )
    def test_other_types_are_named(self, kind: int, name: str) -> None:
        assert name in refusal(to_idx(np.zeros(8, np.float64), kind))

    @settings(deadline=None)
    @given(st.binary(max_size=200))
    def test_arbitrary_bytes_are_refused_or_read_faithfully(self, content: bytes) -> None:
        try:
            array = read_idx(content, source="x")
        except CorruptDataError:
            return
        assert to_idx(array) == content

    @settings(deadline=None)
    @given(st.binary(max_size=60), st.booleans())
    def test_arbitrary_bytes_after_a_valid_start(self, tail: bytes, compressed: bool) -> None:
        content = b"\0\0\x08" + tail
        try:
            array = read_idx(gzip.compress(content) if compressed else content, source="x")
        except CorruptDataError:
            return
        assert to_idx(array) == content

    @settings(deadline=None)
    @given(uint8_arrays, st.data())
    def test_a_flipped_bit_is_refused_or_moves_one_element(
        self, array: UInt8Array, data: st.DataObject
    ) -> None:
        content = bytearray(to_idx(array))
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] ^= 1 << data.draw(st.integers(0, 7))
        start = 4 + 4 * array.ndim
        if place < start:
            # Without a checksum, what protects the header is that it must fit the length.
            with pytest.raises(CorruptDataError):
                read_idx(content, source="x")
        else:
            changed = read_idx(content, source="x") != array
            assert np.flatnonzero(changed).tolist() == [place - start]

    @settings(deadline=None)
    @given(st.data())
    def test_gzip_with_a_flipped_bit_is_refused_or_reads_the_truth(
        self, data: st.DataObject
    ) -> None:
        content = bytearray(gzip.compress(to_idx(IMAGES)))
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] ^= 1 << data.draw(st.integers(0, 7))
        try:
            array = read_idx(content, source="x")
        except CorruptDataError:
            return
        np.testing.assert_array_equal(array, IMAGES)  # a bit of gzip's own header, such as the time

    def test_gzip_with_a_wrong_checksum_is_refused(self) -> None:
        content = bytearray(gzip.compress(to_idx(IMAGES)))
        content[-8] ^= 1
        assert "damaged gzip file" in refusal(content)

    def test_every_truncation_is_refused(self) -> None:
        whole = to_idx(IMAGES)
        for content in (whole, gzip.compress(whole)):
            for length in range(len(content)):
                refusal(content[:length])

    def test_excess_after_gzip_is_refused(self) -> None:
        refusal(gzip.compress(to_idx(IMAGES)) + b"excess")
        refusal(gzip.compress(to_idx(IMAGES) + b"x"))


class TestBounds:
    """Neither a bomb nor a lying header may take memory."""

    def peak_bytes(self, content: bytes) -> int:
        tracemalloc.start()
        try:
            refusal(content)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    def test_a_bomb_is_not_inflated_past_what_it_announces(self) -> None:
        bomb = gzip.compress(to_idx(LABELS) + bytes(64 << 20))
        assert self.peak_bytes(bomb) < 4 << 20

    def test_a_lying_header_allocates_nothing(self) -> None:
        assert self.peak_bytes(gzip.compress(header(0xFFFFFFFF))) < 4 << 20
        assert self.peak_bytes(header(0xFFFFFFFF)) < 1 << 20

    def test_inflate_stops_at_its_limit(self) -> None:
        content = gzip.compress(b"a" * 1000)
        assert inflate(content, limit=1000, source="x") == b"a" * 1000
        with pytest.raises(CorruptDataError, match="more than 999 bytes"):
            inflate(content, limit=999, source="x")


Write = Callable[[str, npt.NDArray[np.generic]], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(name: str, array: npt.NDArray[np.generic]) -> Path:
        content = to_idx(array)
        path = tmp_path / name
        path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        return path

    return write


def read_pair(images: Path, labels: Path) -> tuple[UInt8Array, Int64Array]:
    """Images and their labels, from two IDX files."""
    return pair(
        read_idx(read_file(images), source=str(images)),
        read_idx(read_file(labels), source=str(labels)),
        images_source=str(images),
        labels_source=str(labels),
    )


class TestPair:
    @pytest.mark.parametrize("suffix", ["", ".gz"])
    def test_gives_channels_and_wide_labels(self, write: Write, suffix: str) -> None:
        images, labels = read_pair(write("i" + suffix, IMAGES), write("l" + suffix, LABELS))
        assert images.shape == (6, 1, 4, 5)
        assert images.dtype == np.uint8
        np.testing.assert_array_equal(images[:, 0], IMAGES)
        assert labels.dtype == np.int64
        assert labels.tolist() == LABELS.tolist()
        assert images.flags.writeable  # else PyTorch warns

    def test_keeps_four_dimensions(self, write: Write) -> None:
        colours = np.zeros((6, 3, 4, 5), np.uint8)
        images, _ = read_pair(write("i", colours), write("l", LABELS))
        assert images.shape == (6, 3, 4, 5)

    @pytest.mark.parametrize(
        ("images", "labels", "reason"),
        [
            (LABELS, IMAGES, "swapped"),
            (LABELS, LABELS, "one dimension; a file of images has three"),
            (IMAGES[0], LABELS, "2 dimensions; a file of images has three"),
            (IMAGES, IMAGES, "3 dimensions; a file of labels has one"),
            (IMAGES, LABELS[:5], "holds 6 images, but .* holds 5 labels"),
        ],
    )
    def test_refuses_what_does_not_belong_together(
        self, write: Write, images: UInt8Array, labels: UInt8Array, reason: str
    ) -> None:
        with pytest.raises(CorruptDataError, match=reason):
            read_pair(write("i", images), write("l", labels))

    def test_a_missing_file_is_a_file_error(self, write: Write, tmp_path: Path) -> None:
        with pytest.raises(FileError, match="no such file"):
            read_pair(tmp_path / "none", write("l", LABELS))

    def test_a_huge_file_is_refused_unread(self, write: Write, tmp_path: Path) -> None:
        huge = tmp_path / "huge"
        with huge.open("wb") as stream:
            stream.truncate(5 << 30)  # sparse: it takes no space
        with pytest.raises(CorruptDataError, match="larger than 4 GiB"):
            read_pair(huge, write("l", LABELS))
