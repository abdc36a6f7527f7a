"""The command that fuzzes: processes of its own, faults kept, figures added up."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import fuzz
import pytest


def test_figures_add_up_and_the_rest_of_the_page_stays(tmp_path: Path) -> None:
    page = tmp_path / "security.md"
    page.write_text(f"before\n{fuzz.BEGIN}\nold\n{fuzz.END}\nafter\n")
    one = {"tried": 10, "taken": 4, "seconds": 36.0, "faults": [], "way": "blind"}
    for _ in range(2):
        fuzz.add(tmp_path / "security.json", "idx", one)
    fuzz.add(tmp_path / "security.json", "npz", one | {"faults": ["IndexError: x"]})
    fuzz.write_page(tmp_path)
    text = page.read_text()
    assert text.startswith(f"before\n{fuzz.BEGIN}\n")
    assert text.endswith(f"{fuzz.END}\nafter\n")
    assert "30 inputs of 2 kinds in 0.0 hours: 12 were read" in text
    assert "18 refused with a sentence and a hint; faults left: 1." in text
    assert "| idx | 20 | 8 | 12 | 1.2 | 0 |" in text


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("", ""),
        ("import os; os.abort()", "the process ended with -6"),
        ("import time; time.sleep(30)", "more than 1 s for one input"),
        ("x = bytearray(300 << 20); import time; time.sleep(30)", "more than 0 GiB of memory"),
    ],
)
def test_a_process_that_ends_badly_is_told(
    code: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fuzz, "MOST_SILENCE", 1 if "1 s" in reason else 60)
    monkeypatch.setattr(fuzz, "FOR_IMPORTS", 3)
    if "bytearray" in code:
        monkeypatch.setattr(fuzz, "MOST_BYTES", 200 << 20)
    with subprocess.Popen([sys.executable, "-c", code]) as worker:
        assert fuzz.watch_over(worker, tmp_path, 60) == reason
