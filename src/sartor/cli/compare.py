"""`sartor compare`: is one run better than another. Its flags, its call, its printing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from ..console.progress import PlainProgress
from .arguments import (
    JudgedSplitName,
)
from .output import note, print_json


@dataclass(frozen=True, kw_only=True)
class Compare:
    """Compare runs on the same images: is one better, by how much, and is it significant?"""

    runs: Positional[Annotated[tuple[str, ...], arg(metavar="RUN...")]]
    """Two or more runs; the others are compared with the first. A folder that fit --seeds N --out
    made stands for all its runs; recipes are compared by their means over seeds."""
    split: JudgedSplitName = "test"
    """Images to compare on."""
    flips: Annotated[Path | None, arg(metavar="FILE")] = None
    """Draw the images that only one of two runs gets right into this file (.png, .svg or .pdf)."""
    trust: bool = False
    """Run the runs' own Python files, whoever wrote them."""
    json: bool = False
    """Print the result as one line of JSON."""


def compare(given: Compare) -> int:
    """Compare runs; without torch where their predictions are saved."""
    from .. import api
    from .comparing import print_comparison

    comparison = api.compare(
        *given.runs, split=given.split, trust=given.trust, on_event=PlainProgress()
    )
    if given.flips and not any(pair.only_first or pair.only_second for pair in comparison.pairs):
        note("The runs agree on every image: there is nothing to draw.")
    elif given.flips:
        from ..reports.figures import save_figure

        save_figure(comparison.figure(), given.flips)
        note(f"Wrote {given.flips}")
    if given.json:
        print_json(comparison.to_json())
    else:
        print_comparison(comparison)
    return 0
