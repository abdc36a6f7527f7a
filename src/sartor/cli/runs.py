"""`sartor runs`: list the runs. Its flags, its call, its printing."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from tyro.conf import Positional

from . import tables
from .output import print_json


@dataclass(frozen=True, kw_only=True)
class Runs:
    """List the runs, the newest first."""

    folder: Positional[Path] = Path("runs")
    """Folder with the runs."""
    json: bool = False
    """Print the result as one line of JSON."""


def runs(given: Runs) -> int:
    """List runs."""
    from ..runs.store import run_folders, summarize_run

    summaries = [summarize_run(folder) for folder in run_folders(given.folder)]
    if given.json:
        print_json([asdict(summary) for summary in summaries])
    elif summaries:
        tables.print_runs(summaries)
    else:
        print(f"No runs in {given.folder}. Make one: sartor fit fashion-mnist")
    return 0
