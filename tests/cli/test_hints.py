"""Commands in hints can be copied into a shell, whatever the paths in them look like."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

import sartor
from sartor.api.opened import load_checkpoint
from sartor.api.precheck import grave_lines
from sartor.errors import RunError
from sartor.runs.folder import RunFolder

SOURCES = Path(sartor.__file__).parent
A_COMMAND = re.compile(r"sartor [a-z]+ (?:--[a-z]+ )?\{(?P<value>[^{}]+)\}")
QUOTED_BEFORE = {"path", "_AGAIN", "FORMAT"}


def test_what_stands_behind_a_command_is_quoted() -> None:
    found = [
        f"{path.relative_to(SOURCES)}: {match[0]}"
        for path in SOURCES.rglob("*.py")
        for match in A_COMMAND.finditer(path.read_text())
        if "shlex." not in match["value"] and match["value"] not in QUOTED_BEFORE
    ]
    assert found == []


def test_a_run_in_a_folder_with_spaces(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "my run; or two")
    folder.path.mkdir()
    with pytest.raises(RunError) as caught:
        load_checkpoint(folder, "last")
    assert shlex.split(caught.value.hint)[-3:] == ["sartor", "resume", str(folder.path)]


def test_data_in_a_folder_with_spaces() -> None:
    finding = {"severity": "error", "summary": "No."}
    *_, line = grave_lines([finding], "my data")  # type: ignore[list-item]
    assert shlex.split(line)[-3:] == ["sartor", "check", "my data"]
