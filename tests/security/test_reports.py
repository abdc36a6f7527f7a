"""A page is made of a run whose files say anything at all."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from fuzz_inputs import changed

FILES: dict[str, Any] = {
    "findings.json": [
        {
            "check": "duplicates",
            "severity": "warning",
            "summary": "two are equal",
            "count": 2,
            "files": ["a.png", "b.png"],
            "remedy": "Look at them.",
        }
    ],
    "environment.json": {"python": "3.11.7", "packages": {"torch": "2.13"}, "cores": 2},
    "input_ranges.json": {"brightness": [0.1, 0.9], "contrast": [0.0, 0.5]},
    "transfer.json": {"epoch": 0, "sentence": "the head is taken", "rungs": [{"name": "head"}]},
    "engine.json": {"line": "engine: plain", "for": {"open": ["engine"]}},
}
ODD: dict[str, list[Any]] = {
    "findings.json": [[{"files": True}], [1], [{"files": [1, None], "count": "x"}], [{}], {}],
    "environment.json": [{"cores": float("inf")}, {"packages": 3, "arithmetic": [1]}, []],
    "input_ranges.json": [{"brightness": [float("nan"), 1]}, {"contrast": [1, 10**400]}, [1]],
    "transfer.json": [{"epoch": 0}, {"sentence": 3}, [], {"epoch": [1], "sentence": "x"}],
    "engine.json": [{"for": 3}, {"line": {}}, []],
}
CASES = [(name, value) for name, values in ODD.items() for value in values]


@pytest.mark.parametrize(("name", "value"), CASES)
def test_of_values_that_were_a_fault(name: str, value: Any, run_copy: Path, command: Any) -> None:
    (run_copy / name).write_text(json.dumps(value))
    assert command("show", run_copy).exit_code == 0
    answer = command("report", run_copy, "--split", "val")
    assert answer.exit_code == 0, answer.err


def test_of_changed_files(run_copy: Path, command: Any) -> None:
    chance = random.Random(0)
    for _ in range(4):
        for name, value in FILES.items():
            seed = json.dumps(value).encode()
            (run_copy / name).write_bytes(changed([seed], chance, text=True))
        answer = command("report", run_copy, "--split", "val")
        assert answer.exit_code == 0, answer.err
