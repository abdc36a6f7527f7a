"""One input tried: how sartor took it, and whether that is how it should."""

from __future__ import annotations

import faulthandler
import os
import re
import tempfile
import time
import traceback
import warnings
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from fuzz_targets import Target
from fuzz_watch import watched

from sartor.errors import SartorError

MOST_SECONDS = 10.0
"""Processor time of one small input."""
EXIT_CODES = (1, 2)


@dataclass(frozen=True, kw_only=True)
class Tried:
    """What came of one input."""

    taken: bool
    """Whether it was read; else it was refused with a sentence, or there is a fault."""
    fault: str = ""
    """What should not be: a traceback, a file elsewhere, much time; empty where all is well."""


def tried(target: Target, content: bytes, home: Path) -> Tried:
    """Read the content as sartor would.

    Args:
        home: `SARTOR_HOME`, the only other folder in which something may be written.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        begun = time.process_time()
        taken, fault = True, ""
        named = _paths_in(content) if target.lists_paths else ()
        with (
            patch("tempfile.tempdir", str(folder)),
            watched(folder, home, only_read=named) as seen,
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            try:
                target.read(content, folder)
            except SartorError as error:
                taken, fault = False, _fault_of(error)
            except Exception:  # every other kind would be a traceback
                taken, fault = False, traceback.format_exc()
        seconds = time.process_time() - begun
    if seen:
        fault = fault or f"it {seen[0]}"
    if seconds > MOST_SECONDS:
        fault = fault or f"it took {seconds:.0f} s of the processor"
    return Tried(taken=taken, fault=fault)


def _paths_in(content: bytes) -> tuple[Path, ...]:
    """The absolute paths that stand in a list."""
    return tuple(Path(os.fsdecode(one)) for one in re.findall(rb"/[\w./-]+", content))


def _fault_of(error: SartorError) -> str:
    """What is wrong with an error itself."""
    if not error.message.strip():
        return f"{type(error).__name__} has no sentence"
    if not error.hint.strip():
        return f"{type(error).__name__} has no hint: {error.message}"
    if error.exit_code not in EXIT_CODES:
        return f"{type(error).__name__} has the exit code {error.exit_code}"
    if len(error.message) > 20_000:
        return f"{type(error).__name__} says {len(error.message):,} characters"
    return ""


faulthandler.enable()
