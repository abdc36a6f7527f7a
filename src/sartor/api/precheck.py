"""What `fit` looks for before its first step: the fast checks, once for each set and split."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..data.dataset import Dataset
from ..data.splits.split import PARTS, Split
from ..errors import FileError
from ..files import make_folder, write_json
from ..home import cache_home
from ..inspection.check.running import run_checks
from ..inspection.check.table import FAST
from .checking import subject_of

_VERSION = 2
"""Changes when the checks would find something else."""
_WORTH_KEEPING_BYTES = 10_000_000
"""Of pixels: smaller sets are checked again just as fast."""
_FILES_NAMED = 100
_SAID = 3

Findings = list[dict[str, Any]]
"""Findings in short, the gravest first, as a run keeps them."""


def check_before(dataset: Dataset, split: Split) -> Findings:
    """The findings of the fast checks.

    They train nothing and rank nothing; of the test part they see which pictures are equal to
    others. What was found in a large set is kept in the cache under the hash of set and split.
    """
    if dataset.images.nbytes < _WORTH_KEEPING_BYTES:
        return _found(dataset, split)
    return _cached(_cache_path(dataset, split), lambda: _found(dataset, split))


def grave_lines(findings: Findings, source: str) -> Iterator[str]:
    """A line for each of the first errors and warnings, and one that says what to do about them."""
    grave = [finding for finding in findings if finding["severity"] != "note"]
    for finding in grave[:_SAID]:
        yield f"{finding['severity']}: {finding['summary']}"
    if grave:
        more = f"{len(grave) - _SAID} more, and what" if len(grave) > _SAID else "What"
        yield f"{more} to do about it: sartor check {shlex.quote(source)}"


def _found(dataset: Dataset, split: Split) -> Findings:
    report = run_checks(subject_of(dataset, split), FAST)
    return [finding.in_short(_FILES_NAMED) for finding in report.findings]


def _cache_path(dataset: Dataset, split: Split) -> Path:
    digest = hashlib.sha256(f"{_VERSION} {dataset.fingerprint}".encode())
    for part in PARTS:
        digest.update(part.encode() + split.part(part).tobytes())
    if dataset.files is not None:
        # The fingerprint knows pixels and no names.
        digest.update("\n".join(dataset.files).encode("utf-8", "surrogateescape"))
    return cache_home() / "checks" / f"{digest.hexdigest()[:32]}.json"


def _cached(path: Path, find: Callable[[], Findings]) -> Findings:
    try:
        found = json.loads(path.read_bytes())
        if isinstance(found, list):
            return found
    except (OSError, ValueError):
        pass
    found = find()
    # Where the cache cannot be written, they are found anew each time.
    with suppress(FileError):
        write_json(make_folder(path.parent) / path.name, found)
    return found
