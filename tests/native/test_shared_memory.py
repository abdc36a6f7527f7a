"""Exchanges through memory that processes share, by threads in place of most of the processes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from sartor import native_module, shared_memory

pytestmark = pytest.mark.skipif(
    native_module.module() is None or not hasattr(os, "memfd_create"),
    reason="needs the engine native, and Linux",
)
SIZE = 3


def members(seconds: float = 60, ended: int | None = None) -> list[Any]:
    """One for each process; `ended` is a process in the place of the last."""
    module: Any = native_module.module()
    made = shared_memory.made(SIZE)
    assert made is not None
    room, offer = made
    rooms = [room, *(shared_memory.opened(offer, SIZE) for _ in range(SIZE - 1))]
    processes = [os.getpid()] * (SIZE - 1) + [ended or os.getpid()]
    found = []
    for rank, own in enumerate(rooms):
        assert own is not None
        found.append(own.joined(rank, processes, seconds))
        own.close_file()
    assert all(isinstance(one, module.SharedMemory) for one in found)
    return found


def each(work: Callable[[int], None], ranks: range = range(SIZE)) -> None:
    """Do it at once for all; what one raises is raised here."""
    errors: list[BaseException] = []

    def one(rank: int) -> None:
        try:
            work(rank)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=one, args=(rank,)) for rank in ranks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def test_sums_are_those_of_a_loop_over_the_processes_whatever_their_length() -> None:
    shared = members()
    for length in (1, 1000, (1 << 20) + 5):
        rows = np.random.default_rng(length).standard_normal((SIZE, length)).astype(np.float32)
        expected = (rows[0] + rows[1]) + rows[2]

        def add(rank: int, rows: Any = rows, expected: Any = expected) -> None:
            values = rows[rank].copy()
            shared[rank].add_up(values)
            np.testing.assert_array_equal(values, expected)

        each(add)


def test_everybody_has_what_everybody_gave_round_after_round() -> None:
    shared = members()

    def gather(rank: int) -> None:
        for round_ in range(300):
            own = np.array([rank, round_ % 251], np.uint8)
            out = np.empty(2 * SIZE, np.uint8)
            shared[rank].gather(own, out)
            assert out.tolist() == [n for k in range(SIZE) for n in (k, round_ % 251)]

    each(gather)


def test_who_waits_learns_that_one_has_left_or_ended_or_says_nothing() -> None:
    values = np.ones(4, np.float32)
    shared = members()
    shared[2].leave()
    with pytest.raises(RuntimeError, match="process 2 has ended"):
        each(lambda rank: shared[rank].add_up(values.copy()), range(2))
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    watching = members(ended=process.pid)
    process.kill()  # and not waited for: what is left of it still has its number
    with pytest.raises(RuntimeError, match="process 2 has ended"):
        each(lambda rank: watching[rank].add_up(values.copy()), range(2))
    process.communicate()
    impatient = members(seconds=0.2)
    with pytest.raises(RuntimeError, match="process 2 was silent"):
        each(lambda rank: impatient[rank].add_up(values.copy()), range(2))


def test_memory_is_known_by_its_mark() -> None:
    made = shared_memory.made(SIZE)
    assert made is not None
    room, offer = made
    assert shared_memory.opened(offer, SIZE) is not None
    assert shared_memory.opened(offer._replace(mark="00" * 16), SIZE) is None
    assert shared_memory.opened(offer._replace(descriptor=1 << 20), SIZE) is None
    assert shared_memory.opened(offer._replace(process=1 << 23), SIZE) is None
    room.close_file()


def test_what_does_not_fit_is_refused() -> None:
    module: Any = native_module.module()
    memory = np.zeros(module.SharedMemory.bytes(2) + 64, np.uint8)
    start = -memory.ctypes.data % 64
    memory = memory[start : start + module.SharedMemory.bytes(2)]
    for given, sentence in (
        ((memory[:-1], 0, [0, 0], 1.0), "bytes"),
        ((memory, 2, [0, 0], 1.0), "rank 2"),
        ((memory, -1, [0, 0], 1.0), "rank -1"),
        ((memory, 0, [], 1.0), "rank 0"),
        ((memory, 0, [0, 0], 0.0), "seconds"),
        ((memory[1:], 0, [0], 1.0), "multiple of 64"),
    ):
        with pytest.raises(ValueError, match=sentence):
            module.SharedMemory(*given)
    shared = module.SharedMemory(memory, 0, [-1, -1], 1.0)
    with pytest.raises(ValueError, match="2 times 3 bytes"):
        shared.gather(np.zeros(3, np.uint8), np.zeros(5, np.uint8))
