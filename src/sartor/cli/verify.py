"""`sartor verify`: whether a bundle still is what was exported. Its flags, call and printing."""

from __future__ import annotations

import os
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tyro.conf import Positional

from ..wording import one_line
from .output import print_json

if TYPE_CHECKING:
    from ..api.verifying import Check

_WIDTH = 80
_COLUMNS = 26


@dataclass(frozen=True, kw_only=True)
class Verify:
    """Check every file of a bundle, and replay its golden examples in every runtime it supports."""

    bundle: Positional[str]
    """A bundle's folder or .zip."""
    url: str | None = None
    """Also check a server that serves it, such as http://127.0.0.1:8000. Its token, if it needs
    one, goes into the variable SARTOR_TOKEN."""
    browser: bool = False
    """Also check the page of `export --web`, in headless Chromium."""
    trust: bool = False
    """Run code in the bundle (its Python file, its program.pt2), whoever exported it."""
    json: bool = False
    """Print the result as one line of JSON."""


def verify(given: Verify) -> int:
    """Exit code 0 where all checks are passed, else 1."""
    from .. import api

    shown = _Table()
    found = api.verify(
        given.bundle,
        url=given.url,
        token=os.environ.get("SARTOR_TOKEN"),
        browser=given.browser,
        trust=given.trust,
        on_check=(lambda _check: None) if given.json else shown.add,
    )
    if given.json:
        print_json(found.to_json())
    else:
        failed = sum(not check.ok for check in found.checks)
        print()
        print(
            f"{one_line(found.bundle)}: {failed} of {len(found.checks)} checks failed."
            if failed
            else f"{one_line(found.bundle)}: all {len(found.checks)} checks passed."
        )
    return 0 if found.ok else 1


class _Table:
    """Checks as they come, under headings as soon as there is one."""

    def __init__(self) -> None:
        self._begun = False

    def add(self, check: Check) -> None:
        """Print a line, and more where the detail is long."""
        if not self._begun:
            print(f"{'check':<10}{'difference':<12}{'':<4}result")
            self._begun = True
        difference = "" if check.largest_difference is None else _number(check.largest_difference)
        mark = "ok" if check.ok else "NO"
        width = _WIDTH - _COLUMNS
        lines = textwrap.wrap(one_line(check.detail), width, break_on_hyphens=False) or [""]
        print(f"{check.name:<10}{difference:<12}{mark:<4}{lines[0]}", flush=True)
        for line in lines[1:]:
            print(" " * _COLUMNS + line)


def _number(difference: float) -> str:
    return "0" if difference == 0 else f"{difference:.2g}"
