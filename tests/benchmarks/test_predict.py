"""Predicting is measured from files to a file, in turns with what bounds it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import predict
import pytest
from PIL import Image

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


def test_contenders_take_turns_and_the_first_round_is_not_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []
    wall = work = 0.0

    def slow(name: str) -> int:
        nonlocal wall, work
        asked.append(name)
        wall += 0.5 if len(asked) > 2 else 8.0
        work += 0.25
        return 2

    clock = SimpleNamespace(perf_counter=lambda: wall, process_time=lambda: work)
    monkeypatch.setattr(predict, "time", clock)
    figures = predict.in_turns({"a": lambda: slow("a"), "b": lambda: slow("b")}, 2)
    assert asked == ["a", "b"] * 3
    expected = {"wall": [0.25, 0.25], "work": [0.125, 0.125]}
    assert figures == {"a": expected, "b": expected}


def test_a_row_for_a_run_and_one_for_its_bundle(trained: Path, tmp_path: Path) -> None:
    folder, run = tmp_path / "in", tmp_path / "png-mlp"
    folder.mkdir()
    run.symlink_to(trained)
    for level in range(8):
        Image.new("L", (8, 8), 30 * level).save(folder / f"{level}.png")
    rows = list(predict.measured("PNG 8x8", folder, [run], rounds=1))
    assert [row["runtime"] for row in rows] == ["torch", "onnx"]
    for row in rows:
        assert (row["pictures"], row["network"]) == ("PNG 8x8", "mlp")
        assert row["lowest"] <= row["pictures_per_second"] <= row["highest"]
    assert len(predict.table(rows)) == 4


def test_memory_is_looked_at_twice(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "png").mkdir()
    (tmp_path / "png-lenet").symlink_to(trained)
    for number in range(20):
        Image.new("L", (8, 8)).save(tmp_path / "png" / f"{number}.png")
    found = predict.memory_of(tmp_path, 20)
    assert found["pictures"] == 20
    assert 0 < found["peak_megabytes_after_a_tenth"] <= found["peak_megabytes"]
