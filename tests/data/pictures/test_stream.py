"""Pictures decoded ahead: in order, in chunks that depend on places only, in bounded memory."""

from __future__ import annotations

import io
import threading
import time
import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from sartor.data.pictures.preprocess import Preprocess
from sartor.data.pictures.stream import Undecoded, decoded, unreadable
from sartor.errors import PictureError

SMALL = Preprocess(channels=1, height=4, width=4, resize="letterbox", mean=(0.0,), std=(1.0,))


def png(level: int) -> bytes:
    stream = io.BytesIO()
    Image.new("L", (4, 4), level).save(stream, "PNG")
    return stream.getvalue()


ENCODED = [png(level) for level in range(256)]


def pictures(count: int, *, bad: tuple[int, ...] = ()) -> Iterator[Undecoded]:
    for number in range(count):
        if number in bad:
            yield unreadable(str(number), PictureError(f"{number} is bad.", "Leave it out."))
        else:
            yield Undecoded(str(number), lambda number=number: ENCODED[number % 256])


def test_in_order_whoever_is_slow() -> None:
    def slow(number: int) -> bytes:
        time.sleep(0.002 * (number % 7 == 0))
        return ENCODED[number]

    given = [Undecoded(str(n), lambda n=n: slow(n)) for n in range(200)]
    chunks = list(decoded(given, SMALL, size=48))
    assert [len(chunk.names) for chunk in chunks] == [48, 48, 48, 48, 8]
    assert [name for chunk in chunks for name in chunk.names] == list(map(str, range(200)))
    levels = np.concatenate([chunk.images for chunk in chunks])[:, 0, 0, 0]
    assert levels.tolist() == list(range(200))


def test_what_is_bad_keeps_its_place() -> None:
    bad = (0, 17, 18, 63, 64, 99)
    chunks = list(decoded(pictures(100, bad=bad), SMALL, size=40))
    assert [len(chunk.names) for chunk in chunks] == [40, 40, 20]
    found = [40 * n + place for n, chunk in enumerate(chunks) for place in chunk.faults]
    assert tuple(found) == bad
    levels = np.concatenate([chunk.images for chunk in chunks])[:, 0, 0, 0]
    assert levels.tolist() == [number for number in range(100) if number not in bad]


def test_nothing_and_only_bad_ones() -> None:
    assert list(decoded([], SMALL, size=4)) == []
    (chunk,) = decoded(pictures(3, bad=(0, 1, 2)), SMALL, size=4)
    assert chunk.images.shape == (0, 1, 4, 4)
    assert list(chunk.faults) == [0, 1, 2]


def test_it_reads_only_a_little_ahead() -> None:
    taken = []

    def counted() -> Iterator[Undecoded]:
        for one in pictures(1_000):
            taken.append(one.name)
            yield one

    stream = decoded(counted(), SMALL, size=10)
    next(stream)
    assert len(taken) <= 40
    stream.close()
    assert len(taken) <= 40
    assert not [one for one in threading.enumerate() if one.name.startswith("sartor-decode")]


def test_a_fault_of_ours_is_not_swallowed() -> None:
    def broken() -> bytes:
        raise AssertionError("ours")

    with pytest.raises(AssertionError, match="ours"):
        list(decoded([Undecoded("x", broken)], SMALL, size=4))


def test_one_picture_in_memory_given_many_times() -> None:
    stream = io.BytesIO(ENCODED[7])
    picture = Image.open(stream)
    (chunk,) = decoded([Undecoded("p", lambda: picture)] * 64, SMALL, size=64)
    assert np.unique(chunk.images).tolist() == [7]


def test_a_damaged_picture_in_memory_is_a_fault() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noise).save(stream, "PNG")
    picture = Image.open(io.BytesIO(stream.getvalue()[:2000]))
    (chunk,) = decoded([Undecoded("p", lambda: picture)], SMALL, size=4)
    assert "p is damaged" in chunk.faults[0].message


def test_memory_does_not_grow_with_the_number() -> None:
    stream = decoded(pictures(3_000), SMALL, size=100)
    tracemalloc.start()
    try:
        for _ in range(8):
            next(stream)
        early = tracemalloc.get_traced_memory()[0]
        for _ in stream:
            pass
        late = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert late - early < 300_000
