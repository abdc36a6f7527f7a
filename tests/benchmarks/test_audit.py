"""What is known of dependencies is found, and each has a licence that may be shipped."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import audit
import pytest


def test_every_dependency_has_a_licence_and_no_known_fault() -> None:
    needed = list(audit.dependencies())
    names = {one.name for one in needed}
    assert {"torch", "pillow", "starlette", "pyarrow", "markupsafe"} <= names
    assert "pytest" not in names
    assert all(one.licence and not audit.COPYLEFT.search(one.licence) for one in needed)
    assert audit.too_old(needed) == []


def test_an_old_version_is_found() -> None:
    old = [audit.Installed("pillow", "9.0.0", "MIT-CMU"), audit.Installed("rich", "1.0", "MIT")]
    (found,) = audit.too_old(old)
    assert found.startswith("pillow 9.0.0 is older than ")


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"dependencies": [{"name": "a", "skip_reason": "not found"}]}, None),
        ({"dependencies": [{"name": "a", "version": "1", "vulns": []}]}, []),
        (
            {
                "dependencies": [
                    {"name": "a", "version": "1", "vulns": [{"id": "X-1", "fix_versions": ["2"]}]},
                    {"name": "b", "skip_reason": "not found"},
                ]
            },
            ["a 1: X-1, mended in ['2']"],
        ),
        ("not JSON", None),
    ],
)
def test_what_pip_audit_says(answer: Any, expected: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    text = answer if isinstance(answer, str) else json.dumps(answer)

    def run(line: list[str], **options: Any) -> Any:
        assert "a==1\n" in options["input"]
        return subprocess.CompletedProcess(line, 0, text, "")

    monkeypatch.setattr(audit.subprocess, "run", run)
    assert audit.by_pip_audit([audit.Installed("a", "1", "MIT")]) == expected
