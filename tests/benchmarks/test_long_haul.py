"""A long training in small, and that what grows is named."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

import long_haul
import pytest
from long_haul import Haul, Look


@pytest.fixture(scope="module")
def short() -> Haul:
    return long_haul.haul(1_600)


def test_what_is_seen_on_the_way(short: Haul) -> None:
    assert short.steps == 24 * 68
    assert len(short.looks) == long_haul.LOOKS
    assert [one.step for one in short.looks] == sorted(one.step for one in short.looks)
    assert short.looks[-1].step == short.steps
    assert short.reads > 0
    assert short.torn_reads == 0
    assert all(one.mib > 50 and one.step_us > 1 and one.files > 5 for one in short.looks)
    assert long_haul.from_json(json.dumps(asdict(short))) == short
    assert f"| {short.steps:,} |" in long_haul.table(short)[-1]


LOOK = Look(
    step=1, mib=200, open_files=7, threads=2, files=9, bytes=9000, history_bytes=100, step_us=50
)


def grown(**last: Any) -> list[str]:
    looks = [replace(LOOK, step=step) for step in range(1, 11)]
    looks[5:] = [replace(one, **last) for one in looks[5:]]
    return Haul(steps=10, seconds=1, looks=tuple(looks), reads=4, torn_reads=0).problems


def test_what_grows_is_named() -> None:
    assert grown() == []
    assert grown(history_bytes=10_000, bytes=50_000) == [], "three checkpoints hold the history"
    assert grown(mib=220) == ["memory grew from 200 to 220 MiB"]
    assert grown(open_files=8, threads=3) == [
        "open files grew from 7 to 8",
        "threads grew from 2 to 3",
    ]
    assert grown(files=12) == ["files grew from 9 to 12"]
    assert grown(bytes=20_000) == ["the folder grew from 9,000 to 20,000 bytes"]
    assert grown(step_us=70) == ["a step grew from 50 to 70 µs"]
    torn = Haul(steps=10, seconds=1, looks=(LOOK,) * 10, reads=4, torn_reads=1)
    assert torn.problems == ["1 of 4 times the history was not whole"]
