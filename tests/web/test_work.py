"""Batches, order, refusals and failures, with networks whose answers are known."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from sartor.api import serving
from sartor.api.serving import Servable
from sartor.arrays import UInt8Array
from sartor.web.limits import Limits
from sartor.web.problems import Problem
from sartor.web.reading import Fault, Picture
from sartor.web.work import Answered, Live, Pool

from .conftest import by_brightness, encoded, gray

Judge = Callable[..., Servable]


class Watcher:
    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.faults: list[Exception] = []

    def batch(self, _model: str, size: int, _seconds: float) -> None:
        self.sizes.append(size)

    def fault(self, _model: str, error: Exception) -> None:
        self.faults.append(error)


@contextmanager
def pool(watcher: Watcher, threads: int = 2, **limits: Any) -> Iterator[Pool]:
    made = Pool(Limits(**limits), threads, watcher)
    try:
        yield made
    finally:
        made.close()


def never() -> bool:
    return False


def pictures(values: Sequence[int]) -> list[Picture | Fault]:
    return [Picture(file=str(value), content=gray(value)) for value in values]


def said(answer: Answered | Fault) -> tuple[str, float]:
    assert isinstance(answer, Answered)
    return answer.said.file, answer.said.probabilities["bright"]


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("at_once", [1, 2])
def test_everybody_has_the_answers_to_the_own_pictures(
    judge: Judge, threads: int, at_once: int
) -> None:
    live = Live(judge(at_once=at_once), 7)
    rng = np.random.default_rng(0)
    requests = [rng.integers(0, 256, rng.integers(1, 6)).tolist() for _ in range(60)]
    watcher = Watcher()

    async def ask() -> list[list[Answered | Fault]]:
        jobs = [made.submit(live, pictures(values), is_gone=never) for values in requests]
        return list(await asyncio.gather(*jobs))

    with pool(watcher, threads) as made:
        found = asyncio.run(ask())
        assert made.waiting == 0
    for values, answers in zip(requests, found, strict=True):
        assert [said(one) for one in answers] == [
            (str(value), pytest.approx(value / 255)) for value in values
        ]
    assert sum(watcher.sizes) == sum(map(len, requests))
    assert 1 < max(watcher.sizes) <= 7


def test_a_bad_picture_is_alone_with_its_fault(judge: Judge) -> None:
    mixed: list[Picture | Fault] = [
        Picture(file="a", content=gray(255)),
        Picture(file="b", content=b"nothing"),
        Fault(file="c", error="c is not base64.", hint=""),
        Picture(file="d", content=encoded(np.zeros((40, 30), np.uint8))),
        Picture(file="e", content=gray(0)),
    ]

    async def ask() -> list[Answered | Fault]:
        return await made.submit(Live(judge(), 8), mixed, is_gone=never)

    with pool(Watcher(), pixels=1000) as made:
        a, b, c, d, e = asyncio.run(ask())
    assert (said(a), said(e)) == (("a", 1.0), ("e", 0.0))
    assert isinstance(b, Fault)
    assert b.error.startswith("b is not a picture")
    assert not b.too_large
    assert c is mixed[2]
    assert isinstance(d, Fault)
    assert d.too_large
    assert d.error == "d has 30 x 40 pixels."


def test_a_picture_that_the_network_fails_on_takes_no_other_along(judge: Judge) -> None:
    def session(images: UInt8Array) -> Any:
        if (images == 13).all(axis=(1, 2, 3)).any():
            raise RuntimeError("unlucky")
        return by_brightness(images)

    async def ask() -> list[Answered | Fault]:
        return await made.submit(live, pictures([1, 13, 2, 13, 3]), is_gone=never)

    live, watcher = Live(judge(session), 8), Watcher()
    with pool(watcher, threads=1) as made:
        answers = asyncio.run(ask())
    assert [isinstance(one, Fault) for one in answers] == [False, True, False, True, False]
    assert [str(one) for one in watcher.faults] == ["unlucky", "unlucky"]


def test_a_large_picture_does_not_keep_small_ones_waiting(
    judge: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Decoding it waits here until the small one has its answer."""
    monkeypatch.setattr("sartor.web.work.LARGE", 100)
    answered = threading.Event()
    large = Picture(file="large", content=encoded(np.full((20, 20), 255, np.uint8)))
    original = type(judge().preprocess).from_stranger

    def waiting(self: Any, content: bytes, name: str, *, max_pixels: int) -> UInt8Array:
        if max_pixels > 100:
            assert answered.wait(60)
        return original(self, content, name, max_pixels=max_pixels)

    monkeypatch.setattr(type(judge().preprocess), "from_stranger", waiting)
    live = Live(judge(), 8)

    async def ask() -> None:
        slow = made.submit(live, [large], is_gone=never)
        (small,) = await made.submit(live, pictures([0]), is_gone=never)
        assert said(small) == ("0", 0.0)
        answered.set()
        assert [said(one) for one in await slow] == [("large", 1.0)]

    with pool(Watcher(), threads=1) as made:
        asyncio.run(ask())


class TestBusy:
    def test_a_full_queue_refuses_and_takes_again(self, judge: Judge) -> None:
        go_on = threading.Event()

        def session(images: UInt8Array) -> Any:
            assert go_on.wait(60)
            return by_brightness(images)

        async def ask() -> None:
            live = Live(judge(session), 2)
            first = made.submit(live, pictures([1, 2, 3]), is_gone=never)
            with pytest.raises(Problem) as refused:
                made.submit(live, pictures([4]), is_gone=never)
            assert refused.value.status == 429
            assert refused.value.headers == {"Retry-After": "1"}
            go_on.set()
            assert len(await first) == 3
            assert len(await made.submit(live, pictures([4]), is_gone=never)) == 1

        with pool(Watcher(), queue=3) as made:
            asyncio.run(ask())

    def test_nothing_is_computed_that_nobody_waits_for(self, judge: Judge) -> None:
        begun, go_on = threading.Event(), threading.Event()
        seen: list[int] = []

        def session(images: UInt8Array) -> Any:
            begun.set()
            assert go_on.wait(60)
            seen.extend(images[:, 0, 0, 0].tolist())
            return by_brightness(images)

        async def ask() -> None:
            live = Live(judge(session), 1)
            first = made.submit(live, pictures([1]), is_gone=never)
            assert await asyncio.to_thread(begun.wait, 60)
            given_up = made.submit(live, pictures([2]), is_gone=never)
            hung_up = made.submit(live, pictures([3]), is_gone=lambda: True)
            last = made.submit(live, pictures([4]), is_gone=never)
            given_up.cancel()
            go_on.set()
            assert await hung_up == [None]
            assert len(await first + await last) == 2

        with pool(Watcher(), threads=1) as made:
            asyncio.run(ask())
            assert made.waiting == 0
        assert seen == [1, 4]


def test_batches_are_as_large_as_pays(judge: Judge, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that takes its time for each call, for each image, or longer for many."""
    now = 0.0

    def taking(seconds: Callable[[int], float]) -> Any:
        def session(images: UInt8Array) -> Any:
            nonlocal now
            now += seconds(len(images))
            return by_brightness(images)

        return judge(session)

    monkeypatch.setattr(serving, "_seconds", lambda action: -now + (action(), now)[1])
    assert taking(lambda _: 0.002).best_batch(64) == 64
    assert taking(lambda _: 0.002).best_batch(16) == 16
    assert taking(lambda count: 0.002 * count).best_batch(64) == 1
    assert taking(lambda count: 0.001 + 0.001 * count).best_batch(64) == 16
    assert taking(lambda count: 0.002 if count < 8 else 0.02).best_batch(64) == 64
    # Others wait for it: no more than 0.1 s.
    assert taking(lambda count: 0.03 + 0.001 * count).best_batch(64) == 32
