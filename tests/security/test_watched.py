"""What needs an audit hook, which stays until its process ends, runs in processes of its own.

While coverage traces threads, such a hook can make a thread fail to start: it lets another thread
run in the middle of `sys.settrace`, which CPython 3.11 takes for a call within a call.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

WATCHED = Path(__file__).parent / "watched"


@pytest.mark.parametrize("name", sorted(path.name for path in WATCHED.glob("*.py")))
def test_in_a_process_of_its_own(name: str) -> None:
    ours = ("COVERAGE", "COV_", "PYTEST_")
    environment = {key: one for key, one in os.environ.items() if not key.startswith(ours)}
    words = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(WATCHED / name)]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-10_000:] + done.stderr[-2_000:]
