"""A few seconds of what `hostile.py` does for minutes."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import hostile
import pytest

from sartor import api


def test_good_requests_are_answered_right_among_hostile_ones(
    start: Callable[..., subprocess.Popen[str]],
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    api.export(trained, tmp_path / "digits.zip")
    pictures, rows = hostile.right_answers(tmp_path / "digits.zip")
    server = start("serve", tmp_path / "digits.zip", "--port", 0, "--json", "--log", "errors")
    assert server.stdout is not None
    port = int(json.loads(server.stdout.readline())["url"].rpartition(":")[2])
    seen = asyncio.run(hostile.attack(port, server.pid, 6, pictures, rows))
    server.terminate()
    _, log = server.communicate(timeout=120)
    assert server.returncode == 143
    assert seen.faults == []
    assert '"event": "failure"' not in log
    assert max(seen.memory) < 600e6
    # On a busy machine there is not the time for every kind.
    assert len(seen.hostile) > 4
    page = tmp_path / "security.md"
    page.write_text(f"a\n{hostile.BEGIN}\nold\n{hostile.END}\nb\n")
    hostile.write_page(tmp_path, 6, seen, 0)
    assert page.read_text().startswith(f"a\n{hostile.BEGIN}\n- 0.1 minutes, 4 good and 8 hostile")
    assert f"{seen.right:,} good requests were answered right, 0 wrong" in page.read_text()
    assert page.read_text().endswith(f"{hostile.END}\nb\n")
