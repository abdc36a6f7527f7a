"""Faults are planted as they are called, each result is kept, and the tables add up."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import planted
import pytest
from PIL import Image


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two sets of two classes: blocks of noise in which a disc is opaque."""
    generator = np.random.default_rng(0)
    shape = np.hypot(*np.mgrid[-1.2:1.2:32j, -1.2:1.2:32j]) < 1
    for data in planted.SETS:
        for number in range(24):
            path = tmp_path / data / ("one", "two")[number % 2] / f"{number:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            blocks = generator.integers(0, 256, (8, 8, 3), np.uint8).repeat(4, 0).repeat(4, 1)
            alpha = 255 * shape[..., None].astype(np.uint8)
            Image.fromarray(np.concatenate([blocks, alpha], axis=2)).save(path)
    return tmp_path


def kind(name: str) -> planted.Kind:
    return next(one for one in planted.KINDS if one.name == name)


@pytest.mark.parametrize("name", ["exact copy", "copy as JPEG", "turned by EXIF"])
def test_what_is_planted_is_found_and_the_set_stays(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(planted, "COUNT", 3)
    before = sorted(path.stat().st_mtime_ns for path in folder.rglob("*.png"))
    figures = planted._of_kind(kind(name), folder / "icons", 0)
    assert figures == {"planted": 3, "found": 3, "missed": 0, "false": 0}
    assert sorted(path.stat().st_mtime_ns for path in folder.rglob("*.png")) == before


def test_a_silhouette_is_told_only_by_its_alpha(folder: Path) -> None:
    path = folder / "icons" / "one" / "00.png"
    assert planted._transparent(path)
    copy = planted._silhouette(path, random.Random(0))
    for each, side in ((path, 32), (copy, 22)):
        with Image.open(each) as picture:
            assert picture.size == (side, side)
            assert picture.convert("RGB").getextrema() == ((0, 0),) * 3
            assert picture.getchannel("A").getextrema() == (0, 255)


def test_results_are_kept_and_not_measured_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    results = tmp_path / "planted.json"
    monkeypatch.setattr(planted, "RESULTS", results)
    monkeypatch.setattr(planted, "COUNT", 2)
    monkeypatch.setattr(planted, "KINDS", [kind("exact copy"), kind("wrong suffix")])
    monkeypatch.setattr(planted, "SHARES", ())
    monkeypatch.setattr(planted, "SEEDS", 0)
    assert planted.measure(folder, only="icons", minutes=0) == []
    first = planted.measure(folder, only="icons")
    assert [one.kind for one in first] == ["exact copy", "wrong suffix"]
    kept = json.loads(results.read_text())
    assert len(kept["results"]) == 2
    assert len(kept["machines"]) == 1

    def never(*_: object) -> dict[str, float]:
        raise AssertionError("it is known")

    monkeypatch.setattr(planted, "_of_kind", never)
    assert planted.measure(folder, only="icons") == first
    with pytest.raises(AssertionError, match="it is known"):
        planted.measure(folder, only="photos")


def test_tables_give_means_over_the_draws() -> None:
    def result(kind: str, features: str, seed: int, **figures: float) -> planted.Result:
        return planted.Result(
            data="icons", kind=kind, features=features, seed=seed, figures=dict(figures)
        )

    judged = {"planted": 43, "named": 60, "named_wrong": 30, "at_most": 64, "agreement": 0.84}
    lines = planted.tables(
        [
            result("exact copy", "auto", 0, planted=20, found=19, missed=1, false=2),
            result("wrong labels, 2%", "auto", 0, first_24_wrong=23, **judged),
            result("wrong labels, 2%", "auto", 1, first_24_wrong=20, **judged),
            result(
                "strangers", "auto", 0, planted=10, first_10=4, first_20=7, far_right=1, far_wrong=0
            ),
        ]
    )
    assert "| icons | exact copy | 20 | 19 | 1 | 2 |" in lines
    row = "| icons | features | 2 | 43 | 60 | 30 | 21.5 (20 to 23) | 64 | 84% |"
    assert row in lines
    assert "| icons | 1 | 10 | 4 | 7 | 1 | 0 |" in lines
