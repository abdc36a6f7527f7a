"""The benchmark of augmentation measures every word, and says so in a table or in JSON."""

from __future__ import annotations

import json

import augment
import pytest
from augment import Speed, Speeds

from sartor.data.augment.vocabulary import MIXING, STEPS


def test_every_word_is_measured() -> None:
    assert augment._cases()[0] == ["flip", "crop"]
    assert [name for (name,) in augment._cases()[1:]] == list(STEPS)
    mixing = {name for name, kind in STEPS.items() if kind in MIXING}
    assert {name for name in STEPS if augment._mixes([name])} == mixing == {"mixup", "cutmix"}


def test_json_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--words", "flip", "crop", "--rounds", "3", "--count", "500", "--json"]
    assert augment.main([*words, "--threads", "1"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    speeds = json.loads(line)["speeds"]["flip crop"]
    for speed in (speeds["changed"], speeds["batches"]):
        assert 0 < speed["slowest"] <= speed["median"] <= speed["fastest"]


def test_mixed_pictures_are_measured_as_batches_alone() -> None:
    assert augment.measure_batches(["mixup"], rounds=1, threads=1, count=300).median > 0


def test_pillow_is_measured_alike() -> None:
    speed = augment.measure_pillow(rounds=1, count=50)
    assert speed.median == speed.slowest == speed.fastest > 0


def test_the_table_has_a_line_for_each(capsys: pytest.CaptureFixture[str]) -> None:
    table = augment._table({"flip crop": Speeds(Speed(1_234_567.8, 1e6, 2e6), None)})
    assert table[2] == "| flip crop | 1,234,568 (1,000,000 to 2,000,000) | - |"
    assert augment._training({}) == []
    assert augment._training({"r": {"plain": 10.0}})[-1] == "| r | plain | 10 |"
    assert capsys.readouterr().out == ""
