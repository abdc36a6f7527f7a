"""A short form of the measurement in docs/work.md."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "shards_killed.py"


@pytest.mark.skipif(sys.platform == "win32", reason="no fork on Windows")
def test_whoever_is_killed_the_result_is_the_same() -> None:
    words = ["--kills", "8", "--pictures", "60", "--tasks", "check", "--json"]
    answer = subprocess.run(
        [sys.executable, str(SCRIPT), *words], capture_output=True, text=True, check=True
    )
    (row,) = json.loads(answer.stdout.splitlines()[-1])
    assert row["equal"]
    assert row["killed"] + row["slept"] >= 8
    assert "Traceback" not in answer.stderr
